"""The numbers of a film over time, as figure, sentence and table."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from dashboard.state import models
from probes.core.video.film import Made

KINDS = {
    "stability": "correlation with the frame before",
    "stability_on_object": "the same on the moving object",
    "iou": "IoU of mass mask and object",
}


def over_time(made: Made, name: str, colours: Mapping[str, str]) -> go.Figure | None:
    """One number of every model over the frames, as a line; None where no model has it."""
    figure = go.Figure()
    for label, numbers in made.models.items():
        values = numbers.get("each", {}).get(name, ())
        if values:
            first = 1 if name == "iou" else 2
            figure.add_scatter(
                x=list(range(first, first + len(values))),
                y=values,
                mode="lines+markers",
                name=label,
                line={"color": colours[label], "width": 2},
                marker={"color": colours[label], "symbol": models.mark(colours[label]), "size": 5},
                hovertemplate=f"{label}<br>frame %{{x}}: %{{y:.3g}}<extra></extra>",
            )
    if not figure.data:
        return None
    figure.update_xaxes(title="frame of the film", rangemode="tozero")
    return figure.update_yaxes(title=KINDS[name], range=[0, 1.03] if name == "iou" else None)


def said(made: Made) -> str:
    """What the numbers under the film are; Markdown, empty where there is none."""
    found = [numbers for numbers in made.models.values() if numbers.get("stability") is not None]
    if not found:
        return ""
    text = (
        "**Stable**: mean correlation of each frame's map with that of the frame before; 1 is a map that does not "
        f"change (n = {made.frames - 1} pairs of frames, before smoothing)."
    )
    if any(numbers["stability_on_object"] is not None for numbers in found):
        text += " **On the object**: the same over the object alone, its own way taken out."
    if any(numbers["iou"] is not None for numbers in found):
        text += " **IoU**: how well the mass mask fits the object, mean over frames."
    return text


def table(made: Made) -> pd.DataFrame:
    """A row for every model and frame."""
    rows = []
    for label, numbers in made.models.items():
        each = numbers.get("each", {})
        for place in range(made.frames if each else 0):
            row: dict[str, object] = {"model": label, "frame": place + 1}
            for name, values in each.items():
                before = place - (name != "iou")
                row[name] = values[before] if 0 <= before < len(values) else None
            rows.append(row)
    return pd.DataFrame(rows, columns=["model", "frame", *KINDS])
