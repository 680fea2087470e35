"""Attention maps: where one query looks, per layer and head."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import xarray as xr

from model_zoo.adapter import Geometry, ModelSpec
from model_zoo.layout import AttentionLayer
from probes.core.attention import AttentionRows
from probes.core.base import Probe, layer_coordinates
from probes.core.layers import check_layers, layer_indices
from probes.core.queries import Patch, Query, read_query, scaled
from probes.core.stacking import stack


@dataclass
class _State:
    spec: ModelSpec
    sums: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)  # (image, layer) -> (head, patch)
    asked: dict[tuple[int, int], Patch] = field(default_factory=dict)  # (image, layer) -> the patch whose map it is


@dataclass(frozen=True)
class AttentionMaps(Probe):
    r"""Attention of a query token to every patch.

    .. math:: m_{lh} = A^{(l,h)}_{q,\,P:} \quad\text{or}\quad \tfrac1N \sum_{q \ge P} A^{(l,h)}_{q,\,P:}

    with :math:`A` the post-softmax attention the model itself used, :math:`P` prefix tokens and :math:`N` patches.

    Args:
        query: ``cls``; ``mean`` (over all patch queries); ``ROW:COL``, a patch of the model's input grid, from 0; or
            ``@X,Y``, in every image the patch under this point, as fractions of the original's width and height. A
            layer without a CLS row answers ``cls`` with the mean; ``query_used`` says so.
        layers: ``all``, or separated by commas: indices from 0, ``last``, or relative depths from 0.0 to 1.0, see
            `probes.core.layers`.

    Returns:
        ``attention`` (image, layer, head, y, x): 0 to 1, not renormalised over the patches, so that a map sums to one
        minus what prefix tokens receive. NaN where a layer has fewer heads or patches than the largest, where a
        layer has no such query (patches do not ask in CaiT's class attention), and where the point lies outside of
        what the model sees of an image. The coordinates ``query_row`` and ``query_column`` (image, layer) say which
        patch of the layer's own grid was asked; −1 where none was, as with ``cls`` and ``mean``.

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
    per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._asked()
        check_layers(self.layers)

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models without attention; also a patch or a layer that the model does not have."""
        if not spec.layers:
            return super().undefined(spec)
        asked = self._asked()
        if asked.patch is not None and asked.patch_of(spec.grid) is None:
            return f"this model has {spec.grid[0]}×{spec.grid[1]} patches: there is no patch {self.query}"
        beyond = [layer for layer in self._chosen(spec) if layer >= len(spec.layers)]
        if beyond:
            return f"this model has the layers 0 to {len(spec.layers) - 1}: there is no layer {beyond[0]}"
        if all(self.used(spec.layers[layer]) == "none" for layer in self._chosen(spec)):
            return "only CLS asks in the chosen layers of this model; choose the query cls, or other layers"
        return None

    def queries(self, spec: ModelSpec, layer: int) -> slice | Sequence[int] | None:
        """The rows that the map of this layer is made of; none yet where they differ between images."""
        if layer not in self._chosen(spec):
            return None
        used = self.used(spec.layers[layer])
        if used == "none":
            return None
        if used == "cls":
            return (0,)
        if used == "mean":
            return slice(None)
        if self._asked().point is not None:
            return ()
        patch = self._patch(spec, layer)
        return None if patch is None else (_token(spec.layers[layer], patch),)

    def used(self, layer: AttentionLayer) -> str:
        """What the query becomes in a layer: ``cls``, ``mean``, ``patch``, or ``none`` where no such token asks."""
        if self.query == "cls":
            return "cls" if layer.has_cls else "mean"
        if layer.queries == 1:
            return "none"
        return "mean" if self.query == "mean" else "patch"

    def _asked(self) -> Query:
        return read_query(self.query, ("cls", "mean"))

    def _patch(self, spec: ModelSpec, layer: int, geometry: Geometry | None = None) -> Patch | None:
        """The patch of the layer's own grid that is asked."""
        patch = self._asked().patch_of(spec.grid, geometry)
        return None if patch is None else scaled(patch, spec.grid, spec.layers[layer].grid)

    def _chosen(self, spec: ModelSpec) -> list[int]:
        return layer_indices(self.layers, len(spec.layers))

    def init(self, spec: ModelSpec) -> _State:
        """No maps yet."""
        return _State(spec)

    def update(self, state: _State, seen: AttentionRows) -> _State:
        """Add rows to the maps of their images."""
        layer = state.spec.layers[seen.layer]
        used, weights, divisor = self.used(layer), seen.weights, 1
        if used == "patch":
            patches = self._patches(state.spec, seen)
            state.asked |= {(i, seen.layer): p for i, p in zip(seen.images, patches, strict=True) if p is not None}
            if self._asked().point is not None and seen.source is not None:
                weights = seen.source.row_of_each([None if p is None else _token(layer, p) for p in patches])
        if used == "mean":
            weights = weights[:, :, seen.before(layer.prefix) :]
            divisor = layer.keys - layer.prefix
        images, index = seen.images, seen.layer

        def add(rows: np.ndarray) -> None:
            for image, values in zip(images, rows, strict=True):
                key = (image, index)
                state.sums[key] = state.sums[key] + values if key in state.sums else values

        seen.send(weights[..., layer.prefix :].sum(2).double() / divisor, add)
        return state

    def _patches(self, spec: ModelSpec, seen: AttentionRows) -> list[Patch | None]:
        """The patch that is asked in every image."""
        known: Sequence[Geometry | None] = seen.source.geometries if seen.source is not None else ()
        known = known or [None] * len(seen.batch)
        return [self._patch(spec, seen.layer, known[image - seen.batch.start]) for image in seen.images]

    def merge(self, a: _State, b: _State) -> _State:
        """Maps of both."""
        return _State(a.spec, a.sums | b.sums, a.asked | b.asked)

    def compute(self, state: _State) -> xr.Dataset:
        """Stack the maps, padded with NaN to the largest layer."""
        spec, chosen = state.spec, self._chosen(state.spec)
        images = sorted({image for image, _ in state.sums})
        heads = max(layer.heads for layer in spec.layers)
        height, width = (max(layer.grid[i] for layer in spec.layers) for i in (0, 1))
        maps = {(i, layer): total.reshape(-1, *spec.layers[layer].grid) for (i, layer), total in state.sums.items()}
        values = stack(maps, (images, chosen), (heads, height, width))
        coordinates = xr.Dataset(coords=layer_coordinates(spec)).isel(layer=chosen).coords
        asked = [[state.asked.get((image, layer), (-1, -1)) for layer in chosen] for image in images]
        rows, columns = np.array(asked).reshape(len(images), len(chosen), 2).transpose(2, 0, 1)
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
                "query_row": (("image", "layer"), rows),
                "query_column": (("image", "layer"), columns),
            },
            attrs={"query": self.query, "prefix_tokens": list(spec.prefix), "patch": spec.patch},
        )


def _token(layer: AttentionLayer, patch: Patch) -> int:
    return layer.prefix + patch[0] * layer.grid[1] + patch[1]
