"""Saliency score: how well a model's map picks out the object, and how much its answer depends on what is picked."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import xarray as xr

from model_zoo.adapter import ModelSpec
from probes.core import targets
from probes.core.base import Probe, one_of
from probes.core.capture import Batch
from probes.core.perturbation import FILLS, curves, random_orders
from probes.core.relevance import METHODS
from probes.core.saliency import MAPS, baselines, coverage, maps_of, overlap, trapezoid, undefined

RANDOM_ORDERS = 2
SEED = 0
OVERLAP = ("iou", "pointing", "mass_inside")
BASELINES = ("uniform", "centre")
CURVES = ("deletion", "insertion")


@dataclass
class _State:
    spec: ModelSpec
    target: targets.Target | None = None
    numbers: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)  # image -> name -> (map, ...)
    vector: str = ""  # what the curves compare, where they follow a similarity


@dataclass(frozen=True)
class SaliencyScore(Probe):
    r"""How well a map picks out the object, so that "more salient" is a number.

    .. math::
        \text{IoU} = \frac{|M_\tau \cap O|}{|M_\tau \cup O|}, \quad
        \text{mass inside} = \sum_p \hat m_p c_p, \quad
        \text{AUC} = \int_0^1 y(\text{a share } s \text{ of the patches removed, or shown})\,ds

    with :math:`M_\tau` the fewest patches that hold the share τ of the map's mass, :math:`O` the object's true mask in
    pixels within the model's crop, and :math:`c_p` the part of patch p that it covers.

    Args:
        map: ``heads`` (every head of the last attention layer), ``mean`` (over these heads), ``rollout``, or a method
            of attention-relevance.
        tau: share of the mass, above 0 and at most 1.
        target: whose answer the curves follow, and what relevance explains: ``top``, a class, ``similarity``, or
            ``top-or-similarity``, which is the latter for a model without a classifier.
        of: the image to be similar to; only with ``similarity`` and ``top-or-similarity``.
        head: with ``heads``, the one head that is scored, from 0; None for all.
        steps: points of the deletion and insertion curves after the first; 0 for no curves. An image takes
            `curve_passes` forward passes.
        fill: what stands where a patch is missing: the ``blur`` red image or its ``mean`` colour.
        pool: what stands for an image in a similarity: ``head`` (what the classifier reads, or what timm pools),
            ``cls``, ``mean`` (over the patch tokens), or ``card`` (of these the one that stands for an image in this
            model, see `probes.core.targets.vector`).

    Returns:
        (image, head), or (image) for one map an image; 0 to 1, NaN without a true mask:
        ``iou``; ``pointing`` (1 if the highest patch's centre lies on the object); ``mass_inside``. Chance levels:
        ``area`` (image), the object's share of the crop, is what an even map's ``mass_inside`` would be, and
        ``uniform_*`` and ``centre_*`` (image) are the three numbers of uniform attention and of a Gaussian in the
        middle of the input (`probes.core.saliency.baselines`).
        ``deletion_auc`` (low is good) and ``insertion_auc`` (high is good), with ``deletion`` and ``insertion`` over
        ``fraction``, and ``*_random_auc`` (image), the mean of two random orders, the same for both: insertion takes
        an order from its end, which gives deletion's pictures. They follow the probability of the class; of models
        without a classifier the cosine to the intact image's embedding (attributes ``curve_of`` and ``vector``).
        ``rank`` (head): 1 is the head with the highest mean IoU.

    Note:
        A high IoU says where the mass lies, not that the model needs it. The best head chosen on the very images it is
        scored on is flattered: a random network's best head is, too, and is the baseline to hold it against. Images
        with removed patches are unlike any the model was trained on.

    Reference:
        Caron et al. 2021, arXiv:2104.14294 (mass mask); Zhang et al. 2018, arXiv:1608.00507 (pointing); Petsiuk et al.
        2018, arXiv:1806.07421 (deletion, insertion).
    """

    map: str = "heads"
    tau: float = 0.6
    target: str = "top"
    of: targets.Of | None = None
    steps: int = 8
    fill: str = "blur"
    pool: str = "head"
    head: int | None = None
    title: ClassVar[str] = "Saliency score"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})

    def __post_init__(self) -> None:
        one_of("map", self.map, MAPS)
        one_of("fill", self.fill, FILLS)
        targets.check(self.target, self.of, self.pool)
        if self.head is not None and (self.map != "heads" or self.head < 0):
            raise ValueError(f"head is {self.head} with the map {self.map}; a head from 0 goes with map=heads.")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau is {self.tau}; it must be above 0 and at most 1.")
        if self.steps != 0 and not 2 <= self.steps <= 256:
            raise ValueError(f"steps is {self.steps}; it must be 0 for no curves, or from 2 to 256.")

    def undefined(self, spec: ModelSpec) -> str | None:
        """No such map, or no such target; a model without a classifier needs none for attention's own maps."""
        reason = undefined(spec, self.map)
        if reason is None and (self.map in METHODS or self.target != "top"):
            reason = targets.undefined(spec, self.target)
        return reason

    @property
    def autocasts(self) -> bool:
        """All but a gradient's map: attention's own maps, and the passes behind the curves."""
        return self.map not in METHODS or self.steps > 0

    def init(self, spec: ModelSpec) -> _State:
        """Nothing scored."""
        return _State(spec)

    def update(self, state: _State, seen: Batch) -> _State:
        """Score a batch."""
        if state.target is None:
            resolvable = self.target != "top" or state.spec.classes
            state.target = (
                targets.resolve(seen.adapter, self.target, self.of, self.pool)
                if resolvable
                else targets.Target(pool=targets.vector(seen.adapter, self.pool))
            )
            if state.target.reference is not None or not state.spec.classes:
                state.vector = state.target.readout(seen.adapter)
        maps = maps_of(seen, self.map, state.target)
        if self.head is not None:
            if self.head >= maps.shape[1]:
                raise ValueError(f"head is {self.head}; the last layer has the heads 0 to {maps.shape[1] - 1}.")
            maps = maps[:, [self.head]]
        for i, image in enumerate(seen.images):
            state.numbers[image] = self._overlap(maps[i], seen, i)
        if self.steps:
            self._curves(state, maps, seen)
        return state

    def _overlap(self, maps: np.ndarray, seen: Batch, i: int) -> dict[str, np.ndarray]:
        given = seen.masks[i] if len(seen.masks) else None
        if given is None:
            unknown = ("area", *(f"{of}_{name}" for of in BASELINES for name in OVERLAP))
            return {name: np.full(len(maps), np.nan) for name in OVERLAP} | dict.fromkeys(unknown, np.array(np.nan))
        mask = np.asarray(given(), dtype=bool)
        geometry = seen.adapter.geometry(seen.originals[i].size)
        covered = coverage(mask, geometry, maps.shape[1:])
        scores = [overlap(values, mask, geometry, self.tau, covered) for values in maps]
        chance = baselines(mask, geometry, covered, self.tau)
        return (
            {name: np.array([getattr(s, name) for s in scores]) for name in OVERLAP}
            | {f"{of}_{name}": np.array(getattr(chance[of], name)) for of in BASELINES for name in OVERLAP}
            | {"area": np.array(covered.mean())}
        )

    def _curves(self, state: _State, maps: np.ndarray, seen: Batch) -> None:
        assert state.target is not None
        orders = random_orders(seen, maps.shape[2] * maps.shape[3], RANDOM_ORDERS, SEED)
        deletion, insertion, chance = curves(seen, maps, orders, state.target, steps=self.steps, fill=self.fill)
        for i, image in enumerate(seen.images):
            for name, values in zip(CURVES, (deletion[i], insertion[i]), strict=True):
                state.numbers[image][name] = values
                state.numbers[image][f"{name}_auc"] = trapezoid(values)
                state.numbers[image][f"{name}_random_auc"] = trapezoid(chance[i]).mean()

    def merge(self, a: _State, b: _State) -> _State:
        """Scores of both."""
        return _State(a.spec, a.target or b.target, a.numbers | b.numbers, a.vector or b.vector)

    def compute(self, state: _State) -> xr.Dataset:
        """Stack the scores and rank the heads."""
        images = sorted(state.numbers)
        several = self.map == "heads" and self.head is None
        units = {"pointing": "hit or miss"} | dict.fromkeys(
            ("deletion_auc", "insertion_auc", *CURVES), _curve_of(self, state)
        )
        variables: dict[str, tuple[object, np.ndarray, dict[str, str]]] = {}
        for name in state.numbers[images[0]]:
            values = np.stack([state.numbers[i][name] for i in images])
            if values.ndim > 1 and not several:
                values = values[:, 0]
            dims = (
                "image",
                *(("head",) if several and values.ndim > 1 else ()),
                *(("fraction",) if name in CURVES else ()),
            )
            variables[name] = (dims, values, {"units": units.get(name, "fraction")})
        coordinates: dict[str, object] = {"image": images}
        if self.steps:
            coordinates["fraction"] = np.arange(self.steps + 1) / self.steps
        if several:
            heads = variables["iou"][1].shape[1]
            coordinates["head"] = np.arange(heads)
            variables["rank"] = ("head", _ranks(variables["iou"][1]), {"units": "1 is best"})
        masks = int(np.isfinite(variables["area"][1]).sum())
        attrs: dict[str, object] = {
            "map": self.map,
            "tau": self.tau,
            "fill": self.fill,
            "masks": masks,
            "n": len(images),
        }
        attrs |= {"curve_of": _curve_of(self, state)} | ({"vector": state.vector} if state.vector else {})
        return xr.Dataset(variables, coords=coordinates, attrs=attrs)


def curve_passes(steps: int) -> int:
    """Forward passes an image that the curves of one map take, with the random orders and the map itself."""
    return (steps - 1) * (len(CURVES) + RANDOM_ORDERS) + 3


def _curve_of(probe: SaliencyScore, state: _State) -> str:
    if targets.meant(state.spec, probe.target) == "similarity":
        return "cosine similarity to the other image"
    return "probability of the class" if state.spec.classes else "cosine similarity to the intact image"


def _ranks(iou: np.ndarray) -> np.ndarray:
    """Rank of every head by its mean over images, best first; NaN without masks."""
    known = np.isfinite(iou).all(1)
    if not known.any():
        return np.full(iou.shape[1], np.nan)
    from scipy.stats import rankdata

    return rankdata(-iou[known].mean(0), method="ordinal").astype(float)
