"""A model's answer as patches are painted over or come in: curves and the areas under them. Pure."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import xarray as xr

from dashboard.compute.asking import ModelResult
from dashboard.controls.target_choice import VECTOR_NAMES
from dashboard.draw import palette
from dashboard.state import models
from probes.saliency_score import curve_passes

STEPS = 4
"""Parts in which the patches go; what that does to the areas is measured by `benchmarks.removal_curves`."""


def seconds(models: Sequence[ModelResult], images: int, at_once: int) -> float:
    """What the curves will take, from what a pass of each model over the same images took."""
    passes = images * curve_passes(STEPS)
    return sum(model.seconds for model in models) * passes / max(min(at_once, len(models)), 1)


def figure(ready: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> go.Figure:
    """Means over images of both curves: deletion full, insertion dashed."""
    drawn = go.Figure()
    for name, dataset in ready.items():
        for kind, dash in (("deletion", "solid"), ("insertion", "dash")):
            drawn.add_scatter(
                x=dataset["fraction"].values * 100, y=dataset[kind].mean("image").values, mode="lines+markers",
                name=f"{name}, {kind}", line={"color": colours[name], "dash": dash},
                marker={"symbol": models.mark(colours[name]), "size": 7},
            )  # fmt: skip
    drawn.update_xaxes(title="patches painted over (deletion) or shown (insertion), highest attention first (%)")
    kinds = " or ".join(dict.fromkeys(str(dataset.attrs["curve_of"]) for dataset in ready.values()))
    drawn.update_yaxes(title=kinds, rangemode="tozero")
    return drawn.update_layout(height=400)


def answer(ready: Mapping[str, xr.Dataset]) -> str:
    """Areas under the curves beside those of random orders."""
    lines = []
    for name, dataset in ready.items():
        parts = []
        for kind, good in (("deletion", "lower"), ("insertion", "higher")):
            own, chance = (float(dataset[f"{kind}{part}_auc"].mean()) for part in ("", "_random"))
            parts.append(f"{kind} {palette.number(own)} (random order {palette.number(chance)}; {good} is better)")
        vector = dataset.attrs.get("vector")
        by = f", images compared by {VECTOR_NAMES[vector]}" if vector else ""
        lines.append(f"**{name}**{by}: area under {', '.join(parts)}.")
    n = next(iter(ready.values())).attrs["n"]
    many = "1 image" if n == 1 else f"{n} images"
    about = f"Each model's best head, {many} in {STEPS} steps; missing patches have the image's mean colour."
    return "  \n".join([*lines, about])
