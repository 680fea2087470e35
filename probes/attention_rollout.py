"""Attention rollout: attention followed through all layers down to the input patches."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model_zoo.adapter import ModelSpec
from model_zoo.layout import AttentionLayer
from probes.core.attention import Attention, AttentionRows
from probes.core.base import Probe, one_of
from probes.core.layers import check_layer, layer_index

FUSIONS = ("mean", "max", "min")
CONVENTIONS = ("paper", "vit-explain")
KEEP_BYTES = 256 * 2**20
"""Of an image the first layers are kept up to this; the others are computed again on the way down."""

_Rows = tuple[slice, slice, Tensor]


@dataclass
class _State:
    spec: ModelSpec
    maps: dict[int, np.ndarray] = field(default_factory=dict)  # image -> (patch,)
    prefix_share: dict[int, float] = field(default_factory=dict)
    layers: dict[int, Tensor | Attention] = field(default_factory=dict)  # of the batch under way


@dataclass(frozen=True)
class AttentionRollout(Probe):
    r"""Where the CLS token's output comes from when attention is multiplied through the layers.

    .. math:: \hat A_l = \operatorname{rownorm}(F_l + I), \quad R = \hat A_L \cdots \hat A_{start}, \quad
        \text{map} = R_{cls,\,P:}

    with :math:`F_l` the heads' attention fused by mean, max or min. Only one row is shown, so a row vector is carried
    from the last layer down, :math:`v \leftarrow v \hat A_l`; no product of two matrices is formed.

    ``convention="vit-explain"`` follows the arithmetic of that much-used code: :math:`a = (F+I)/2`, *column* j divided
    by the sum of *row* j, and the map divided by its maximum. It differs from the paper wherever row sums of F differ:
    with max, min or a discard ratio.

    Args:
        fusion: how heads become one matrix: ``mean``, ``max`` or ``min``.
        discard: the share of the (N+P)² fused weights, lowest first, that is set to zero before normalising, 0 up to
            but excluding 1; the weight at row 0, column 0 is always kept. vit-explain's own default is 0.9.
        start: first layer taken into account: an index from 0, ``last``, or a relative depth from 0.0 to 1.0 over the
            layers in which patches ask, see `probes.core.layers`.
        convention: ``paper`` or ``vit-explain``.

    Returns:
        ``rollout`` (image, y, x): share of the row, 0 to 1 (paper); relative to the largest, 0 to 1 (vit-explain).
        NaN in a map that nothing reaches, all of it having been discarded.
        ``prefix_share`` (image): what stays on prefix tokens; in the paper's convention it and the map sum to 1.
        The coordinate ``query_used`` says what the row stands for: ``cls``, the pooling query of SigLIP (``pool``;
        its weights are taken as they are, there is no residual from it to the patches), or ``mean`` over the patches
        of a model that has neither.

    Note:
        Values, MLPs and signs are ignored, and the identity's weight of one half is an assumption. Rollout is the same
        for every class. Many layers of near-uniform attention blur it whatever the model does.

    Reference:
        Abnar & Zuidema 2020, arXiv:2005.00928; https://github.com/jacobgil/vit-explain.
    """

    fusion: str = "mean"
    discard: float = 0.0
    start: int | str = 0
    convention: str = "paper"
    title: ClassVar[str] = "Attention rollout"
    reads: ClassVar[frozenset[str]] = frozenset({"attention"})
    per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("fusion", self.fusion, FUSIONS)
        one_of("convention", self.convention, CONVENTIONS)
        if not 0 <= self.discard < 1:
            raise ValueError(
                f"discard is {self.discard}; it must be at least 0 and below 1: at 1 nothing would be left."
            )
        check_layer(str(self.start), "start")

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models whose layers are no chain of distributions over the same tokens; a start layer past the end."""
        if not spec.layers:
            return super().undefined(spec)
        if any(layer.kind == "window" for layer in spec.layers):
            return "this model merges patches between its stages, so its layers' matrices cannot be multiplied"
        if spec.interrupted:
            return "convolutions mix patches between this model's attention layers, so their matrices are no chain"
        if not all(layer.is_distribution for layer in spec.layers):
            return "this model mixes heads after the softmax, so its rows are no shares that could be passed on"
        last = sum(layer.kind == "global" for layer in spec.layers) - 1
        if self._first(spec) > last:
            return f"this model has the layers 0 to {last}: there is no layer {self.start} to start from"
        return None

    def _first(self, spec: ModelSpec) -> int:
        return layer_index(str(self.start), sum(layer.kind == "global" for layer in spec.layers))

    def queries(self, spec: ModelSpec, layer: int) -> slice | tuple[int, ...] | None:
        """Every row, or of a large layer one, which brings the means to compute the others later."""
        if layer < self._first(spec):
            return None
        return slice(None) if self._keeps(spec, layer) else (0,)

    def _keeps(self, spec: ModelSpec, layer: int) -> bool:
        before = spec.layers[self._first(spec) : layer + 1]
        return 4 * sum(one.queries * one.keys for one in before) <= KEEP_BYTES

    def init(self, spec: ModelSpec) -> _State:
        """No maps yet."""
        return _State(spec)

    def update(self, state: _State, seen: AttentionRows) -> _State:
        """Keep a layer; with the batch's last row, go down through them."""
        layer, batch = state.spec.layers[seen.layer], seen.batch
        if seen.source is not None and not self._keeps(state.spec, seen.layer):
            state.layers[seen.layer] = seen.source
        else:
            fused = fuse(seen.weights, self.fusion)
            if fused.shape[:2] == (len(batch), layer.queries):
                state.layers[seen.layer] = fused
            else:
                if seen.layer not in state.layers:
                    state.layers[seen.layer] = fused.new_empty(len(batch), layer.queries, layer.keys)
                kept = state.layers[seen.layer]
                assert isinstance(kept, Tensor)
                first = int(seen.queries[0])
                kept[_places(seen), first : first + fused.shape[1]] = fused
            if not (seen.ends(layer) and seen.images.stop == batch.stop):
                return state
        if seen.layer + 1 == len(state.spec.layers):

            def keep(rows: np.ndarray) -> None:
                for image, values in zip(batch, rows, strict=True):
                    state.prefix_share[image], state.maps[image] = float(values[0]), values[1:]

            seen.send(self._descend(state), keep)
        return state

    def _descend(self, state: _State) -> Tensor:
        """The share of the prefix tokens, then the row over the patches: (image, 1 + patch)."""
        row: Tensor | None = None
        outside: Tensor | float = 0.0
        while state.layers:
            index, kept = state.layers.popitem()  # the last layer first
            layer = state.spec.layers[index]
            if layer.kind == "pool":
                fused = kept if isinstance(kept, Tensor) else fuse(kept.rows(slice(None)).weights, self.fusion)
                row = fused[:, 0].double()
                continue
            asked = None
            if row is None:
                row = _start(state.spec, layer, kept)
                plain = not self.discard and (self.convention == "paper" or self.fusion == "mean")
                if plain and layer.prefix and "cls" in state.spec.prefix:
                    asked = state.spec.prefix.index("cls")  # nothing comes through the other rows
            elif row.shape[1] > layer.keys:  # CLS joins the patches after this layer
                joined = row.shape[1] - layer.keys
                outside, row = outside + row[:, :joined].sum(1), row[:, joined:]
            row = self._step(row, kept, layer, asked)
        assert row is not None
        prefix = state.spec.layers[self._first(state.spec)].prefix
        share, patches = outside + row[:, :prefix].sum(1), row[:, prefix:]
        largest = patches.amax(1, keepdim=True)
        if self.convention == "vit-explain":
            patches = patches / largest
        patches = patches.masked_fill(largest == 0, torch.nan)
        return torch.cat([share.unsqueeze(1), patches], 1)

    def _step(self, row: Tensor, kept: Tensor | Attention, layer: AttentionLayer, asked: int | None) -> Tensor:
        r"""One layer down: :math:`v \hat A`.

        Args:
            row: (batch, tokens) float64.
            kept: the layer's fused matrix (batch, tokens, tokens), or the means to compute its rows.
            layer: the layer.
            asked: the only token that the row is not zero at, if it is one.
        """
        out, sums = torch.zeros_like(row), torch.ones_like(row)
        for images, here, rows in self._rows(kept, layer, asked):
            share = row[images, here] / 2
            if rows.ndim == 4:  # distributions, whose mean over heads is one too: what is carried is fused in its stead
                moved = (share[:, None, None].to(rows.dtype) @ rows).mean(1).squeeze(1)
            else:
                half = (rows.sum(-1).double() + 1) / 2
                if self.convention == "paper":
                    share = share / half
                sums[images, here] = half
                moved = (share.unsqueeze(1).to(rows.dtype) @ rows).squeeze(1)
            out[images] += moved
            out[images, here] += share
        return out if self.convention == "paper" else out / sums

    def _rows(self, kept: Tensor | Attention, layer: AttentionLayer, asked: int | None) -> Iterator[_Rows]:
        """Rows of the fused matrix, or of all heads where fusing can wait; which images and tokens they are of."""
        if isinstance(kept, Tensor):
            everything = slice(None) if asked is None else slice(asked, asked + 1)
            fused = discard_lowest(kept, self.discard) if self.discard else kept[:, everything]
            yield slice(None), everything, fused
            return
        whole: list[Tensor] = []
        for seen in kept.blocks() if asked is None else [kept.rows((asked,))]:
            first = int(seen.queries[0])
            here = slice(first, first + len(seen.queries))
            if self.fusion == "mean" and not self.discard:
                yield _places(seen), here, seen.weights
                continue
            whole.append(fuse(seen.weights, self.fusion))
            if not self.discard:
                yield _places(seen), here, whole.pop()
            elif seen.ends(layer):
                yield _places(seen), slice(None), discard_lowest(torch.cat(whole, 1), self.discard)
                whole.clear()

    def merge(self, a: _State, b: _State) -> _State:
        """Maps of both."""
        return _State(a.spec, a.maps | b.maps, a.prefix_share | b.prefix_share)

    def compute(self, state: _State) -> xr.Dataset:
        """Lay the rows out as maps."""
        images = sorted(state.maps)
        height, width = state.spec.grid
        maps = np.array([state.maps[i] for i in images], np.float32).reshape(len(images), height, width)
        units = "share of the row" if self.convention == "paper" else "relative to the map's maximum"
        pooled = state.spec.layers[-1].kind == "pool"
        used = "pool" if pooled else "cls" if "cls" in state.spec.prefix else "mean"
        return xr.Dataset(
            {
                "rollout": (("image", "y", "x"), maps, {"units": units, "long_name": "attention rollout"}),
                "prefix_share": ("image", [state.prefix_share[i] for i in images], {"units": "share of the row"}),
            },
            coords={"image": images, "query_used": used},
            attrs={
                "fusion": self.fusion,
                "discard": self.discard,
                "start": self._first(state.spec),
                "convention": self.convention,
                "patch": state.spec.patch,
                "layers": len(state.spec.layers),
            },
        )


def fuse(weights: Tensor, fusion: str) -> Tensor:
    """One matrix of a layer's heads: (batch, heads, q, keys) to (batch, q, keys)."""
    if fusion == "mean":
        return weights.mean(1)
    return weights.amax(1) if fusion == "max" else weights.amin(1)


def discard_lowest(fused: Tensor, share: float) -> Tensor:
    """Zero the lowest ⌊share·size⌋ weights of every matrix but never its first; of equal weights the earliest go."""
    flat = fused.flatten(1)
    count = int(flat.shape[1] * share)
    if count == 0:
        return fused
    limit = flat.kthvalue(count, 1, keepdim=True).values
    below, equal = flat < limit, flat == limit
    gone = below | (equal & (equal.cumsum(1) <= count - below.sum(1, keepdim=True)))
    gone[:, 0] = False
    return flat.masked_fill(gone, 0).view_as(fused)


def _start(spec: ModelSpec, layer: AttentionLayer, kept: Tensor | Attention) -> Tensor:
    """The row that the descent begins with: CLS, or the mean over patches where there is none."""
    count = len(kept if isinstance(kept, Tensor) else kept.images)
    row = torch.zeros(count, layer.keys, dtype=torch.float64, device=kept.device)
    if layer.prefix and "cls" in spec.prefix:
        row[:, spec.prefix.index("cls")] = 1
    else:
        row[:, layer.prefix :] = 1 / (layer.keys - layer.prefix)
    return row


def _places(seen: AttentionRows) -> slice:
    """Places of the rows' images in their batch."""
    return slice(seen.images.start - seen.batch.start, seen.images.stop - seen.batch.start)
