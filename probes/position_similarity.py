"""Position similarity: which positions of the input a model tells apart, read from its weights."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import xarray as xr
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from model_zoo.adapter import Adapter, ModelSpec
from probes.core.base import Probe, one_of
from probes.core.capture import Weights

TABLE = "learned position table"
ROTARY = "rotary embedding"
BIAS = "relative position bias"


@dataclass
class _State:
    spec: ModelSpec
    values: Tensor | None = None  # (query, key), positions row by row
    grid: tuple[int, int] = (0, 0)
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PositionSimilarity(Probe):
    r"""Similarity of the position embeddings of every two patches.

    .. math:: s_{ij} = \frac{E_i \cdot E_j}{\lVert E_i\rVert\,\lVert E_j\rVert}
        \quad\text{(cosine)}, \qquad s_{ij} = E_i \cdot E_j \quad\text{(dot)}

    with :math:`E` the learned table without the rows of prefix tokens, interpolated to the present grid as the model
    does it. Without a table it is derived: from a rotary embedding, :math:`E_i` are its cosines and sines, so that the
    cosine is how far turning one and the same vector to positions i and j leaves it alike; from relative position
    biases :math:`s_{ij} = B_{ij}`, what is added to the score of query i and key j, mean over heads and layers,
    whichever metric is asked for. In windowed models the positions are those of one window.

    Args:
        metric: ``cosine`` or ``dot``, the raw dot product.

    Returns:
        ``similarity`` (y, x, query_y, query_x): a map (y, x) for each position (query_y, query_x). Cosine: −1 to 1.
        Biases: in units of the score before the softmax, no fixed range. ``attrs["source"]`` says which of the three.

    Note:
        It shows what the table holds, not what the network makes of it: position can also be learned from the zero
        padding of convolutions and, in a model that has both, from its rotary embedding. Compare tiles by their shape;
        the size of a dot product or bias depends on the training.

    Reference:
        Dosovitskiy et al. 2021, Fig. 7 centre, arXiv:2010.11929.
    """

    metric: str = "cosine"
    title: ClassVar[str] = "Position similarity"
    reads: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __post_init__(self) -> None:
        one_of("metric", self.metric, ("cosine", "dot"))

    def undefined(self, spec: ModelSpec) -> str | None:
        """Networks without patches."""
        if not spec.is_transformer:
            return "this model is convolutional: it has no position embedding, it knows positions by its padding"
        return None

    def init(self, spec: ModelSpec) -> _State:
        """Nothing read."""
        return _State(spec)

    def update(self, state: _State, seen: Weights) -> _State:
        """Read the table, or what there is in its stead."""
        adapter = seen.adapter
        with torch.inference_mode():
            if (table := _table(adapter)) is not None:
                state.grid, state.values = adapter.spec.grid, self._similarity(table)
                also = " (the model rotates queries and keys as well)" if getattr(adapter.module, "rope", None) else ""
                state.attrs = {"source": TABLE, "units": self.metric, "remark": f"{TABLE}{also}"}
            elif (rotary := _rotary(adapter)) is not None:
                state.grid, state.values = adapter.spec.grid, self._similarity(rotary)
                state.attrs = {"source": ROTARY, "units": self.metric, "remark": f"derived from the {ROTARY}"}
            elif (found := _bias(adapter)) is not None:
                state.values, state.grid, layers = found
                where = "over the whole grid" if state.grid == adapter.spec.grid else "inside one window"
                remark = (
                    f"{BIAS} {where}, mean over heads and {layers} layers; there is no table to take a {self.metric} of"
                )
                state.attrs = {"source": BIAS, "units": "attention score", "remark": remark}
        return state

    def _similarity(self, embedding: Tensor) -> Tensor:
        if self.metric == "cosine":
            embedding = nn.functional.normalize(embedding, dim=-1)
        return embedding @ embedding.T

    def merge(self, a: _State, b: _State) -> _State:
        """Either: they read the same weights."""
        return b if a.values is None else a

    def compute(self, state: _State) -> xr.Dataset:
        """Lay the positions out on the grid."""
        if state.values is None:
            reason = "this model has no table, rotary embedding or bias of positions that can be read by itself"
            return xr.Dataset(attrs={"undefined": reason})
        height, width = state.grid
        values = state.values.float().cpu().numpy().reshape(height, width, height, width)
        units = state.attrs["units"]
        return xr.Dataset(
            {"similarity": (("query_y", "query_x", "y", "x"), values, {"units": units, "long_name": "similarity"})},
            attrs={"metric": self.metric, **{k: v for k, v in state.attrs.items() if k != "units"}},
        ).transpose("y", "x", "query_y", "query_x")


def _table(adapter: Adapter) -> Tensor | None:
    """The learned table without prefix rows at the present grid: (patches, channels) in float64."""
    module, grid = adapter.module, adapter.spec.grid
    table = next((t for n in ("pos_embed", "patch_pos") if isinstance(t := getattr(module, n, None), Tensor)), None)
    if table is None:
        return None
    if table.ndim == 4:  # (1, height, width, channels)
        table = table.flatten(1, 2)
    embed = getattr(module, "patch_embed", None) or getattr(module, "pixel_embed", None)
    own = tuple(getattr(embed, "grid_size", None) or grid)
    prefix = table.shape[1] - own[0] * own[1]
    table = table.detach().double()
    if own != grid:
        table = resample_abs_pos_embed(table, new_size=list(grid), old_size=list(own), num_prefix_tokens=prefix)
    return table[0, prefix:].double()


def _rotary(adapter: Adapter) -> Tensor | None:
    """Sines and cosines of every position: (patches, features) in float64."""
    rope = getattr(adapter.module, "rope", None)
    if rope is None:
        return None
    turned = rope.get_embed(shape=list(adapter.spec.grid))
    if isinstance(turned, tuple):
        turned = torch.cat(turned, -1)
    if turned.ndim == 4:  # layers and heads of their own: (layer, head, patches, features)
        turned = turned.permute(2, 0, 1, 3).flatten(1)
    return turned.detach().double()


def _bias(adapter: Adapter) -> tuple[Tensor, tuple[int, int], int] | None:
    """Mean bias (query, key), the grid that it is over, and how many layers have one over that grid."""
    found: list[tuple[Tensor, tuple[int, int]]] = []
    shared = getattr(adapter.module, "rel_pos_bias", None)
    for layer in adapter.spec.layers:
        module = adapter.module.get_submodule(layer.name)
        bias = _bias_of(module, shared)
        if bias is not None:
            grid = layer.window if layer.kind == "window" else layer.grid
            first = bias.shape[-1] - grid[0] * grid[1]
            found.append((bias.detach().double().reshape(-1, *bias.shape[-2:]).mean(0)[first:, first:], grid))
    if not found:
        return None
    grid = found[0][1]
    alike = [bias for bias, other in found if other == grid]
    return torch.stack(alike).mean(0), grid, len(alike)


def _bias_of(module: Any, shared: Any) -> Tensor | None:
    """What an attention layer adds to its scores: (..., query, key)."""
    if hasattr(module, "cpb_mlp"):  # SwinV2 computes its table from relative coordinates
        table = module.cpb_mlp(module.relative_coords_table).view(-1, module.num_heads)
        side = module.relative_position_index.shape[-1]
        return 16 * table[module.relative_position_index.flatten()].sigmoid().T.reshape(-1, side, side)
    if getattr(module, "relative_position_bias_table", None) is not None:
        bias: Tensor = module._get_rel_pos_bias()
        return bias
    if shared is not None:  # BEiT before fine-tuning: one table for all layers
        common: Tensor = shared()
        return common
    relative: Any = getattr(module, "rel_pos", None)
    return relative.get_bias() if hasattr(relative, "get_bias") else None
