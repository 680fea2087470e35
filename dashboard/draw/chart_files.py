"""The charts of a page as SVG for a slide, drawn by Vega without a browser. Pure."""

from typing import Any, cast

import altair as alt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import vl_convert

from dashboard.draw import export

WIDE, TALL = 1040, 300
"""Pixels of the chart's inside; subplots share it."""
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
SHAPES = {"x": "cross", "star": "wedge", "triangle-up": "triangle-up"}
DASHES = {"dash": [6, 4], "dot": [2, 3]}
GREY = "#8a8f98"


def svg(figure: go.Figure, title: str, caption: str = "", *, tall: int = TALL) -> str:
    """A figure of scatters and horizontal bars, with its subplots, axes, legend, bands and reference lines.

    Args:
        figure: as the page draws it; its colours, marks, ranges and ticks are kept.
        title: heading.
        caption: what the numbers say, in Markdown, which is taken out.
        tall: pixels of all subplots together.
    """
    places = dict.fromkeys((trace.xaxis or "x", trace.yaxis or "y") for trace in figure.data)
    beside = [axes for axes in places if figure.layout[_named(axes[1])].overlaying is None]
    named = {trace.name: trace for trace in figure.data if trace.type == "scatter" and trace.showlegend is not False}
    across = len({tuple(figure.layout[_named(x)].domain or (0, 1)) for x, _ in beside})
    down = -(-len(beside) // across)
    size = {"width": WIDE // across - (60 if across > 1 else 0), "height": tall // down}
    titles = [note.text for note in figure.layout.annotations][: len(beside)]
    drawn = []
    for index, axes in enumerate(beside):
        layers = [_layer(figure, axes, named)]
        layers += [_layer(figure, other, named, right=True) for other in places if other not in beside]
        both = alt.layer(*layers).resolve_scale(y="independent") if len(layers) > 1 else layers[0]
        drawn.append(both.properties(**size, title=titles[index] if titles else ""))
    whole = alt.vconcat(*(alt.hconcat(*drawn[row : row + across]) for row in range(0, len(drawn), across)))
    lines = export.wrap(export.plain(caption), int(WIDE / export.LETTER))
    text = alt.TitleParams(
        title, subtitle=lines, anchor="start", fontSize=22, subtitleFontSize=export.TEXT, subtitlePadding=8, offset=16
    )
    large = {"labelFontSize": 14, "titleFontSize": 14}
    whole = whole.properties(background="white", padding=export.MARGIN, title=text).configure(font=FONT)
    whole = whole.configure_axis(**large, titleFontWeight="normal").configure_legend(
        **large, orient="top", labelLimit=400
    )
    written: str = vl_convert.vegalite_to_svg(whole.configure_title(fontSize=15).to_json())
    return written


def _named(axis: str) -> str:
    """``x2`` as the layout calls it."""
    return f"{axis[0]}axis{axis[1:]}"


def _axis(figure: go.Figure, name: str, *, right: bool = False) -> dict[str, Any]:
    """Title, range, ticks and kind of an axis."""
    axis = figure.layout[_named(name)]
    scale: dict[str, Any] = {"nice": False, "zero": axis.rangemode == "tozero"}
    if axis.range is not None:
        ends = [10**end for end in axis.range] if axis.type == "log" else list(axis.range)
        scale["domain"] = ends
    if axis.type == "log":
        scale["type"] = "log"
    ticks: dict[str, Any] = {"grid": not right and axis.showgrid is not False, "tickCount": 6}
    if right:
        ticks["orient"] = "right"
    if axis.dtick and axis.range is not None and axis.type != "log":
        ticks["values"] = np.arange(axis.range[0], axis.range[1] + 1e-9, axis.dtick).round(9).tolist()
    if axis.tickvals is not None:
        ticks["values"] = [float(value) for value in axis.tickvals]
        if axis.ticktext is not None:
            texts = dict(zip(ticks["values"], axis.ticktext, strict=True))
            cases = [f"abs(datum.value - {at!r}) < 1e-6 ? '{text}'" for at, text in texts.items()]
            ticks["labelExpr"] = " : ".join([*cases, "datum.label"])
    return {"title": axis.title.text or "", "scale": alt.Scale(**scale), "axis": alt.Axis(**ticks)}


def _layer(figure: go.Figure, axes: tuple[str, str], named: dict[str, Any], *, right: bool = False) -> alt.LayerChart:
    """All traces and reference lines of one pair of axes."""
    x = alt.X("x:Q", **_axis(figure, axes[0]))
    y = alt.Y("y:Q", **_axis(figure, axes[1], right=right))
    colours = alt.Scale(domain=list(named), range=[trace.line.color or trace.marker.color for trace in named.values()])
    colour = alt.Color("name:N", scale=colours, title=None)
    layers: list[alt.Chart] = []
    for trace in figure.data:
        if (trace.xaxis or "x", trace.yaxis or "y") != axes:
            continue
        if trace.type == "bar":
            layers.append(_bars(trace, figure, axes))
        elif trace.fill == "toself":
            layers.append(_band(trace, x, y))
        else:
            own = alt.value(trace.line.color or trace.marker.color)
            layers += _series(trace, x, y, colour if trace.name in named else own)
    for shape in figure.layout.shapes:
        if shape.xref.split()[0] != axes[0] or shape.yref.split()[0] != axes[1]:
            continue
        level = shape.xref.endswith("domain")
        base = alt.Chart(pd.DataFrame({"x": [shape.x0], "y": [shape.y0]}))
        rule = base.mark_rule(color=shape.line.color or GREY, strokeDash=DASHES.get(shape.line.dash, [1, 0]))
        layers.append(rule.encode(y=y) if level else rule.encode(x=x))
    return cast(alt.LayerChart, alt.layer(*layers))


def _series(trace: go.Scatter, x: alt.X, y: alt.Y, colour: Any) -> list[alt.Chart]:
    rows = pd.DataFrame(
        {"x": trace.x, "y": np.asarray(trace.y, float), "name": trace.name, "place": range(len(trace.x))}
    )
    base, layers = alt.Chart(rows).encode(x=x, y=y, color=colour), []
    if trace.error_y.array is not None:
        error = np.nan_to_num(np.asarray(trace.error_y.array, float))
        ends = rows.assign(y=rows["y"] - error, high=rows["y"] + error)
        layers.append(alt.Chart(ends).mark_rule(opacity=0.5).encode(x=x, y=y, y2="high:Q", color=colour))
    if "lines" in (trace.mode or "lines"):
        line = base.mark_line(strokeWidth=trace.line.width or 2, strokeDash=DASHES.get(trace.line.dash, [1, 0]))
        layers.append(line.encode(order="place:Q"))
    if "markers" in (trace.mode or ""):
        symbol = str(trace.marker.symbol or "circle")
        most = float(np.max(7 if trace.marker.size is None else trace.marker.size))
        shape, opacity = symbol.removesuffix("-open"), float(trace.marker.opacity or 1)
        filled = shape == symbol
        shape = SHAPES.get(shape, shape)
        layers.append(base.mark_point(filled=filled, shape=shape, opacity=opacity, size=most**2))
    return layers


def _band(trace: go.Scatter, x: alt.X, y: alt.Y) -> alt.Chart:
    """A filled outline whose first half runs along the upper edge and whose second half runs back along the lower."""
    half = len(trace.x) // 2
    high, low = np.asarray(trace.y, float)[:half], np.asarray(trace.y, float)[half:][::-1]
    rows = pd.DataFrame({"x": np.asarray(trace.x, float)[:half], "y": high, "low": low})
    return alt.Chart(rows).mark_area(color=trace.fillcolor, opacity=trace.opacity or 1).encode(x=x, y=y, y2="low:Q")


def _bars(trace: go.Bar, figure: go.Figure, axes: tuple[str, str]) -> alt.Chart:
    """Horizontal bars, the first on top."""
    rows = pd.DataFrame({"x": trace.x, "y": trace.y, "colour": trace.marker.color})
    title = figure.layout[_named(axes[1])].title.text or ""
    return (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            x=alt.X("x:Q", **_axis(figure, axes[0])),
            y=alt.Y("y:N", sort=None, title=title, axis=alt.Axis(labelLimit=300)),
            color=alt.Color("colour:N", scale=None),
        )
    )
