"""Attention weights of one layer, computed block by block from what the model's own attention call was given."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from model_zoo.adapter import Geometry
from model_zoo.layout import AttentionLayer
from probes.core.leaving import Send, at_once

BLOCK_BYTES = 12 * 2**20
"""Rows of one image that are computed together on a CPU: larger products are faster, smaller ones stay in caches."""
IMAGES_BYTES = 4 * 2**20
"""Whole images are computed together on a CPU up to this; a few large products are faster there than many rows."""
GPU_SHARE = 8
"""A block takes at most this part of a GPU's free memory; scores, weights and a probe's product of them are three."""
ALIGNED = 16
"""Keys are padded to a multiple of this, which makes the product with them up to 1.5 times faster."""
LONG_ROW = 1024
FEW, LEAST = 16, 1e-20
"""Keys of a row that are looked at first for a weight of at least this, see `log_normaliser`."""


@dataclass(frozen=True)
class AttentionRows:
    """Post-softmax attention of some query tokens of one layer.

    Attributes:
        layer: index of the layer in ``spec.layers``.
        images: indices of the images in the run; a batch, or some images of it.
        queries: (q,) token indices of the rows; prefix tokens first, then patches row by row.
        weights: (images, heads, q, keys) as the model used them. In a windowed layer zero outside of the window.
        scores: the scores before the softmax, where the layer had such.
        source: the whole layer, from which further rows can be computed. Whoever keeps it until a later layer has
            come keeps its queries and keys, which is less than its rows once there are more tokens than channels.
        send: brings values to the host without waiting for them in the middle of a pass, see `probes.core.leaving`.
    """

    layer: int
    images: range
    queries: Sequence[int]
    weights: Tensor
    scores: Tensor | None = field(default=None, repr=False)
    source: "Attention | None" = field(default=None, repr=False)
    send: Send = field(default=at_once, repr=False)

    @property
    def batch(self) -> range:
        """The images of the whole batch."""
        return self.images if self.source is None else self.source.images

    def before(self, token: int) -> int:
        """How many of the rows come before a token, when the rows are in order."""
        return min(max(token - int(self.queries[0]), 0), len(self.queries))

    def ends(self, layer: AttentionLayer) -> bool:
        """Whether the last row of these images is among the rows."""
        return int(self.queries[-1]) + 1 >= layer.queries


class Attention:
    """One layer's attention in one forward pass; rows are computed when asked for.

    Args:
        index: index of the layer in ``spec.layers``.
        layer: the layer.
        images: indices of the batch's images in the run.
        query: (batch, heads, queries, dim), or None when ``weights`` are given.
        key: (batch, heads, keys, dim).
        value: (batch, heads, keys, dim), where the layer's output is wanted of whoever asks for all rows.
        bias: added to the scores, broadcastable to (batch, heads, queries, keys).
        scale: factor of the scores.
        weights: (batch, heads, queries, keys) where the model wrote the softmax out. In a windowed layer the batch
            is image by window.
        geometries: where the model's input lies in each of the images; empty where nobody said.
        send: see `AttentionRows`.
        room: bytes that a block may take, see `room`; found out when needed where it is None.
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
        value: Tensor | None = None,
        weights: Tensor | None = None,
        geometries: Sequence[Geometry] = (),
        send: Send = at_once,
        room: tuple[int, int] | None = None,
    ) -> None:
        self.index, self.layer, self.images, self.geometries = index, layer, images, geometries
        self.send, self._room = send, room
        self._bias = bias
        self._value = None if layer.kind == "window" else value
        self._output: Tensor | None = None
        self._weights = None if weights is None else _at_least_float32(weights)
        if query is not None and key is not None:
            self._query = _at_least_float32(query) * scale
            self._keys = key.shape[-2]
            self._key = _padded(_at_least_float32(key))
            if layer.kind == "window":
                self._weights = self._softmax(slice(None), slice(None))[0]
        self._check()

    @property
    def device(self) -> torch.device:
        """Where the rows are computed."""
        return self._query.device if self._weights is None else self._weights.device

    def _check(self) -> None:
        layer = self.layer
        if self._weights is None:
            found = (self._query.shape[-2], self._keys)
        else:
            found = (self._weights.shape[-2], self._weights.shape[-1])
        expected = (layer.queries, layer.keys) if layer.kind != "window" else (layer.reach, layer.reach)
        if found != expected:
            raise RuntimeError(
                f"{layer.name} attends with {found[0]} queries over {found[1]} keys; its layout "
                f"({layer.prefix} prefix tokens and {layer.grid[0]}×{layer.grid[1]} patches) has {expected}"
            )

    def rows(
        self, queries: slice | Sequence[int], images: slice = slice(None), space: "Space | None" = None
    ) -> AttentionRows:
        """The rows of chosen query tokens, as float32 (float64 in a float64 model).

        Args:
            queries: token indices.
            images: which of the batch's; all by default.
            space: memory to write them to; memory of their own unless given.
        """
        index = self._index(queries)
        in_a_row = len(index) > 0 and list(index) == list(range(index[0], index[-1] + 1))
        chosen = slice(index[0], index[-1] + 1) if in_a_row else _constant(tuple(index), self.device)
        scores = None
        if self.layer.kind == "window":
            weights = self._scatter(chosen, images)
        elif self._weights is not None:
            weights = self._weights[images, :, chosen]
        else:
            weights, scores = self._softmax(chosen, images, space)
        return AttentionRows(self.index, self.images[images], index, weights, scores, self, self.send)

    def row_of_each(self, queries: Sequence[int | None]) -> Tensor:
        """One row an image, of its own query token: (images, heads, 1, keys); NaN where an image has none."""
        asked = sorted({query for query in queries if query is not None})
        weights = self.rows(asked).weights
        if not asked:
            return weights.new_full((len(queries), weights.shape[1], 1, weights.shape[3]), math.nan)
        place = _constant(tuple(0 if query is None else asked.index(query) for query in queries), self.device)
        each = weights.gather(2, place.view(-1, 1, 1, 1).expand(-1, weights.shape[1], 1, weights.shape[3]))
        if None in queries:
            none = _constant(tuple(int(query is None) for query in queries), self.device)
            each.masked_fill_(none.view(-1, 1, 1, 1) == 1, math.nan)
        return each

    def blocks(self) -> Iterator[AttentionRows]:
        """All rows, in order, in blocks: all rows of some images, or where one image is too large some of its rows.

        On a CPU a block stays in the caches; on a GPU it is the whole layer wherever memory allows. On a CPU a block is
        valid until the next one is asked for, which is written to the same memory: what the system has to clear for
        every new one costs as much as the product.
        """
        queries = self.layer.queries
        row = self.layer.heads * self.layer.keys * (8 if self._dtype == torch.float64 else 4)
        rows, images = self._room or room(self.device)
        step = min(queries, max(1, rows // row))
        together = max(1, images // (row * queries)) if step == queries else 1
        space = Space() if self.device.type == "cpu" else None
        value, self._value = self._value, None  # once is enough
        output = None if value is None else _rows_before_heads(value, queries)
        for first in range(0, len(self.images), together):
            for start in range(0, queries, step):
                asked, of = slice(start, start + step), slice(first, first + together)
                block = self.rows(asked, of, space)
                if value is not None and output is not None:
                    output[of, :, asked] = block.weights @ value[of]
                yield block
        self._output = output

    def take_output(self) -> Tensor | None:
        """What the layer gives, (batch, heads, queries, dim), if all blocks were asked for; to be called once."""
        output, self._output, self._value = self._output, None, None
        return output

    @property
    def _dtype(self) -> torch.dtype:
        return self._query.dtype if self._weights is None else self._weights.dtype

    def _index(self, queries: slice | Sequence[int]) -> Sequence[int]:
        if isinstance(queries, slice):
            return range(self.layer.queries)[queries]
        index = [int(query) for query in queries]
        if index and not (min(index) >= 0 and max(index) < self.layer.queries):
            raise IndexError(f"{self.layer.name} has queries 0 to {self.layer.queries - 1}, asked for {index}")
        return index

    def _softmax(self, chosen: slice | Tensor, images: slice, space: "Space | None" = None) -> tuple[Tensor, Tensor]:
        query, key = self._query[images, :, chosen], self._key[images]
        before, after = (None, None) if space is None else space.two((*query.shape[:-1], key.shape[-1]), query.dtype)
        padded = torch.matmul(query, key, out=before)
        scores = padded[..., : self._keys]
        if self._keys < padded.shape[-1]:
            padded[..., self._keys :].fill_(-math.inf)
        if self._bias is not None:
            bias = self._bias
            if bias.ndim == 4 and bias.shape[0] > 1:
                bias = bias[images]
            if bias.ndim >= 2 and bias.shape[-2] > 1:
                bias = bias[..., chosen, :]
            if bias.dtype == torch.bool:
                bias = torch.zeros_like(bias, dtype=scores.dtype).masked_fill(~bias, -math.inf)
            scores += bias
        return torch.softmax(padded, -1, out=after)[..., : self._keys], scores

    def _scatter(self, chosen: slice | Tensor, images: slice) -> Tensor:
        """Spread the window rows of chosen patches over the whole grid, zero outside of their window."""
        assert self._weights is not None
        layer = self.layer
        windows, place = _window_places(layer.grid, layer.window, layer.shift, self.device)
        count, area = windows.shape
        window, position = place[chosen].div(area, rounding_mode="floor"), place[chosen] % area
        weights = self._weights.unflatten(0, (len(self.images), count))[images]
        rows = weights[:, window, :, position]  # (q, images, heads, area): indexed dimensions come first
        rows = rows.permute(1, 2, 0, 3)
        dense = rows.new_zeros(*rows.shape[:3], layer.keys + 1)  # the last column takes what fell on padding
        dense.scatter_(-1, windows[window].expand(*rows.shape), rows)
        return dense[..., : layer.keys]


class Space:
    """Memory on the CPU for scores and weights, used for one block of rows after the other."""

    def __init__(self) -> None:
        self._held = torch.empty(0)

    def two(self, shape: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Two tensors of a shape, whatever is in them."""
        count = math.prod(shape)
        if self._held.numel() < 2 * count or self._held.dtype != dtype:
            self._held = torch.empty(2 * count, dtype=dtype)
        return self._held[:count].view(*shape), self._held[count : 2 * count].view(*shape)


def row_dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the products along the last axis, the fast way: long rows on a CPU one by one, else all at once."""
    if a.device.type == "cpu" and a.shape[-1] > LONG_ROW:
        return torch.einsum("...k,...k->...", a, b)
    return (a * b).sum(-1)


def log_normaliser(weights: Tensor, scores: Tensor) -> Tensor:
    """Z = log Σ exp s of every row, where A = exp(s − Z): (..., keys) to (...).

    Any key that has some weight tells it, s − log A. Looking for the largest of all reads both once more, so on a CPU
    the first few keys are asked, if each row has a weight among them that is no rounding error.
    """
    if weights.device.type == "cpu":
        largest = weights[..., :FEW].amax(-1)
        if bool((largest > LEAST).all()):
            return scores[..., :FEW].amax(-1) - largest.log()
    return scores.amax(-1) - weights.amax(-1).log()


def room(device: torch.device) -> tuple[int, int]:
    """Bytes that a block of rows may take: of one image, and of several whole ones."""
    if device.type != "cuda":
        return BLOCK_BYTES, IMAGES_BYTES
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch's own, ready for use
    share = (torch.cuda.mem_get_info(device)[0] + kept) // GPU_SHARE
    return share, share


@lru_cache(maxsize=16)
def _constant(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Whole numbers on a device, from pinned memory without waiting where it is a GPU."""
    there = torch.tensor(values, dtype=torch.long, pin_memory=device.type == "cuda" and torch.cuda.is_available())
    return there.to(device, non_blocking=True)


@lru_cache(maxsize=16)
def _window_places(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """`window_patches`, and the reverse: the place of every patch in all windows, one after the other."""
    windows = window_patches(grid, window, shift)
    place = torch.full((grid[0] * grid[1] + 1,), -1, dtype=torch.long)
    place[windows.flatten()] = torch.arange(windows.numel())
    return windows.to(device, non_blocking=True), place[:-1].to(device, non_blocking=True)


def window_patches(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Patch index at every place of every window: (windows, area); the number of patches where a place is padding."""
    (height, width), (rows, columns) = grid, window
    index = torch.arange(height * width).view(height, width)
    index = index.roll((-shift[0], -shift[1]), dims=(0, 1))
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


def _rows_before_heads(value: Tensor, queries: int) -> Tensor:
    """Room for the output of a layer, in the order in which models join the heads."""
    batch, heads, _, dim = value.shape
    return value.new_empty(batch, queries, heads, dim).transpose(1, 2)


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
    dropout: float

    @property
    def by_rows(self) -> bool:
        """Whether its output may be made of the rows that probes ask for instead of computing all of them twice.

        On a GPU, in low precision and for gradients the fused kernel does better.
        """
        plain = self.query.dtype == self.value.dtype and self.value.dtype in (torch.float32, torch.float64)
        learning = any(one is not None and one.requires_grad for one in (self.query, self.key, self.value, self.bias))
        return plain and self.value.device.type == "cpu" and not learning and self.dropout == 0


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
    return AttentionCall(query, key, value, attn_mask, query.shape[-1] ** -0.5 if scale is None else scale, dropout_p)
