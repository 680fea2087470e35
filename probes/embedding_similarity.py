"""Embedding similarity: which images a model finds alike, layer by layer."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import xarray as xr

from model_zoo.adapter import ModelSpec
from probes.core.base import Probe, one_of
from probes.core.capture import Tokens
from probes.core.layers import check_layers, layer_indices
from probes.core.stacking import stack


@dataclass
class _State:
    spec: ModelSpec
    vectors: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)  # (image, point) -> (feature,)
    used: dict[str, str] = field(default_factory=dict)  # point -> cls, mean or logits


@dataclass(frozen=True)
class EmbeddingSimilarity(Probe):
    r"""Cosine similarity between the embeddings of every two images.

    .. math:: s_{ab} = \frac{z_a \cdot z_b}{\lVert z_a\rVert\,\lVert z_b\rVert}

    with :math:`z` one vector for an image after each block, and after the final norm where the model has one.

    Args:
        pool: ``cls`` (the class token), ``mean`` (over the patch tokens), ``card`` (of the two the one that stands for
            an image in this model, ``ModelSpec.features``) or ``logits`` (the classifier's output, a single layer).
            Where a layer has no class token, ``cls`` is answered by the mean; ``pool_used`` says so.
        layers: ``all``, or separated by commas: indices over the blocks and then the final norm, ``last``, or relative
            depths over the blocks, of which 1.0 is ``last``, see `probes.core.layers`.

    Returns:
        ``similarity`` (layer, image, image_b): −1 to 1, NaN for a vector of length 0. ``embedding`` (layer, image,
        feature): the vectors themselves, NaN beyond ``feature_count`` where layers differ in width.

    Note:
        Token vectors often share a large common part, so that all similarities are high: compare them within a model
        and by their order, not by their level between models. Nothing here says what two images have in common.

    Reference:
        Caron et al. 2021, arXiv:2104.14294 (nearest neighbours by cosine).
    """

    pool: str = "cls"
    layers: str = "all"
    title: ClassVar[str] = "Embedding similarity"
    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def __post_init__(self) -> None:
        one_of("pool", self.pool, ("cls", "mean", "card", "logits"))
        check_layers(self.layers)

    def undefined(self, spec: ModelSpec) -> str | None:
        """Logits without a classifier, layers that there are not."""
        every = self._every(spec)
        if not every:
            return "this model has no classifier, so no logits" if self.pool == "logits" else _unread(spec)
        beyond = [index for index in self._indices(spec) if index >= len(every)]
        if beyond:
            return f"this model has {len(every)} layers here, from 0: there is no layer {beyond[0]}"
        return None

    def _every(self, spec: ModelSpec) -> list[str]:
        if self.pool == "logits":
            return [p for p in spec.points if p == "logits"]
        return [p for p in spec.points if p.startswith("resid_post.") or p == "norm"]

    def _indices(self, spec: ModelSpec) -> list[int]:
        every = self._every(spec)
        return layer_indices(self.layers, len(every) - ("norm" in every), int("norm" in every))

    def taps(self, spec: ModelSpec) -> tuple[str, ...]:
        """The chosen layers' outputs."""
        every = self._every(spec)
        return tuple(every[index] for index in self._indices(spec))

    def init(self, spec: ModelSpec) -> _State:
        """No vectors yet."""
        return _State(spec)

    def update(self, state: _State, seen: Tokens) -> _State:
        """Pool the tokens of every image to one vector."""
        pool = state.spec.features if self.pool == "card" else self.pool
        if pool == "logits":
            used, vectors = "logits", seen.values[:, 0]
        elif pool == "cls" and seen.prefix and "cls" in state.spec.prefix:
            used, vectors = "cls", seen.values[:, state.spec.prefix.index("cls")]
        else:
            used, vectors = "mean", seen.patches.double().mean(1)
        state.used[seen.point] = used
        for image, vector in zip(seen.images, vectors.float().cpu().numpy(), strict=True):
            state.vectors[image, seen.point] = vector.copy()
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Vectors of both."""
        return _State(a.spec, a.vectors | b.vectors, a.used | b.used)

    def compute(self, state: _State) -> xr.Dataset:
        """Stack the vectors and compare every two."""
        points = self.taps(state.spec)
        images = sorted({image for image, _ in state.vectors})
        widths = [max((len(v) for (_, p), v in state.vectors.items() if p == point), default=0) for point in points]
        embedding = stack(state.vectors, (images, points), (max(widths, default=0),)).swapaxes(0, 1)
        similarity = np.full((len(points), len(images), len(images)), np.nan, np.float32)
        for layer, width in enumerate(widths):
            similarity[layer] = cosine(embedding[layer, :, :width])
        return xr.Dataset(
            {
                "similarity": (("layer", "image", "image_b"), similarity, {"units": "cosine similarity"}),
                "embedding": (("layer", "image", "feature"), embedding, {"units": "activation"}),
            },
            coords={
                "layer": self._indices(state.spec),
                "image": images,
                "image_b": images,
                "point": ("layer", list(points)),
                "pool_used": ("layer", [state.used.get(p, self.pool) for p in points]),
                "feature_count": ("layer", widths),
            },
            attrs={"pool": self.pool, "n": len(images)},
        )


def cosine(vectors: np.ndarray) -> np.ndarray:
    """Cosine similarity of every two rows of (n, features): (n, n), computed in float64; NaN for rows of length 0."""
    wide = vectors.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.divide(wide, length, out=np.full_like(wide, np.nan), where=length > 0)
    return np.clip(unit @ unit.T, -1, 1)


def _unread(spec: ModelSpec) -> str:
    return "the blocks of this model are not known here, so no layer can be read"
