"""Logit lens: what every layer's tokens would be classified as, over the image."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from model_zoo.adapter import Adapter, ModelSpec
from probes.core.base import Probe
from probes.core.capture import Tokens, Weights
from probes.core.memory import token_shape
from probes.core.stacking import stack

AT_ONCE = 2**24
"""Numbers that the classifier gives at once, tokens by classes."""


@dataclass
class _State:
    spec: ModelSpec
    head: "_Head | None" = None
    grids: dict[str, tuple[int, int]] = field(default_factory=dict)
    found: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)  # (image, point) -> (2, token, rank)
    prefix: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LogitLens(Probe):
    r"""Every layer's tokens through the final norm and the classifier, each by itself.

    .. math:: p_{l,i} = \mathrm{softmax}\bigl(W\,\mathrm{norm}(x_{l,i}) + b\bigr)

    A distilled model's two classifiers are averaged: on a patch both read the patch, for the class token one reads it
    and the other the distillation token, as for the model's own prediction.

    Args:
        ranks: how many classes to keep for every token, most probable first.

    Returns:
        ``top_class`` (image, layer, y, x, rank): index of the class, −1 where the layer's width is not the
        classifier's. ``probability`` (image, layer, y, x, rank): 0 to 1, NaN there. ``cls_class``, ``cls_probability``
        (image, layer, rank): the same for the class token, where the blocks have one. Names of the classes that occur
        are in ``attrs["class_names"]`` as ``index name``, where they are known. With the final layer's class token
        they are the model's own prediction, if that is what its classifier reads.

    Note:
        The classifier was trained on one vector at the end: what it says of other tokens and layers was never asked
        of it in training, and early layers may hold the class in a form that it cannot read. A confident answer is
        no proof that the layer knows, and a flat one none that it does not. A patch's answer is not a segmentation.

    Reference:
        nostalgebraist 2020, "interpreting GPT: the logit lens"; Vilas et al. 2023, arXiv:2310.18969 (in vision).
    """

    ranks: int = 5
    title: ClassVar[str] = "Logit lens"
    reads: ClassVar[frozenset[str]] = frozenset({"weights", "tokens"})
    per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 <= self.ranks <= 100:
            raise ValueError(f"ranks is {self.ranks!r}; it must be from 1 to 100.")

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models without a classifier."""
        if not spec.classes:
            return "this model has no classifier, so its tokens cannot be classified"
        return None if self.taps(spec) else "the blocks of this model are not known here, so no layer can be read"

    def taps(self, spec: ModelSpec) -> tuple[str, ...]:
        """Every block's output."""
        return tuple(point for point in spec.points if point.startswith("resid_post."))

    def held_bytes(self, adapter: Adapter, images: int, batch: int) -> int:
        """Classes and probabilities of every token of all images."""
        tokens = sum(token_shape(adapter, point)[0] for point in self.taps(adapter.spec))
        return 4 * 2 * images * tokens * min(self.ranks, adapter.spec.classes)

    def init(self, spec: ModelSpec) -> _State:
        """Nothing seen."""
        return _State(spec)

    def update(self, state: _State, seen: Weights | Tokens) -> _State:
        """Take the classifier, then classify the tokens of every layer."""
        if isinstance(seen, Weights):
            state.head = _Head.of(seen.adapter.module)
            return state
        head = state.head
        state.grids[seen.point], state.prefix[seen.point] = seen.grid, seen.prefix
        if head is None or seen.values.shape[-1] != head.width:
            return state
        with torch.autocast(seen.values.device.type, enabled=False):
            pairs = head.top(seen.values, self.ranks).cpu().numpy()
        state.found |= {(image, seen.point): pair for image, pair in zip(seen.images, pairs, strict=True)}
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Images of both."""
        return _State(a.spec, a.head or b.head, a.grids | b.grids, a.found | b.found, a.prefix | b.prefix)

    def compute(self, state: _State) -> xr.Dataset:
        """Lay the classes out over layers and patches, padded to the largest grid."""
        points = self.taps(state.spec)
        if state.head is None or (state.grids and not state.found):
            return xr.Dataset(attrs={"undefined": "the classifier of this model does not read single tokens"})
        images = sorted({image for image, _ in state.found})
        ranks = min(self.ranks, state.spec.classes)
        height, width = (max((grid[i] for grid in state.grids.values()), default=0) for i in (0, 1))
        patches, special = {}, {}
        for (image, point), pairs in state.found.items():
            prefix = state.prefix[point]
            for row, pair in enumerate(pairs):
                patches[row, image, point] = pair[prefix:].reshape(*state.grids[point], ranks)
                if prefix and "cls" in state.spec.prefix:
                    special[row, image, point] = pair[state.spec.prefix.index("cls")]
        axes = range(2), images, points
        values = stack(patches, axes, (height, width, ranks), dtype=np.float64)
        cls = stack(special, axes, (ranks,), dtype=np.float64)
        values[0], cls[0] = np.nan_to_num(values[0], nan=-1), np.nan_to_num(cls[0], nan=-1)
        dims, labels = ("image", "layer", "y", "x", "rank"), state.spec.labels
        occurring = sorted({int(c) for c in np.unique(values[0])} | {int(c) for c in np.unique(cls[0])})
        names = [f"{c} {labels[c]}" for c in occurring if c >= 0 and labels]
        index, probability = {"units": "index of the class"}, {"units": "probability"}
        return xr.Dataset(
            {
                "top_class": (dims, values[0].astype(np.int32), index),
                "probability": (dims, values[1].astype(np.float32), probability),
                "cls_class": (("image", "layer", "rank"), cls[0].astype(np.int32), index),
                "cls_probability": (("image", "layer", "rank"), cls[1].astype(np.float32), probability),
            },
            coords={
                "image": images,
                "layer": range(len(points)),
                "point": ("layer", list(points)),
                "grid_height": ("layer", [state.grids.get(p, (0, 0))[0] for p in points]),
                "grid_width": ("layer", [state.grids.get(p, (0, 0))[1] for p in points]),
            },
            attrs={"class_names": names, "classes": state.spec.classes},
        )


@dataclass(frozen=True)
class _Head:
    """What a model does to its pooled vector, from the final norm on, for single tokens.

    Attributes:
        steps: modules in a row.
        classifiers: their outputs are averaged.
        width: features that they read.
    """

    steps: tuple[Callable[[Tensor], Tensor], ...]
    classifiers: tuple[nn.Linear, ...]
    width: int

    @classmethod
    def of(cls, module: Any) -> "_Head | None":
        """The parts of a timm model; None where its classifier cannot be taken apart."""
        outer = getattr(module, "head", None) or getattr(module, "fc", None)
        inner = getattr(outer, "fc", outer)
        both = tuple(h for h in (inner, getattr(module, "head_dist", None)) if h is not None)
        if not both or not all(isinstance(h, nn.Linear) for h in both):
            return None
        norms = (getattr(module, "norm", None), getattr(module, "fc_norm", None), getattr(outer, "norm", None))
        return cls(tuple(_of_tokens(n) for n in norms if isinstance(n, nn.Module)), both, both[0].in_features)

    def top(self, tokens: Tensor, ranks: int) -> Tensor:
        """The first classes of tokens (images, tokens, channels) and their probabilities: (images, 2, tokens, rank)."""
        tokens = tokens.to(self.classifiers[0].weight.dtype)
        for step in self.steps:
            tokens = step(tokens)
        most = max(AT_ONCE // self.classifiers[0].out_features, 2)  # tokens
        images = max(most // tokens.shape[1], 1)
        found = [
            torch.cat([self._top(some, start, start + most, ranks) for start in range(0, tokens.shape[1], most)], 2)
            for some in tokens.split(images)
        ]
        return torch.cat(found)

    def _top(self, tokens: Tensor, start: int, stop: int, ranks: int) -> Tensor:
        part = tokens[:, start:stop]
        answers: Tensor = self.classifiers[0](part)
        if len(self.classifiers) == 2:
            others = self.classifiers[1](part)
            cls = (answers[:, :1] + others[:, 1:2]) / 2  # it and the distillation token have a classifier each
            answers = (answers + others) / 2
            if not start:
                answers[:, :1] = cls
        top = answers.softmax(-1).topk(min(ranks, answers.shape[-1]))
        return torch.stack([top.indices.to(top.values), top.values], 1)


def _of_tokens(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """A final norm for (images, tokens, channels), also where the model has it over a map with channels first."""
    if isinstance(norm, LayerNorm2d):
        return partial(
            F.layer_norm, normalized_shape=norm.normalized_shape, weight=norm.weight, bias=norm.bias, eps=norm.eps
        )
    return norm.forward  # without the hooks of whoever reads what the model itself gives to it
