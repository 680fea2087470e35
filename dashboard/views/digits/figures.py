"""Loss, accuracy, attention distance and positions over a training. Pure."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from dashboard.draw import chart_files, export, matrices, palette
from dashboard.draw.matrices import Square
from dashboard.draw.panels import Scale
from dashboard.state import models
from dashboard.views.digits.runs import Look

EPOCHS = "epoch (passes over 1,438 digits)"


def curves(looks: Sequence[Look]) -> go.Figure:
    """Loss and accuracy over epochs, on two axes."""
    drawn = go.Figure()
    epochs = [look.epoch for look in looks]
    top = 2.5 * math.ceil(max(look.loss for look in looks) / 2.5)  # five parts, as many as the accuracy has
    for name, values, colour, axis in (
        ("training loss", [look.loss for look in looks], models.COLOURS[0], "y"),
        ("accuracy on held-out digits", [look.accuracy for look in looks], models.COLOURS[1], "y2"),
    ):
        drawn.add_scatter(x=epochs, y=values, name=name, yaxis=axis, mode="lines+markers", line={"color": colour})
    _epochs(drawn, looks)
    return drawn.update_layout(
        height=300,
        yaxis={"title": "loss (nats)", "range": [0, top], "dtick": top / 5},
        yaxis2={
            "title": "accuracy (0 to 1)",
            "range": [0, 1],
            "dtick": 0.2,
            "showgrid": False,
            "overlaying": "y",
            "side": "right",
        },
    )


def distances(looks: Sequence[Look]) -> go.Figure:
    """Mean attention distance of every layer over epochs."""
    drawn = go.Figure()
    for layer in range(len(looks[0].distance)):
        drawn.add_scatter(
            x=[look.epoch for look in looks],
            y=[look.distance[layer] for look in looks],
            name=f"layer {layer + 1}",
            mode="lines+markers",
            line={"color": models.COLOURS[layer % len(models.COLOURS)]},
        )
    _epochs(drawn, looks)
    furthest = math.ceil(max(max(look.distance) for look in looks) / 2) * 2
    drawn.update_yaxes(title="mean attention distance (px of 16)", range=[0, furthest], dtick=2)
    return drawn.update_layout(height=300)


def positions(look: Look) -> go.Figure:
    """Similarity of every position to one in the middle."""
    height, width = look.similarity.shape[2:]
    row, column = height // 2, width // 2
    drawn = go.Figure()
    drawn.add_heatmap(
        z=look.similarity[:, :, row, column],
        x=list(range(1, width + 1)),
        y=list(range(1, height + 1)),
        zmin=-1,
        zmax=1,
        colorscale=palette.plotly_scale(signed=True),
        colorbar={"title": {"text": "cosine (−1 to 1)", "side": "right"}, "thickness": 12, "dtick": 0.5},
        hovertemplate="row %{y}, column %{x}: %{z:.3f}<extra></extra>",
    )
    drawn.add_scatter(x=[column + 1], y=[row + 1], mode="markers", marker={"symbol": "x", "color": "black"})
    drawn.update_xaxes(title="column of patches", dtick=1, constrain="domain")
    drawn.update_yaxes(title="row of patches", dtick=1, autorange="reversed", scaleanchor="x")
    return drawn.update_layout(height=300, showlegend=False)


def document(looks: Sequence[Look], said: str) -> str:
    """The three charts under each other as SVG."""
    last = looks[-1]
    height, width = last.similarity.shape[2:]
    row, column = height // 2, width // 2
    scale = Scale(-1.0, 1.0, "cosine similarity", signed=True)
    square = Square(
        "Position embeddings",
        models.COLOURS[0],
        f"similarity to row {row + 1}, column {column + 1}",
        matrices.painted(last.similarity[:, :, row, column], scale),
        "column of patches",
        "row of patches",
    )
    return export.stacked(
        [
            chart_files.svg(curves(looks), "How does attention form while a model learns?", said),
            chart_files.svg(distances(looks), "Mean attention distance of each layer"),
            matrices.svg([square], scale=scale, title="Which places are alike", caption=""),
        ]
    )


def table(looks: Sequence[Look]) -> pd.DataFrame:
    """A row an epoch: loss, accuracy, and the mean attention distance of each layer, counted from 1."""
    rows = [
        {"epoch": look.epoch, "training_loss_nats": look.loss, "accuracy_held_out": look.accuracy}
        | {f"distance_px_layer_{layer}": value for layer, value in enumerate(look.distance, start=1)}
        for look in looks
    ]
    return pd.DataFrame(rows)


def _epochs(drawn: go.Figure, looks: Sequence[Look]) -> None:
    last = math.ceil(looks[-1].epoch)
    step = next(step for step in (1, 2, 5, 10) if last <= 8 * step)
    drawn.update_xaxes(title=EPOCHS, range=[0, last + 0.3], dtick=step)
