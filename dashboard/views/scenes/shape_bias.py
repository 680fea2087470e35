"""Shape bias of the shipped models, and what surface each class typically has."""

import pandas as pd
import plotly.graph_objects as go

from dashboard.draw import palette
from dashboard.state import models
from model_zoo.catalog import CATALOG
from model_zoo.scenes import CLASSES
from model_zoo.textures import SURFACES

Cards = dict[str, dict[str, float]]
"""Title of a shipped model to its figures."""


def measured() -> Cards:
    """Shape bias and top-1 (of the classifier, else of the linear probe) in the cards of the shipped models."""
    found = {}
    for entry in CATALOG.values():
        figures = entry.card().get("figures", {}) if entry.weights == "shipped" else {}
        if "shape_bias" in figures:
            found[entry.title] = {
                "shape bias": figures["shape_bias"],
                "accuracy": figures.get("top1", figures.get("linear", float("nan"))),
                "decisions": figures["shape_decided"] + figures["surface_decided"],
            }
    return found


def figure(cards: Cards) -> go.Figure:
    """Shape bias of every shipped model as bars, from surface (0) to shape (1)."""
    colours = {entry.title: models.own_colour(entry.key) for entry in CATALOG.values()}
    drawn = go.Figure()
    drawn.add_bar(
        x=[values["shape bias"] for values in cards.values()],
        y=list(cards),
        orientation="h",
        marker={"color": [colours[title] for title in cards]},
        customdata=[[values["accuracy"], values["decisions"]] for values in cards.values()],
        hovertemplate="%{y}: shape bias %{x:.3f}<br>n = %{customdata[1]} decisions<br>"
        "accuracy on scenes as in training %{customdata[0]:.3f}<extra></extra>",
    )
    drawn.add_vline(x=0.5, line={"dash": "dot", "color": "gray"})
    drawn.update_xaxes(title="shape bias (0: by surface, 1: by shape)", range=[0, 1])
    drawn.update_yaxes(autorange="reversed")
    return drawn.update_layout(height=90 + 40 * len(cards), showlegend=False)


def table() -> pd.DataFrame:
    """Class, texture and palette."""
    rows = [(name, *surface) for name, surface in zip(CLASSES, SURFACES, strict=True)]
    return pd.DataFrame(rows, columns=["class", "typical texture", "typical palette"])


def reading(found: Cards) -> str:
    """Who goes by shape most, and who least."""
    order = sorted(found, key=lambda name: found[name]["shape bias"])
    low, high = (palette.number(found[name]["shape bias"]) for name in (order[0], order[-1]))
    return (
        f"**{order[-1]}** goes by shape most (shape bias {high}), **{order[0]}** least ({low}); "
        "n = 1,000 cue-conflict scenes each, answers that name neither left out."
    )
