"""CKA: how alike two layers represent the same images, within a model and between two."""

from dataclasses import dataclass, field
from functools import partial
from math import gcd
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model_zoo.adapter import Adapter, ModelSpec
from probes.core.base import PairProbe, one_of
from probes.core.capture import Tokens
from probes.core.hsic import Sums, gram, ratio_of, u_centred, u_centred_gram
from probes.core.memory import token_shape

FEWEST = 4
KINDS = {"blocks": ("resid_post",), "all": ("embed", "attn_out", "mlp_out", "resid_post")}


@dataclass
class _State:
    spec: ModelSpec
    sums: Sums = field(default_factory=Sums)
    latest: range = range(0)
    features: dict[tuple[int, str], dict[int, Tensor]] = field(default_factory=dict)  # (minibatch, point), image
    grams: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)  # minibatch, point
    fresh: dict[int, np.ndarray] = field(default_factory=dict)  # closed since the latest batch began: (point, n, n)


@dataclass(frozen=True)
class CKA(PairProbe):
    r"""Linear centred kernel alignment, minibatch form with the unbiased HSIC.

    .. math::
        \mathrm{HSIC}_1 = \frac{1}{n(n-3)}\Bigl[\mathrm{tr}(KL) + \frac{(1^\top K 1)(1^\top L 1)}{(n-1)(n-2)}
        - \frac{2}{n-2} 1^\top K L 1\Bigr], \qquad
        \mathrm{CKA} = \frac{\sum \mathrm{HSIC}_1(K,L)}{\sqrt{\sum \mathrm{HSIC}_1(K,K) \sum \mathrm{HSIC}_1(L,L)}}

    with :math:`K = XX^\top`, :math:`L = YY^\top` over the n images of a minibatch, diagonals set to zero, and sums over
    minibatches. Computed as inner products of U-centred Gram matrices, which is the same number. What is kept does not
    grow with the number of images; the features of one unfinished minibatch are.

    Args:
        representation: ``tokens`` (every token of an image, prefix tokens too, as one long vector), ``cls``,
            ``mean`` (over patch tokens), or ``card``: of the last two the one that stands for an image in each model,
            ``ModelSpec.features``. Where CLS joins after the blocks (CaiT) that is the mean, too. ``used_a`` and
            ``used_b`` of the attributes say what was taken.
        points: ``blocks`` (block outputs) or ``all`` (also what enters the first block, and what every attention and
            MLP puts out, before it is added to the residual stream).
        minibatch: images of a minibatch, in the order of the run whatever the size of the forward passes. A last one
            with fewer counts as it is; with fewer than 4 it is left out, and ``attrs["dropped"]`` says how many.

    Returns:
        ``cka`` (layer_a, layer_b): 0 to 1 up to the noise of the estimate, which can carry it a little outside; NaN
        where a layer gives every image the same. ``cka_sd``: standard deviation of the CKA of single minibatches.

    Note:
        Invariant to rotation and to one scale of all features, so blind to which features they are; dominated by the
        directions of largest variance, and by few outlying images. High CKA is not the same function.

    Reference:
        Kornblith et al. 2019, arXiv:1905.00414; Nguyen et al. 2021, arXiv:2010.15327.
    """

    representation: str = "tokens"
    points: str = "blocks"
    minibatch: int = 32
    title: ClassVar[str] = "CKA"
    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def __post_init__(self) -> None:
        one_of("representation", self.representation, ("tokens", "cls", "mean", "card"))
        one_of("points", self.points, tuple(KINDS))
        if not FEWEST <= self.minibatch <= 4096:
            raise ValueError(f"minibatch is {self.minibatch!r}; it must be from {FEWEST} to 4096 images.")

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models whose blocks are not known, and CLS where there is none."""
        if not self.taps(spec):
            return "the blocks of this model are not known here, so no layer can be read"
        if self.representation == "cls" and not _has_cls(spec):
            return "this model has no class token in its blocks; choose tokens or mean"
        return None

    def taps(self, spec: ModelSpec) -> tuple[str, ...]:
        """The points in the order in which they are computed."""
        rank = {kind: i for i, kind in enumerate(KINDS["all"])}
        chosen = [point.partition(".") for point in spec.points if point.partition(".")[0] in KINDS[self.points]]
        ordered = sorted(chosen, key=lambda p: (int(p[2]) if p[2] else -1, rank[p[0]]))
        return tuple("".join(parts) for parts in ordered)

    def held_bytes(self, adapter: Adapter, images: int, batch: int) -> int:
        """The features of the images that a forward pass leaves of a minibatch, at all points."""
        left = min(self.minibatch - gcd(self.minibatch, batch), images)
        shapes = [token_shape(adapter, point) for point in self.taps(adapter.spec)]
        whole = self._used(adapter.spec) == "tokens"
        return 4 * left * sum(tokens * channels if whole else channels for tokens, channels in shapes)

    def init(self, spec: ModelSpec) -> _State:
        """Nothing seen."""
        return _State(spec)

    def update(self, state: _State, seen: Tokens) -> _State:
        """Hold a point's features until their minibatch is complete, then keep its Gram matrix."""
        if seen.images != state.latest:
            state.latest, state.fresh = seen.images, {}
        vectors, point = self._represent(state.spec, seen), seen.point
        numbers = sorted({image // self.minibatch for image in seen.images})
        if any(len(state.features.get((n, point), {})) + self._share(n, seen.images) < self.minibatch for n in numbers):
            vectors = vectors.clone()  # the model may write over its activations before the rest comes
        parts = dict(zip(seen.images, vectors.unbind(), strict=True))
        for number in numbers:
            held = state.features.setdefault((number, point), {})
            held |= {image: vector for image, vector in parts.items() if image // self.minibatch == number}
            if len(held) == self.minibatch:
                seen.send(gram(state.features.pop((number, point))), partial(self._add, state, number, point))
        return state

    def _share(self, number: int, images: range) -> int:
        """How many of the images are of a minibatch."""
        return sum(image // self.minibatch == number for image in images)

    def _represent(self, spec: ModelSpec, seen: Tokens) -> Tensor:
        used = self._used(spec)
        if used == "cls":
            vectors = seen.values[:, spec.prefix.index("cls")]
        else:
            vectors = seen.patches if used == "mean" else seen.values
        vectors = vectors if vectors.dtype == torch.float64 else vectors.float()
        return vectors.mean(1) if used == "mean" else vectors.flatten(1)

    def _used(self, spec: ModelSpec) -> str:
        """What is read of a model: ``tokens``, ``cls`` or ``mean``."""
        if self.representation != "card":
            return self.representation
        return "cls" if spec.features == "cls" and _has_cls(spec) else "mean"

    def _add(self, state: _State, number: int, point: str, values: np.ndarray) -> None:
        state.grams.setdefault(number, {})[point] = u_centred(values)
        self._close(state)

    def _close(self, state: _State) -> _State:
        """Turn complete minibatches into sums."""
        points = self.taps(state.spec)
        for number in [n for n, grams in state.grams.items() if len(grams) == len(points)]:
            grams = state.grams.pop(number)
            state.fresh[number] = np.stack([grams[point] for point in points])
            state.sums = state.sums + Sums.of(state.fresh[number], state.fresh[number])
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Add the sums; minibatches that were spread over both are completed."""
        features = {k: a.features.get(k, {}) | b.features.get(k, {}) for k in a.features | b.features}
        grams = {n: a.grams.get(n, {}) | b.grams.get(n, {}) for n in a.grams | b.grams}
        for number, point in [key for key, held in features.items() if len(held) == self.minibatch]:
            grams.setdefault(number, {})[point] = u_centred_gram(features.pop((number, point)))
        return self._close(_State(a.spec, a.sums + b.sums, features=features, grams=grams))

    def _rest(self, state: _State) -> dict[int, np.ndarray]:
        """Gram matrices of minibatches that stay incomplete but are large enough."""
        points, found = self.taps(state.spec), {}
        for number in {number for number, _ in state.features}:
            sets = [state.features.get((number, point), {}) for point in points]
            if all(len(held) >= FEWEST for held in sets):
                found[number] = np.stack([u_centred_gram(held) for held in sets])
        return found

    def compute(self, state: _State) -> xr.Dataset:
        """CKA of every two layers of the model."""
        sums = sum((Sums.of(g, g) for g in self._rest(state).values()), state.sums)
        return self._dataset(sums, _held(state), state.spec, state.spec)

    def init_pair(self, a: _State, b: _State) -> Sums:
        """Nothing compared."""
        return Sums()

    def update_pair(self, pair: Sums, a: _State, b: _State) -> Sums:
        """Compare the minibatches that the latest batch completed."""
        return sum((Sums.of(a.fresh[n], b.fresh[n]) for n in a.fresh.keys() & b.fresh.keys()), pair)

    def merge_pair(self, x: Sums, y: Sums) -> Sums:
        """Add the sums."""
        return x + y

    def compute_pair(self, pair: Sums, a: _State, b: _State) -> xr.Dataset:
        """CKA of every layer of one model with every layer of the other."""
        left, right = self._rest(a), self._rest(b)
        sums = sum((Sums.of(left[n], right[n]) for n in left.keys() & right.keys()), pair)
        return self._dataset(sums, _held(a), a.spec, b.spec)

    def _dataset(self, sums: Sums, held: int, a: ModelSpec, b: ModelSpec) -> xr.Dataset:
        points_a, points_b = self.taps(a), self.taps(b)
        if not sums.minibatches:
            return xr.Dataset(attrs={"undefined": f"CKA needs at least {FEWEST} images, and {held} came"})
        constant = sorted({p for p, own in zip(points_a, sums.own_a, strict=True) if own == 0}
                          | {p for p, own in zip(points_b, sums.own_b, strict=True) if own == 0})  # fmt: skip
        values = ratio_of(sums.cross, sums.own_a, sums.own_b)
        if not np.isfinite(values).any():
            return xr.Dataset(attrs={"undefined": "every layer gives all images the same, so CKA divides by zero"})
        attrs: dict[str, Any] = {
            "n": sums.images,
            "minibatches": sums.minibatches,
            "dropped": max(held - sums.images, 0),
        }
        attrs |= {"representation": self.representation, "constant": constant}
        attrs |= {"used_a": self._used(a), "used_b": self._used(b)}
        layers = ("layer_a", "layer_b")
        return xr.Dataset(
            {
                "cka": (layers, values, {"units": "1", "long_name": "CKA"}),
                "cka_sd": (layers, sums.single.deviation(), {"units": "1"}),
            },
            coords={
                "layer_a": range(len(points_a)),
                "layer_b": range(len(points_b)),
                "point_a": ("layer_a", list(points_a)),
                "point_b": ("layer_b", list(points_b)),
            },
            attrs=attrs,
        )


def _has_cls(spec: ModelSpec) -> bool:
    """Whether the blocks' outputs have a class token."""
    return "cls" in spec.prefix and bool(spec.layers and spec.layers[0].prefix)


def _held(state: _State) -> int:
    """Images seen: those of complete minibatches and those still held."""
    return state.sums.images + len({image for held in state.features.values() for image in held})
