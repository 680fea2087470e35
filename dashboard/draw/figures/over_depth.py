"""A quantity of the feature maps over the depth of all models, attention and MLP shaded. Pure."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from dashboard.draw.figures.courses import NAMES, Course
from dashboard.draw.palette import number
from dashboard.state import models

SHADES = {"attention": ("attention", "rgba(120,130,150,0.30)"), "mlp": ("MLP", "rgba(230,170,60,0.13)")}
"""Name and colour of what is shaded."""


def figure(courses: Mapping[str, Course], colours: Mapping[str, str], title: str, *, log: bool = False) -> go.Figure:
    """All models in one chart: a point after every attention, MLP or block.

    Args:
        courses: title to course.
        colours: title to colour.
        title: of the axis, with units.
        log: the axis is logarithmic.
    """
    drawn = go.Figure()
    depths = {one.count for one in courses.values()}
    relative = len(depths) > 1
    low, high = _ends(courses, log=log)
    for shaded in _shaded(courses):
        unit = shaded.count if relative else 1
        for span, (name, colour) in SHADES.items():
            for place, depth in enumerate(shaded.depth[np.array(shaded.spans) == span] / unit):
                drawn.add_scatter(
                    x=[depth - 0.5 / unit, depth, depth, depth - 0.5 / unit],
                    y=[high, high, low, low],
                    mode="lines",
                    fill="toself",
                    fillcolor=colour,
                    line={"width": 0, "color": colour},
                    hoverinfo="skip",
                    name=name,
                    legendgroup=name,
                    showlegend=place == 0,
                )
    for name, one in courses.items():
        after = np.array([_after(span, int(block)) for span, block in zip(one.spans, one.blocks, strict=True)])
        drawn.add_scatter(
            x=one.depth / (one.count if relative else 1),
            y=one.values,
            mode="lines+markers",
            name=name,
            line={"color": colours[name], "width": 2.5},
            marker={"color": colours[name], "symbol": models.mark(colours[name]), "size": 8},
            error_y={"array": one.errors, "thickness": 1, "width": 0, "color": colours[name]},
            customdata=np.stack([after, [_at(frequency) for frequency in one.frequency]], 1),
            hovertemplate=f"{name}<br>%{{customdata[0]}}: %{{y:.3g}}%{{customdata[1]}}<extra></extra>",
        )
    ticks = {} if relative or max(depths) > 16 else {"dtick": 1}
    drawn.update_xaxes(
        title="relative depth (0: embedding, 1: after the last block)" if relative else "blocks that were run",
        range=[-0.01, 1.01] if relative else [-0.1, max(depths) + 0.1],
        showgrid=False,
        zeroline=False,
        **ticks,
    )
    drawn.update_yaxes(title=title, range=[np.log10(low), np.log10(high)] if log else [low, high], zeroline=False)
    scale = {"type": "log", "dtick": "D2"} if log else {"type": "linear"}
    return drawn.update_yaxes(scale).update_layout(height=460)


def _shaded(courses: Mapping[str, Course]) -> list[Course]:
    """One of the models that have attention and MLP apart, if they have them at the same depths; else none."""
    split = [one for one in courses.values() if "attention" in one.spans]
    return split[:1] if len({(one.spans, one.count) for one in split}) == 1 else []


def _ends(courses: Mapping[str, Course], *, log: bool) -> tuple[float, float]:
    values = np.concatenate([one.values[np.isfinite(one.values)] for one in courses.values()])
    values = np.log10(values[values > 0]) if log else values
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = 0.06 * ((high - low) or 1.0)
    ends = low - margin, high + margin
    return (10 ** ends[0], 10 ** ends[1]) if log else ends


def _after(span: str, block: int) -> str:
    if block < 0:
        return "embedding"
    return f"after {NAMES[span]} {'before' if span == 'merging' else 'of'} block {block + 1}"


def _at(frequency: float) -> str:
    return f" at {number(frequency / np.pi)} π" if np.isfinite(frequency) else ""
