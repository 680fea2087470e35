"""Attention relevance: which patches speak for a class, or for the similarity to another image."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import xarray as xr

from model_zoo.adapter import ModelSpec
from probes.core import targets
from probes.core.base import Probe, one_of
from probes.core.capture import Batch
from probes.core.layers import check_layer, layer_index
from probes.core.relevance import METHODS, relevance, undefined
from probes.core.relevance import vanished as blank_maps

UNITS = {
    "chefer": "relevance",
    "grad-rollout": "share of the readout's row",
    "grad-cam": "gradient × attention",
    "integrated-gradients": "share of the target's value",
    "token-grad-cam": "gradient × activation",
}


@dataclass
class _State:
    spec: ModelSpec
    target: targets.Target | None = None
    maps: dict[int, np.ndarray] = field(default_factory=dict)  # image -> (row, column)
    values: dict[int, float] = field(default_factory=dict)
    classes: dict[int, int] = field(default_factory=dict)
    probabilities: dict[int, np.ndarray] = field(default_factory=dict)  # image -> (class,)
    readout: str = "none"
    vector: str = ""  # of a similarity


@dataclass(frozen=True)
class AttentionRelevance(Probe):
    r"""Which patches speak for a target :math:`y`: a class's logit, or the cosine similarity to another image.

    With :math:`G_l = \partial y / \partial A_l` and the classifier's token as readout row:

    .. math::
        \text{chefer:}\quad & R = \textstyle\prod_l (I + F_l), \; F_l = \operatorname{mean}_h (G_l \odot A_l)^+ \\
        \text{grad-rollout:}\quad & R = \textstyle\prod_l \operatorname{rownorm}(I + F_l), \;
            F_l = (\operatorname{mean}_h G_l \odot A_l)^+ \\
        \text{grad-cam:}\quad & (\operatorname{mean}_h w_h A_{L,h})^+, \; w_h = \operatorname{mean}_p G_{L,h,p}

    ``integrated-gradients`` (from the mean colour, summed over a patch's pixels) and ``token-grad-cam`` (Grad-CAM on
    the tokens that the last block reads) are captum's.

    Args:
        method: ``chefer``, ``grad-rollout``, ``grad-cam``, ``integrated-gradients`` or ``token-grad-cam``.
        target: ``top`` (each image's own most likely class), a class's index or name, ``similarity``, or
            ``top-or-similarity``: the top class, and for a model without a classifier the similarity.
        of: the image to be similar to, a path; only with ``similarity`` and ``top-or-similarity``.
        start: first layer taken into account, by chefer and grad-rollout: an index from 0, ``last``, or a relative
            depth from 0.0 to 1.0, see `probes.core.layers`.
        steps: points on the path of integrated gradients.
        pool: what stands for an image in a similarity: ``head`` (what the classifier reads, or what timm pools),
            ``cls``, ``mean`` (over the patch tokens), or ``card`` (of these the one that stands for an image in this
            model, see `probes.core.targets.vector`).

    Returns:
        ``relevance`` (image, y, x): 0 or more, in units of its own, comparable between methods by rank only;
        integrated gradients are signed and sum to the target's value minus its value for the mean colour. NaN where
        the method gives one and the same value everywhere, e.g. nothing positive; ``vanished`` (image) says so.
        ``target_value``, ``target_class`` and ``target_name`` (image): what was explained; class −1 is a similarity.
        ``target_probability`` (image), and ``top_class``, ``top_probability`` and ``top_name`` (image, rank), its
        five likeliest classes or fewer: absent for a similarity.
        The attribute ``readout`` names the row: ``cls``, ``cls+dist``, ``pool`` (SigLIP's query) or ``mean`` over the
        patches where the model averages them; then the part that stayed in place through the residuals is left out.
        Of a similarity the attribute ``vector`` names in the same words what stood for the images.

    Note:
        A logit is explained, not a probability: what speaks for every class alike is in it. Positive parts are kept, so
        evidence against the class is not shown. Methods disagree; see the sanity checks before trusting one.

    Reference:
        Chefer et al. 2021, arXiv:2103.15679; Abnar & Zuidema 2020, arXiv:2005.00928; Selvaraju et al. 2017,
        arXiv:1610.02391; Sundararajan et al. 2017, arXiv:1703.01365.
    """

    method: str = "chefer"
    target: str = "top"
    of: targets.Of | None = None
    start: int | str = 0
    steps: int = 32
    pool: str = "head"
    title: ClassVar[str] = "Class-specific relevance"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})
    per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        targets.check(self.target, self.of, self.pool)
        check_layer(str(self.start), "start")
        if str(self.start) != "0" and self.method not in ("chefer", "grad-rollout"):
            raise ValueError(f"start={self.start} has no meaning for {self.method}; leave it at 0.")
        if not 2 <= self.steps <= 1024:
            raise ValueError(f"steps is {self.steps}; it must be from 2 to 1024.")

    def undefined(self, spec: ModelSpec) -> str | None:
        """No attention of the needed kind, no such layer, no classifier or no such class."""
        return undefined(spec, self.method, self._first(spec)) or targets.undefined(spec, self.target)

    def _first(self, spec: ModelSpec) -> int:
        return layer_index(str(self.start), len(spec.layers))

    @property
    def autocasts(self) -> bool:
        """Gradients are taken in the model's own type."""
        return False

    def init(self, spec: ModelSpec) -> _State:
        """No maps yet."""
        return _State(spec)

    def update(self, state: _State, seen: Batch) -> _State:
        """Explain a batch."""
        if state.target is None:
            state.target = targets.resolve(seen.adapter, self.target, self.of, self.pool)
        start = self._first(state.spec)
        found = relevance(seen.adapter, seen.inputs, self.method, state.target, start=start, steps=self.steps)
        maps = found.maps.detach().cpu().numpy()
        for i, image in enumerate(seen.images):
            state.maps[image] = maps[i]
            state.values[image], state.classes[image] = float(found.score.values[i]), int(found.score.classes[i])
            if found.score.logits is not None:
                state.probabilities[image] = found.score.logits[i].double().softmax(-1).cpu().numpy()
        state.readout = found.readout
        state.vector = state.target.readout(seen.adapter) if state.target.reference is not None else ""
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Maps of both."""
        first = a if a.maps else b
        return _State(
            a.spec,
            a.target or b.target,
            a.maps | b.maps,
            a.values | b.values,
            a.classes | b.classes,
            a.probabilities | b.probabilities,
            first.readout,
            first.vector,
        )

    def compute(self, state: _State) -> xr.Dataset:
        """Stack the maps; one that is the same everywhere becomes NaN."""
        images = sorted(state.maps)
        maps = np.stack([state.maps[i] for i in images])
        classes = np.array([state.classes[i] for i in images])
        values = np.array([state.values[i] for i in images])
        target = targets.meant(state.spec, self.target)
        vanished = blank_maps(maps, self.method, values if target == "similarity" else None)
        maps[vanished] = np.nan
        names = [_name(state.spec, index) for index in classes]
        units = "cosine similarity" if target == "similarity" else "logit"
        result = xr.Dataset(
            {
                "relevance": (("image", "y", "x"), maps, {"units": UNITS[self.method], "long_name": "relevance"}),
                "vanished": ("image", vanished, {"units": "yes or no", "long_name": "the method gives no map"}),
                "target_value": ("image", values, {"units": units}),
                "target_class": ("image", classes, {"units": "index"}),
            },
            coords={"image": images, "target_name": ("image", names)},
            attrs={
                "method": self.method,
                "target": target,
                "start": self._first(state.spec),
                "readout": state.readout,
                **({"vector": state.vector} if state.vector else {}),
            },
        )
        return result.assign(_likeliest(state, images)) if state.probabilities else result


def _likeliest(state: _State, images: list[int]) -> xr.Dataset:
    """Probabilities of the class explained and of the likeliest classes."""
    probabilities = np.stack([state.probabilities[i] for i in images])
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    names = [[_name(state.spec, index) for index in row] for row in top]
    chosen = np.array([[state.classes[i]] for i in images])
    return xr.Dataset(
        {
            "target_probability": (
                "image",
                np.take_along_axis(probabilities, chosen, 1)[:, 0],
                {"units": "probability"},
            ),
            "top_class": (("image", "rank"), top, {"units": "index"}),
            "top_probability": (("image", "rank"), np.take_along_axis(probabilities, top, 1), {"units": "probability"}),
        },
        coords={"top_name": (("image", "rank"), names)},
    )


def _name(spec: ModelSpec, index: int) -> str:
    if index < 0:
        return "similarity"
    return spec.labels[index] if spec.labels else f"class {index}"
