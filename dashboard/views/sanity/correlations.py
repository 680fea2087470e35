"""How alike maps stay while the network becomes random: as a chart and in words. Pure."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import palette
from dashboard.state import models

MAPS = {
    "mean": "last-layer attention",
    "rollout": "rollout",
    "chefer": "Chefer",
    "grad-rollout": "gradient rollout",
    "grad-cam": "attention Grad-CAM",
    "integrated-gradients": "integrated gradients",
    "token-grad-cam": "Grad-CAM on tokens",
}


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> go.Figure:
    """Rank correlation with the intact map, over how much of the network is random."""
    drawn = go.Figure()
    for name, dataset in datasets.items():
        drawn.add_scatter(
            x=np.linspace(0, 100, dataset.sizes["stage"]),
            y=dataset["correlation"].mean("image").values,
            customdata=[said(str(stage)) for stage in dataset["stage_name"].values],
            mode="lines+markers",
            name=name,
            line={"color": colours[name], "width": 2},
            marker={"symbol": models.mark(colours[name]), "size": 8},
            hovertemplate=f"{name}<br>%{{customdata}}: %{{y:.2f}}<extra></extra>",
        )
    drawn.add_hline(y=0, line={"width": 1, "color": "#8a8f98"})
    drawn.update_xaxes(title="stages made random, from the classifier down (%)")
    drawn.update_yaxes(title="rank correlation with the intact map (−1 to 1)", range=[-1.05, 1.05])
    return drawn.update_layout(height=360)


def said(stage: str) -> str:
    """What is random at a stage, for a person."""
    if stage in ("intact", "classifier"):
        return {"intact": "intact", "classifier": "classifier random"}[stage]
    return "all random" if stage == "embedding" else f"random from {stage} up"


def reading(datasets: Mapping[str, xr.Dataset], kind: str) -> str:
    """How alike the maps of the random network still are, and where the map had fallen apart."""
    lines = []
    for name, dataset in datasets.items():
        values = dataset["correlation"].mean("image").values
        last = float(values[-1])
        fallen = np.flatnonzero(values < 0.5)
        where = (
            str(dataset["stage_name"].values[fallen[0]]).replace("embedding", "the embedding") if fallen.size else ""
        )
        unknown = int(np.isnan(values).sum())
        verdict = f"it falls below 0.5 once {where} is random" if where else "it never falls below 0.5"
        if unknown:
            verdict += f"; at {unknown} of {len(values)} stages a map is the same everywhere and has no ranks"
        lines.append(f"**{name}**: {palette.number(last, 2)} with everything random; {verdict}.")
    one = next(iter(datasets.values()))
    n = one.attrs["n"]
    start = f"Rank correlation of the map ({MAPS[kind]}) with the intact network's:"
    return "  \n".join([start, *lines, f"n = {n} image{'s' * (n > 1)}, one random network (seed {one.attrs['seed']})."])
