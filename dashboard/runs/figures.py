"""Numbers of stored results as Plotly figures: curves of all models in one, pictures one a model on one scale. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import charts, palette
from dashboard.draw.panels import Scale
from dashboard.runs.quantities import Quantity, Values
from dashboard.state import models

WORDS = {"y": "row", "x": "column", "layer_a": "layer", "layer_b": "layer", "image_b": "image", "c": "colour"}
"""What people call dimensions."""
MOST_TICKS = 40
MOST_LETTERS = 56
"""Of an axis; of a longer one the units are said, as the title stands above."""
RELATIVE = "relative depth (0: first layer, 1: last layer)"

Read = Mapping[str, Values]
Colours = Mapping[str, str]


def word(dim: str) -> str:
    """What people call a dimension."""
    return WORDS.get(dim, dim.replace("_", " "))


def plain(text: str, most: int = 60) -> str:
    """A name that anyone may have chosen, so that neither Plotly nor a page takes any of it for a sign of its own."""
    text = "".join(c if c.isprintable() else " " for c in text).replace("<", "‹").replace(">", "›").replace("%{", "% {")
    return text if len(text) <= most else text[: most - 1] + "…"


def drawn(quantity: Quantity, read: Read, colours: Colours, scale: Scale | None) -> dict[str, go.Figure]:
    """Figures by model; under no name the one that all share.

    Args:
        quantity: what is drawn.
        read: model to numbers.
        colours: model to colour.
        scale: what the colours of pictures mean, see `scale_of`.
    """
    if not read:
        return {}
    if quantity.plane is not None:
        down, across = quantity.plane
        return {name: _picture(quantity, one.mean, (down, across), scale) for name, one in read.items()}
    dims = next(iter(read.values())).mean.dims
    if {*dims} == {"layer", "head"}:
        return {"": _heads(quantity, read, colours)}
    return {"": _curves(quantity, read, colours) if dims else _bars(quantity, read, colours)}


def scale_of(quantity: Quantity, arrays: Sequence[np.ndarray]) -> Scale | None:
    """The scale that all pictures share, see `Scale.over_most`; None for curves, colours and nothing."""
    if quantity.plane is None or quantity.paint or not arrays:
        return None
    numbers = [np.asarray(array, np.float64) for array in arrays]
    if any(bool((array < 0).any()) for array in numbers):
        return Scale.over(numbers, quantity.units, signed=True)
    return Scale.over_most(numbers, quantity.units)


def _heads(quantity: Quantity, read: Read, colours: Colours) -> go.Figure:
    datasets = {
        name: xr.Dataset({quantity.name: one.mean.transpose("layer", "head").assign_attrs(units=quantity.units)})
        for name, one in read.items()
    }
    figure = charts.over_layers(datasets, quantity.name, colours, label=quantity.title)
    figure.update_yaxes(title=_axis(quantity))
    for trace in figure.data:
        error = read[trace.legendgroup].error
        if trace.mode == "markers" and error is not None:
            layers, heads = (np.asarray(trace.customdata).T - 1).astype(int)
            spread = error.transpose("layer", "head").values[layers, heads]
            trace.error_y = {"array": spread, "thickness": 1, "width": 0, "color": trace.marker.color}
    return _zoomed(figure, [one.mean.values for one in read.values()])


def _zoomed(figure: go.Figure, arrays: Sequence[np.ndarray]) -> go.Figure:
    """The axis begins at 0 unless all values lie in its upper half; then where they do."""
    known = np.concatenate([array[np.isfinite(array)] for array in arrays])
    apart = known.size and known.min() > known.max() / 2
    return figure.update_yaxes(rangemode="normal" if apart else "tozero").update_layout(height=420)


def _curves(quantity: Quantity, read: Read, colours: Colours) -> go.Figure:
    """A line a model along the one dimension there is; of single images their points."""
    figure = go.Figure()
    dim = str(next(iter(read.values())).mean.dims[0])
    relative = dim == "layer" and len({one.mean.sizes[dim] for one in read.values()}) > 1
    for name, one in read.items():
        error = None if one.error is None else {"array": one.error.values, "thickness": 1, "width": 3}
        figure.add_scatter(
            x=_along(one.mean, dim, relative),
            y=one.mean.values,
            error_y=error,
            mode="markers" if dim == "image" else "lines+markers",
            name=name,
            line={"color": colours[name], "width": 2.5},
            marker={"color": colours[name], "symbol": models.mark(colours[name]), "size": 8},
            hovertemplate=f"{name}<br>{word(dim)} %{{x}}: %{{y:.3g}}<extra></extra>",
        )
    first = next(iter(read.values())).mean
    figure.update_xaxes(title=RELATIVE if relative else word(dim))
    counted = not relative and _along(first, dim, relative).dtype.kind == "f" and first.sizes[dim] <= 16
    if counted and np.allclose(_along(first, dim, relative) % 1, 0):
        figure.update_xaxes(dtick=1)
    if (texts := _texts(first, dim)) is not None:
        figure.update_xaxes(tickvals=list(range(1, len(texts) + 1)), ticktext=texts)
    figure.update_yaxes(title=_axis(quantity))
    return _zoomed(figure, [one.mean.values for one in read.values()])


def _bars(quantity: Quantity, read: Read, colours: Colours) -> go.Figure:
    figure = go.Figure()
    figure.add_bar(
        x=[float(one.mean) for one in read.values()],
        y=list(read),
        orientation="h",
        marker={"color": [colours[name] for name in read]},
        hovertemplate="%{y}: %{x:.4g}<extra></extra>",
    )
    figure.update_xaxes(title=_axis(quantity)).update_yaxes(title="model", autorange="reversed")
    return figure.update_layout(height=120 + 44 * len(read))


def _picture(quantity: Quantity, mean: xr.DataArray, plane: tuple[str, str], scale: Scale | None) -> go.Figure:
    down, across = plane
    figure = go.Figure()
    if quantity.paint:
        values = mean.transpose(down, across, ...).values
        figure.add_image(z=np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8), hoverinfo="skip")
    else:
        values = trimmed(mean.transpose(down, across).values)
        assert scale is not None
        figure.add_heatmap(
            z=values,
            x=list(range(1, values.shape[1] + 1)),
            y=list(range(1, values.shape[0] + 1)),
            zmin=scale.low,
            zmax=scale.high,
            colorscale=palette.plotly_scale(signed=scale.signed),
            showscale=False,
            hovertemplate=f"{word(down)} %{{y}}, {word(across)} %{{x}}: %{{z:.3g}}<extra></extra>",
        )
    square = max(values.shape[:2]) <= 4 * min(values.shape[:2])
    quiet = {"showgrid": False, "zeroline": False, "constrain": "domain"}
    quiet |= {"visible": False} if quantity.paint else {"nticks": 8}
    figure.update_xaxes(title=word(across), **quiet)
    place = {"scaleanchor": "x", "constraintoward": "top"} if square else {}
    upward = word(down) == "layer"  # as CKA's own squares: the first layer below
    figure.update_yaxes(title=word(down), autorange=True if upward else "reversed", **place, **quiet)
    return figure.update_layout(height=380 if square else 240, margin={"t": 8}, plot_bgcolor="rgba(0,0,0,0)")


def trimmed(values: np.ndarray) -> np.ndarray:
    """A map without the rows and columns at its end that a layer with a smaller grid does not have."""
    known = np.isfinite(values)
    rows, columns = (np.flatnonzero(known.any(axis)) for axis in (1, 0))
    return values[: rows[-1] + 1, : columns[-1] + 1] if rows.size else values


def _along(mean: xr.DataArray, dim: str, relative: bool) -> np.ndarray:
    """Where the points of a curve stand: at their layer, at what the dimension counts, or one after the other."""
    if dim != "layer" and dim != "image" and dim in mean.coords and mean[dim].dtype.kind == "f":
        return np.asarray(mean[dim].values)
    return charts.positions(mean.sizes[dim], relative=relative)


def _texts(mean: xr.DataArray, dim: str) -> list[str] | None:
    """What stands along the axis where the places have names."""
    for name, coordinate in mean.coords.items():
        named = coordinate.dims == (dim,) and coordinate.dtype.kind == "U" and dim not in ("layer", "image")
        if named and coordinate.size <= MOST_TICKS and len({*coordinate.values.tolist()}) == coordinate.size:
            return [plain(str(text), 24) for text in mean[name].values]
    return None


def _axis(quantity: Quantity) -> str:
    both = f"{plain(quantity.title)} ({plain(quantity.units)})"
    return both if quantity.units and len(both) <= MOST_LETTERS else plain(quantity.units or quantity.title)
