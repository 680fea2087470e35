"""Scores of every head against the objects' masks, summed up: a table, a chart, an answer in words. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.draw.palette import number
from dashboard.state import models


@dataclass(frozen=True)
class Scores:
    """One model's heads over the images that have a mask.

    Attributes:
        iou: (image, head), IoU of the mass mask with the object.
        pointing: (image, head), 1 where the highest patch lies on the object.
        mass_inside: (image, head), share of the map's mass on the object.
        area: (image,), the object's share of what the model sees: what an even map's ``mass_inside`` would be.
        untrained: random weights, the baseline.
    """

    iou: np.ndarray
    pointing: np.ndarray
    mass_inside: np.ndarray
    area: np.ndarray
    untrained: bool = False

    @property
    def best(self) -> int:
        """The head with the highest mean IoU, from 0."""
        return int(self.iou.mean(0).argmax())


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error, NaN for a single value."""
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(values.mean()), error


def table(scores: Mapping[str, Scores]) -> pd.DataFrame:
    """A row a model: its best head by mean IoU, that head's numbers, and the mean over all heads."""
    rows = []
    for name, one in scores.items():
        iou, error = mean_and_error(one.iou[:, one.best])
        rows.append(
            {
                "Model": name,
                "Best head": one.best + 1,
                "of heads": one.iou.shape[1],
                "IoU": iou,
                "± (standard error)": error,
                "IoU, mean of heads": float(one.iou.mean()),
                "Pointing": float(one.pointing[:, one.best].mean()),
                "Mass on object": float(one.mass_inside[:, one.best].mean()),
                "Object's area": float(one.area.mean()),
                "Images": len(one.iou),
            }
        )
    return pd.DataFrame(rows)


def per_image(scores: Mapping[str, Scores]) -> pd.DataFrame:
    """A row for every model, image and head, counted from 1."""
    return pd.DataFrame(
        [
            {
                "model": name,
                "image": image + 1,
                "head": head + 1,
                "iou": iou,
                "pointing": int(one.pointing[image, head]),
                "mass_on_object": one.mass_inside[image, head],
                "object_area": one.area[image],
            }
            for name, one in scores.items()
            for (image, head), iou in np.ndenumerate(one.iou)
        ]
    )


def ranking(scores: Mapping[str, Scores], colours: Mapping[str, str]) -> go.Figure:
    """Mean IoU of every head with its standard error, best head first."""
    figure = go.Figure()
    for name, one in scores.items():
        summed = [mean_and_error(one.iou[:, head]) for head in range(one.iou.shape[1])]
        order = sorted(range(len(summed)), key=lambda head: -summed[head][0])
        figure.add_scatter(
            x=list(range(1, len(order) + 1)),
            y=[summed[head][0] for head in order],
            error_y={"array": [summed[head][1] for head in order], "thickness": 1.2, "width": 3},
            customdata=[head + 1 for head in order],
            mode="lines+markers",
            name=name,
            line={"color": colours[name], "width": 2, "dash": "dot" if one.untrained else "solid"},
            marker={"color": colours[name], "size": 9, "symbol": models.mark(colours[name])},
            hovertemplate=f"{name}<br>head %{{customdata}}: IoU %{{y:.3f}} ± %{{error_y.array:.3f}}<extra></extra>",
        )
    figure.update_xaxes(title="head, ranked by its mean IoU (1: best)", dtick=1)
    figure.update_yaxes(title="IoU with the object (0 to 1), mean over images", rangemode="tozero")
    return figure.update_layout(height=380)


def answer(scores: Mapping[str, Scores], tau: float) -> str:
    """Whose best head picks out the object better, by how much, and whether these images decide it."""
    if not scores:
        return ""
    n = len(next(iter(scores.values())).iou)
    names = sorted(scores, key=lambda name: -scores[name].iou[:, scores[name].best].mean())
    parts = []
    for name in names:
        one = scores[name]
        mean, error = mean_and_error(one.iou[:, one.best])
        parts.append(f"**{name}** {_with(mean, error)} (head {one.best + 1} of {one.iou.shape[1]})")
    which = "this image" if n == 1 else f"these {n} images"
    lines = [f"On {which}, IoU of each best head with the object: {', '.join(parts)}."]
    inside = ", ".join(f"**{name}** {_share(scores[name].mass_inside[:, scores[name].best])}" for name in names)
    area = _share(next(iter(scores.values())).area)
    lines.append(f"Share of that head's attention on the object: {inside}; an even map would have {area}.")
    trained = [name for name in names if not scores[name].untrained]
    lines += [_verdict(scores, trained[0], trained[1])] if len(trained) > 1 else []
    lines += _against_chance(scores, trained, [name for name in names if scores[name].untrained])
    lines.append(
        f"n = {n}; the mask holds {number(100 * tau)}\u202f% of a map's mass; errors are standard errors over images; "
        "a best head is chosen on the very images it is scored on."
    )
    return "  \n".join(lines)


def _verdict(scores: Mapping[str, Scores], first: str, second: str) -> str:
    a, b = (scores[name].iou[:, scores[name].best] for name in (first, second))
    mean, error = mean_and_error(a - b)
    if not np.isfinite(error):
        return f"**{first}** is ahead of **{second}** by {number(mean)}; one image decides nothing."
    ahead = f"{_with(mean, error)}, paired over images"
    if mean < 2 * error:
        return f"**{first}** is ahead of **{second}** by {ahead}: too little to tell them apart."
    return f"**{first}** picks out the object better (by IoU) than **{second}**, by {ahead}."


def _against_chance(scores: Mapping[str, Scores], trained: Sequence[str], untrained: Sequence[str]) -> list[str]:
    if not (untrained and trained):
        return []
    base = scores[untrained[0]]
    if len(base.iou) == 1:
        return []
    chance = base.iou[:, base.best]
    no_better = []
    for name in trained:
        mean, error = mean_and_error(scores[name].iou[:, scores[name].best] - chance)
        if not (np.isfinite(error) and mean > 2 * error):
            no_better.append(f"**{name}**")
    if not no_better:
        return ["By IoU all trained models are above the best random network by more than two standard errors."]
    return [f"By IoU not above the best random network by more than two standard errors: {', '.join(no_better)}."]


def _share(values: np.ndarray) -> str:
    return f"{100 * float(values.mean()):.0f}\u202f%"


def _with(mean: float, error: float) -> str:
    return f"{number(mean, 2)} ± {number(error, 1)}" if np.isfinite(error) else number(mean, 2)
