"""Similarities of every two positions: a mosaic with a tile for each, and what it says. Pure."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import palette
from dashboard.draw.panels import Scale
from dashboard.state.selection import Point

MOST_CELLS = 75_000


def mosaic(similarity: xr.DataArray) -> tuple[np.ndarray, list[str], list[str], int]:
    """Tiles with a gap of one cell between them, what each row and column of cells is, and the step between tiles.

    A fine grid would make a picture of millions of cells; then only every ``step``-th position has a tile.
    """
    values = similarity.transpose("query_y", "query_x", "y", "x").values
    height, width = values.shape[:2]
    step = 1
    while -(-height // step) * (height + 1) * -(-width // step) * (width + 1) > MOST_CELLS:
        step += 1
    tiles = np.pad(values[::step, ::step].astype(np.float64), ((0, 0),) * 2 + ((0, 1),) * 2, constant_values=np.nan)
    picture = tiles.swapaxes(1, 2).reshape(tiles.shape[0] * (height + 1), -1)[:-1, :-1]

    def names(kind: str, size: int) -> list[str]:
        return [
            f"{kind} {q + 1} against {kind} {k + 1}" if k < size else f"gap {q}"
            for q in range(0, size, step)
            for k in range(size + 1)
        ][:-1]

    return picture, names("row", height), names("column", width), step


def figure(dataset: xr.Dataset, *, bar: bool = True) -> go.Figure:
    """The mosaic of one model, colours centred at 0, with a colour bar of its own where models do not share one."""
    picture, rows, columns, _ = mosaic(dataset["similarity"])
    scale = scale_of(dataset)
    drawn = go.Figure()
    drawn.add_heatmap(
        z=picture.round(3).astype(np.float32),
        x=columns,
        y=rows,
        zmin=scale.low,
        zmax=scale.high,
        colorscale=palette.plotly_scale(signed=True),
        showscale=bar,
        colorbar={
            "title": {"text": scale.units, "side": "bottom"},
            "orientation": "h",
            "y": -0.08,
            "yanchor": "top",
            "thickness": 10,
            "outlinewidth": 0,
            "nticks": 5,
        },
        hovertemplate="%{y}<br>%{x}<br>%{z:.3f}<extra></extra>",
        hoverongaps=False,
    )
    quiet = {"showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False, "constrain": "domain"}
    drawn.update_xaxes(title="column of the position", type="category", **quiet)
    drawn.update_yaxes(
        title="row of the position",
        type="category",
        autorange="reversed",
        scaleanchor="x",
        constraintoward="top",
        **quiet,
    )
    return drawn.update_layout(height=460, plot_bgcolor="rgba(0,0,0,0)")


def scale_of(dataset: xr.Dataset) -> Scale:
    """What the colours mean, 0 in the middle: −1 to 1 for a cosine, else to the largest magnitude."""
    kind = dataset["similarity"].attrs["units"]
    units = {"cosine": "cosine similarity", "dot": "dot product"}.get(kind, "bias, attention score")
    if kind == "cosine":
        return Scale(-1.0, 1.0, units, signed=True)
    return Scale.over([dataset["similarity"].values], units, signed=True)


def at_point(dataset: xr.Dataset, point: Point) -> xr.Dataset:
    """The similarity of all positions to the one under a point of the grid."""
    u, v = point
    return dataset.isel(query_y=int(v * dataset.sizes["query_y"]), query_x=int(u * dataset.sizes["query_x"]))


def neighbours(similarity: xr.DataArray) -> tuple[float, float]:
    """Mean similarity of positions side by side, and of all others."""
    values = similarity.transpose("query_y", "query_x", "y", "x").values
    rows, columns = np.arange(values.shape[0])[:, None], np.arange(values.shape[1])[None]
    rows, columns = np.broadcast_arrays(rows, columns)
    across = np.abs(rows[:, :, None, None] - rows) + np.abs(columns[:, :, None, None] - columns)
    near, far = values[across == 1], values[across > 1]
    return float(near.mean()) if near.size else np.nan, float(far.mean()) if far.size else np.nan
