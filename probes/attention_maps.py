"""Attention maps: where one query looks, per layer and head."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import xarray as xr

from model_zoo.adapter import ModelSpec
from model_zoo.layout import AttentionLayer
from probes.attention import AttentionRows
from probes.base import Probe, layer_coordinates
from probes.stacking import stack


@dataclass
class _State:
    spec: ModelSpec
    sums: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)  # (image, layer) -> (head, patch)


@dataclass(frozen=True)
class AttentionMaps(Probe):
    r"""Attention of a query token to every patch.

    .. math:: m_{lh} = A^{(l,h)}_{q,\,P:} \quad\text{or}\quad \tfrac1N \sum_{q \ge P} A^{(l,h)}_{q,\,P:}

    with :math:`A` the post-softmax attention the model itself used, :math:`P` prefix tokens and :math:`N` patches.

    Args:
        query: ``cls``, ``mean`` (over all patch queries) or ``ROW:COL``, a patch of the model's input grid, from 0.
            A layer without a CLS row answers ``cls`` with the mean; ``query_used`` says so.
        layers: ``all`` or indices separated by commas.

    Returns:
        ``attention`` (image, layer, head, y, x): 0 to 1, not renormalised over the patches, so that a map sums to one
        minus what prefix tokens receive. NaN where a layer has fewer heads or patches than the largest, and where a
        layer has no such query (patches do not ask in CaiT's class attention).

    Note:
        Attention says which values are mixed, not what decides the output: values may be small, later layers and the
        residual stream may undo it. Heads are not ordered: head 3 of one model has nothing to do with head 3 of
        another.

    Reference:
        Caron et al. 2021, Fig. 1, arXiv:2104.14294.
    """

    query: str = "cls"
    layers: str = "all"
    title: ClassVar[str] = "Attention maps"
    reads: ClassVar[frozenset[str]] = frozenset({"attention"})

    def __post_init__(self) -> None:
        if self.query not in ("cls", "mean") and not re.fullmatch(r"\d{1,4}:\d{1,4}", self.query):
            raise ValueError(f"query is {self.query!r}; it must be cls, mean or ROW:COL, such as 3:7.")
        if self.layers != "all" and not re.fullmatch(r"\d{1,4}(,\d{1,4})*", self.layers):
            raise ValueError(f"layers is {self.layers!r}; it must be all or indices such as 0,5,11.")

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models without attention; also a patch or a layer that the model does not have."""
        if not spec.layers:
            return super().undefined(spec)
        if self._patch() is not None and not all(a < b for a, b in zip(self._patch() or (), spec.grid, strict=True)):
            return f"{spec.name} has {spec.grid[0]}×{spec.grid[1]} patches: there is no patch {self.query}"
        beyond = [layer for layer in self._chosen(spec) if layer >= len(spec.layers)]
        if beyond:
            return f"{spec.name} has the layers 0 to {len(spec.layers) - 1}: there is no layer {beyond[0]}"
        if all(self.used(spec.layers[layer]) == "none" for layer in self._chosen(spec)):
            return f"only CLS asks in the chosen layers of {spec.name}; choose the query cls, or other layers"
        return None

    def queries(self, spec: ModelSpec, layer: int) -> slice | Sequence[int] | None:
        """The rows that the map of this layer is made of."""
        if layer not in self._chosen(spec):
            return None
        used = self.used(spec.layers[layer])
        if used == "none":
            return None
        if used == "cls":
            return (0,)
        if used == "mean":
            return slice(None)
        row, column = self._patch() or (0, 0)
        (height, width), (gh, gw) = spec.layers[layer].grid, spec.grid
        return (spec.layers[layer].prefix + (row * height // gh) * width + column * width // gw,)

    def used(self, layer: AttentionLayer) -> str:
        """What the query becomes in a layer: ``cls``, ``mean``, ``patch``, or ``none`` where no such token asks."""
        if self.query == "cls":
            return "cls" if layer.has_cls else "mean"
        if layer.queries == 1:
            return "none"
        return "mean" if self.query == "mean" else "patch"

    def _patch(self) -> tuple[int, int] | None:
        if self.query in ("cls", "mean"):
            return None
        row, column = self.query.split(":")
        return int(row), int(column)

    def _chosen(self, spec: ModelSpec) -> list[int]:
        if self.layers == "all":
            return list(range(len(spec.layers)))
        return sorted({int(index) for index in self.layers.split(",")})

    def init(self, spec: ModelSpec) -> _State:
        """No maps yet."""
        return _State(spec)

    def update(self, state: _State, seen: AttentionRows) -> _State:
        """Add rows to the maps of their images."""
        layer = state.spec.layers[seen.layer]
        weights = seen.weights
        divisor = 1
        if self.used(layer) == "mean":
            first = int((seen.queries < layer.prefix).sum())
            weights = weights[:, :, first:]
            divisor = layer.keys - layer.prefix
        rows = weights[..., layer.prefix :].sum(2, dtype=weights.dtype).double() / divisor
        for image, values in zip(seen.images, rows.cpu().numpy(), strict=True):
            key = (image, seen.layer)
            state.sums[key] = state.sums[key] + values if key in state.sums else values
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Maps of both."""
        return _State(a.spec, a.sums | b.sums)

    def compute(self, state: _State) -> xr.Dataset:
        """Stack the maps, padded with NaN to the largest layer."""
        spec, chosen = state.spec, self._chosen(state.spec)
        images = sorted({image for image, _ in state.sums})
        heads = max(layer.heads for layer in spec.layers)
        height, width = (max(layer.grid[i] for layer in spec.layers) for i in (0, 1))
        maps = {(i, layer): total.reshape(-1, *spec.layers[layer].grid) for (i, layer), total in state.sums.items()}
        values = stack(maps, (images, chosen), (heads, height, width))
        coordinates = xr.Dataset(coords=layer_coordinates(spec)).isel(layer=chosen).coords
        return xr.Dataset(
            {
                "attention": (
                    ("image", "layer", "head", "y", "x"),
                    values,
                    {"units": "attention weight", "long_name": "attention of the query to the patch"},
                )
            },
            coords={
                **coordinates,
                "image": images,
                "query_used": ("layer", [self.used(spec.layers[i]) for i in chosen]),
            },
            attrs={"query": self.query, "prefix_tokens": list(spec.prefix), "patch": spec.patch},
        )
