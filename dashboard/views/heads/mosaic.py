"""All maps of a model as one picture, layers across and heads down, where each map can be clicked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import palette
from dashboard.draw.head_maps import layer_heads
from dashboard.draw.matrices import Square
from dashboard.draw.panels import png_uri

CELL = 56
"""Pixels of a map's longer side in the picture."""


@dataclass(frozen=True)
class Tile:
    """One map of the picture: layer and head from 0, its weights (y, x), and what they are drawn times."""

    layer: int
    head: int
    values: np.ndarray
    times: int = 1

    @property
    def drawn(self) -> np.ndarray:
        """The values that colours stand for."""
        return self.values * self.times


def tiles(attention: xr.DataArray, times: Sequence[int] = ()) -> list[Tile]:
    """Every map that there is, of the first image; the weights of a layer are drawn times a number of its own."""
    found = []
    for layer in range(attention.sizes["layer"]):
        for head, values in enumerate(layer_heads(attention, layer)):
            if np.isfinite(values).all():
                found.append(Tile(layer, head, values, times[layer] if times else 1))
    return found


def ceiling(groups: list[list[Tile]]) -> float:
    """End of a scale for all maps of all models: the 99th percentile, as one peak would darken all others."""
    everything = [tile.drawn.ravel() for group in groups for tile in group]
    return float(np.percentile(np.concatenate(everything), 99)) if everything else 1.0


def picture(maps: list[Tile], high: float | None) -> np.ndarray:
    """The mosaic as (height, width, 4) uint8: a cell a map, one transparent pixel line between cells.

    Args:
        maps: the tiles.
        high: value of the last colour; None to end every map's scale at its own maximum.
    """
    layers, heads = (max(getattr(tile, name) for tile in maps) + 1 for name in ("layer", "head"))
    rows, columns = maps[0].values.shape
    unit = CELL / max(rows, columns)
    height, width = max(round(rows * unit), 1), max(round(columns * unit), 1)
    canvas = np.zeros((heads * (height + 2), layers * (width + 2), 4), np.uint8)
    for tile in maps:
        end = high if high is not None else float(tile.drawn.max())
        rgb = palette.colours(tile.drawn.astype(float), 0.0, end or 1.0)
        cell = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_NEAREST)
        top, left = tile.head * (height + 2) + 1, tile.layer * (width + 2) + 1
        canvas[top : top + height, left : left + width, :3] = cell
        canvas[top : top + height, left : left + width, 3] = 255
    return canvas


def square(name: str, maps: list[Tile], high: float | None, colour: str) -> Square:
    """The picture for a saved file, layers and heads numbered from 1."""
    pixels = picture(maps, high)
    white = np.where(pixels[..., 3:] > 0, pixels[..., :3], np.uint8(255))
    layers, heads = (max(getattr(tile, which) for tile in maps) + 1 for which in ("layer", "head"))
    across, up = ([((k + 0.5) / count, str(k + 1)) for k in range(count)] for count in (layers, heads))
    note = f"{layers} layers, up to {heads} heads"
    return Square(name, colour, note, white, "layer", "head", across[:: 1 + layers // 24], up[:: 1 + heads // 24])


def figure(maps: list[Tile], high: float | None, colour: str, chosen: tuple[int, int]) -> go.Figure:
    """The picture with an unseen mark on every map, so that it can be clicked.

    Args:
        maps: the tiles.
        high: see `picture`.
        colour: of the model; frames the chosen map.
        chosen: layer and head, from 0.
    """
    drawn = go.Figure()
    canvas = picture(maps, high)
    layers, heads = (max(getattr(tile, name) for tile in maps) + 1 for name in ("layer", "head"))
    at: dict[str, Any] = {"xref": "x", "yref": "y", "x": 0.5, "y": 0.5, "sizex": layers, "sizey": heads}
    drawn.add_layout_image(source=png_uri(canvas), sizing="stretch", layer="below", **at)
    drawn.add_scatter(
        x=[tile.layer + 1 for tile in maps],
        y=[tile.head + 1 for tile in maps],
        mode="markers",
        marker={"symbol": "square", "size": 26, "opacity": 0.0, "color": colour},
        selected={"marker": {"opacity": 0.0}},
        unselected={"marker": {"opacity": 0.0}},
        customdata=[[float(tile.values.max()), float(tile.values.sum())] for tile in maps],
        hovertemplate="layer %{x}, head %{y}<br>largest weight %{customdata[0]:.3g}<br>"
        "%{customdata[1]:.0%} on patches<extra></extra>",
        showlegend=False,
    )
    layer, head = chosen
    drawn.add_shape(
        type="rect", x0=layer + 0.5, x1=layer + 1.5, y0=head + 0.5, y1=head + 1.5, line={"color": colour, "width": 4}
    )
    quiet: dict[str, Any] = {"showgrid": False, "zeroline": False, "constrain": "domain"}
    drawn.update_xaxes(title="layer", range=[0.5, layers + 0.5], dtick=1 if layers <= 16 else 4, **quiet)
    ratio = canvas.shape[0] / heads / (canvas.shape[1] / layers)
    drawn.update_yaxes(
        title="head",
        range=[heads + 0.5, 0.5],
        dtick=1 if heads <= 8 else 2,
        scaleanchor="x",
        scaleratio=ratio,
        constraintoward="top",
        **quiet,
    )
    return drawn.update_layout(plot_bgcolor="rgba(0,0,0,0)", hovermode="closest")
