"""Attention weights of one layer, computed block by block from what the model's own attention call was given."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from model_zoo.adapter import Geometry
from model_zoo.layout import AttentionLayer

BLOCK_BYTES = 4 * 2**20
ALIGNED = 16
"""Keys are padded to a multiple of this, which makes the product with them up to 1.5 times faster."""


@dataclass(frozen=True)
class AttentionRows:
    """Post-softmax attention of some query tokens of one layer.

    Attributes:
        layer: index of the layer in ``spec.layers``.
        images: indices of the batch's images in the run.
        queries: (q,) token indices of the rows; prefix tokens first, then patches row by row.
        weights: (images, heads, q, keys) as the model used them. In a windowed layer zero outside of the window.
        scores: the scores before the softmax, where the layer had such.
        source: the whole layer, from which further rows can be computed. Whoever keeps it until a later layer has
            come keeps its queries and keys, which is less than its rows once there are more tokens than channels.
    """

    layer: int
    images: range
    queries: Tensor
    weights: Tensor
    scores: Tensor | None = field(default=None, repr=False)
    source: "Attention | None" = field(default=None, repr=False)

    def entropy(self) -> Tensor:
        """Shannon entropy of every row, nats: (images, heads, q); −Σ A log A, with 0 log 0 = 0."""
        if self.scores is None:
            return torch.special.entr(self.weights.clamp_min(0)).sum(-1)
        log_normaliser = self.scores.amax(-1) - self.weights.amax(-1).log()
        return log_normaliser - torch.einsum("bhqk,bhqk->bhq", self.weights, self.scores)


class Attention:
    """One layer's attention in one forward pass; rows are computed when asked for.

    Args:
        index: index of the layer in ``spec.layers``.
        layer: the layer.
        images: indices of the batch's images in the run.
        query: (batch, heads, queries, dim), or None when ``weights`` are given.
        key: (batch, heads, keys, dim).
        bias: added to the scores, broadcastable to (batch, heads, queries, keys).
        scale: factor of the scores.
        weights: (batch, heads, queries, keys) where the model wrote the softmax out. In a windowed layer the batch
            is image by window.
        geometries: where the model's input lies in each of the images; empty where nobody said.
    """

    def __init__(
        self,
        index: int,
        layer: AttentionLayer,
        images: range,
        *,
        query: Tensor | None = None,
        key: Tensor | None = None,
        bias: Tensor | None = None,
        scale: float = 1.0,
        weights: Tensor | None = None,
        geometries: Sequence[Geometry] = (),
    ) -> None:
        self.index, self.layer, self.images, self.geometries = index, layer, images, geometries
        self._bias = bias
        self._windows: Tensor | None = None
        self._weights = None if weights is None else _at_least_float32(weights)
        if query is not None and key is not None:
            self._query = _at_least_float32(query) * scale
            self._keys = key.shape[-2]
            self._key = _padded(_at_least_float32(key))
            if layer.kind == "window":
                self._weights = self._softmax(slice(None))[0]
        if layer.kind == "window":
            self._windows = window_patches(layer).to(self.weights_device)
        self._check()

    @property
    def weights_device(self) -> torch.device:
        """Where the rows are computed."""
        return self._query.device if self._weights is None else self._weights.device

    def _check(self) -> None:
        layer = self.layer
        if self._weights is None:
            found = (self._query.shape[-2], self._keys)
        else:
            found = (self._weights.shape[-2], self._weights.shape[-1])
        if layer.kind == "window":
            assert self._windows is not None
            expected = (self._windows.shape[1], self._windows.shape[1])
        else:
            expected = (layer.queries, layer.keys)
        if found != expected:
            raise RuntimeError(
                f"{layer.name} attends with {found[0]} queries over {found[1]} keys; its layout "
                f"({layer.prefix} prefix tokens and {layer.grid[0]}×{layer.grid[1]} patches) has {expected}"
            )

    def rows(self, queries: slice | Sequence[int] | Tensor) -> AttentionRows:
        """The rows of chosen query tokens, as float32 (float64 in a float64 model)."""
        index = self._index(queries)
        if self._windows is not None:
            return AttentionRows(self.index, self.images, index, self._scatter(index), source=self)
        contiguous = len(index) > 0 and bool((index.diff() == 1).all())
        chosen = slice(int(index[0]), int(index[-1]) + 1) if contiguous else index
        if self._weights is not None:
            return AttentionRows(self.index, self.images, index, self._weights[:, :, chosen], source=self)
        weights, scores = self._softmax(chosen)
        return AttentionRows(self.index, self.images, index, weights, scores, self)

    def row_of_each(self, queries: Sequence[int | None]) -> Tensor:
        """One row an image, of its own query token: (images, heads, 1, keys); NaN where an image has none."""
        asked = sorted({query for query in queries if query is not None})
        weights = self.rows(asked).weights
        each = weights.new_full((len(queries), weights.shape[1], 1, weights.shape[3]), math.nan)
        for image, query in enumerate(queries):
            if query is not None:
                each[image, :, 0] = weights[image, :, asked.index(query)]
        return each

    def blocks(self) -> Iterator[AttentionRows]:
        """All rows, in order, in blocks of a few MiB; no block is kept."""
        batch, heads = len(self.images), self.layer.heads
        step = max(1, BLOCK_BYTES // (4 * batch * heads * self.layer.keys))
        for start in range(0, self.layer.queries, step):
            yield self.rows(slice(start, min(start + step, self.layer.queries)))

    def _index(self, queries: slice | Sequence[int] | Tensor) -> Tensor:
        if isinstance(queries, slice):
            return torch.arange(self.layer.queries)[queries]
        index = torch.as_tensor(queries, dtype=torch.long)
        if len(index) and not (int(index.min()) >= 0 and int(index.max()) < self.layer.queries):
            raise IndexError(f"{self.layer.name} has queries 0 to {self.layer.queries - 1}, asked for {index.tolist()}")
        return index

    def _softmax(self, chosen: slice | Tensor) -> tuple[Tensor, Tensor]:
        padded = self._query[:, :, chosen] @ self._key
        padded[..., self._keys :] = -math.inf
        scores = padded[..., : self._keys]
        if self._bias is not None:
            bias = self._bias
            if bias.dtype == torch.bool:
                bias = torch.zeros_like(bias, dtype=scores.dtype).masked_fill(~bias, -math.inf)
            per_query = bias.ndim >= 2 and bias.shape[-2] > 1
            scores += bias[..., chosen, :] if per_query else bias
        return padded.softmax(-1)[..., : self._keys], scores

    def _scatter(self, index: Tensor) -> Tensor:
        """Spread the window rows of chosen patches over the whole grid, zero outside of their window."""
        assert self._windows is not None
        assert self._weights is not None
        count, area = self._windows.shape
        patches = self.layer.keys
        place = torch.full((patches + 1,), -1, dtype=torch.long)
        place[self._windows.flatten().cpu()] = torch.arange(count * area)
        window, position = place[index].div(area, rounding_mode="floor"), place[index] % area
        weights = self._weights.unflatten(0, (len(self.images), count))
        rows = weights[:, window, :, position]  # (q, images, heads, area): indexed dimensions come first
        rows = rows.permute(1, 2, 0, 3)
        dense = rows.new_zeros(*rows.shape[:3], patches + 1)  # the last column takes what fell on padding
        dense.scatter_(-1, self._windows[window].expand(*rows.shape), rows)
        return dense[..., :patches]


def window_patches(layer: AttentionLayer) -> Tensor:
    """Patch index at every place of every window: (windows, area); the number of patches where a place is padding."""
    (height, width), (rows, columns) = layer.grid, layer.window
    index = torch.arange(height * width).view(height, width)
    index = index.roll((-layer.shift[0], -layer.shift[1]), dims=(0, 1))
    pad = (0, -width % columns, 0, -height % rows)
    index = torch.nn.functional.pad(index, pad, value=height * width)
    windows = index.unflatten(1, (-1, columns)).unflatten(0, (-1, rows))
    return windows.transpose(1, 2).reshape(-1, rows * columns)


def _padded(key: Tensor) -> Tensor:
    """(batch, heads, keys, dim) to (batch, heads, dim, keys), with keys of zeros up to a multiple of `ALIGNED`."""
    batch, heads, keys, dim = key.shape
    padded = key.new_zeros(batch, heads, dim, -(-keys // ALIGNED) * ALIGNED)
    padded[..., :keys] = key.transpose(-2, -1)
    return padded


def _at_least_float32(x: Tensor) -> Tensor:
    x = x.detach()
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


class AttentionCall(NamedTuple):
    """What a call of `torch.nn.functional.scaled_dot_product_attention` is given."""

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None
    scale: float


def read_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """Read the arguments as PyTorch does.

    Raises:
        RuntimeError: causal or grouped-query attention.
    """
    if is_causal or enable_gqa:
        raise RuntimeError("causal and grouped-query attention are not read; no vision transformer here uses them")
    return AttentionCall(query, key, value, attn_mask, query.shape[-1] ** -0.5 if scale is None else scale)
