"""Scores of every head against the objects' masks, summed up: a table, a chart, an answer in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.state import models

BASELINES = {"uniform": "Uniform attention", "centre": "Centre prior"}
"""Maps that know nothing of the image, as `probes.core.saliency.baselines` calls them, and as people do."""

DASHES = ("dash", "dashdot", "dot", "longdash", "longdashdot")


@dataclass(frozen=True)
class Scores:
    """One model's heads over the images that have a mask.

    Attributes:
        iou: (image, head), IoU of the mass mask with the object.
        pointing: (image, head), 1 where the highest patch lies on the object.
        mass_inside: (image, head), share of the map's mass on the object.
        area: (image,), the object's share of what the model sees: what an even map's ``mass_inside`` would be.
        untrained: random weights, a baseline too.
        baselines: key of ``BASELINES`` to its scores, one "head" each, over the same images and patches.
        network: the architecture.
        places: (image,), which of the chosen images these are; the first ones if empty.
    """

    iou: np.ndarray
    pointing: np.ndarray
    mass_inside: np.ndarray
    area: np.ndarray
    untrained: bool = False
    baselines: Mapping[str, "Scores"] = field(default_factory=dict)
    network: str = ""
    places: tuple[int, ...] = ()

    def ahead_of(self, other: "Scores") -> np.ndarray:
        """By how much the best head's IoU is above the other's, on each image whose object both see."""
        pairs = [(one.places or range(len(one.iou)), one.iou[:, one.best]) for one in (self, other)]
        mine, others = (dict(zip(places, values, strict=True)) for places, values in pairs)
        return np.array([value - others[place] for place, value in mine.items() if place in others])

    @property
    def best(self) -> int:
        """The head with the highest mean IoU, from 0."""
        return int(self.iou.mean(0).argmax())


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error, NaN for a single value."""
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(values.mean()), error


def without_looking(scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """The baselines by name; those of each model where models have other patches or see another part of the images."""
    kept: dict[str, Mapping[str, Scores]] = {}
    for name, one in scores.items():
        if not any(_same(one.baselines, other) for other in kept.values()):
            kept[name] = one.baselines
    return {
        BASELINES[key] + (f" ({name}’s patches)" if len(kept) > 1 else ""): baseline
        for key in BASELINES
        for name, found in kept.items()
        if (baseline := found.get(key)) is not None
    }


def _same(a: Mapping[str, Scores], b: Mapping[str, Scores]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key].iou, b[key].iou) for key in a)


def table(scores: Mapping[str, Scores]) -> pd.DataFrame:
    """A row a model: its best head by mean IoU, that head's numbers, the mean over all heads; then the baselines."""
    rows = []
    baselines = without_looking(scores)
    for name, one in {**scores, **baselines}.items():
        iou, error = mean_and_error(one.iou[:, one.best])
        rows.append(
            {
                "Model": name,
                "Best head": None if name in baselines else one.best + 1,
                "of heads": None if name in baselines else one.iou.shape[1],
                "IoU": iou,
                "± (standard error)": error,
                "IoU, mean of heads": float(one.iou.mean()),
                "Pointing": float(one.pointing[:, one.best].mean()),
                "Mass on object": float(one.mass_inside[:, one.best].mean()),
                "Object's area": float(one.area.mean()),
                "Images": len(one.iou),
            }
        )
    return pd.DataFrame(rows).astype({"Best head": "Int64", "of heads": "Int64"})


def per_image(scores: Mapping[str, Scores]) -> pd.DataFrame:
    """A row for every model, image and head, counted from 1; the baselines have no head."""
    baselines = without_looking(scores)
    return pd.DataFrame(
        [
            {
                "model": name,
                "image": image + 1,
                "head": None if name in baselines else head + 1,
                "iou": iou,
                "pointing": int(one.pointing[image, head]),
                "mass_on_object": one.mass_inside[image, head],
                "object_area": one.area[image],
            }
            for name, one in {**scores, **baselines}.items()
            for (image, head), iou in np.ndenumerate(one.iou)
        ]
    ).astype({"head": "Int64"})


def ranking(scores: Mapping[str, Scores], colours: Mapping[str, str]) -> go.Figure:
    """Mean IoU of every head with its standard error, best head first; what needs no look at the image as lines."""
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
    most = max((one.iou.shape[1] for one in scores.values()), default=1)
    for index, (name, one) in enumerate(without_looking(scores).items()):
        figure.add_scatter(
            x=[1, max(most, 2)],
            y=[float(one.iou.mean())] * 2,
            mode="lines",
            name=name,
            line={"color": "#8a8f98", "width": 2, "dash": DASHES[index % len(DASHES)]},
            hovertemplate=f"{name}: IoU %{{y:.3f}}<extra></extra>",
        )
    figure.update_xaxes(title="head, ranked by its mean IoU (1: best)", dtick=1)
    figure.update_yaxes(title="IoU with the object (0 to 1), mean over images", rangemode="tozero")
    return figure.update_layout(height=380)
