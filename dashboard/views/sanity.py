"""Does a map depend on what the network learned: weights are made random from the output down."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import ModelResult, Params
from dashboard.controls import target_choice
from dashboard.controls.sidebar import sidebar
from dashboard.draw import export, frame, palette, panels
from dashboard.draw.panels import Look, Panel, Scale
from dashboard.images import gallery
from dashboard.page import Page

PAGE = Page("Sanity checks", section="Attention", order=60)

MAPS = {
    "mean": "last-layer attention",
    "rollout": "rollout",
    "chefer": "Chefer",
    "grad-rollout": "gradient rollout",
    "grad-cam": "attention Grad-CAM",
    "integrated-gradients": "integrated gradients",
    "token-grad-cam": "Grad-CAM on tokens",
}
SIGNED = "integrated-gradients"
SHOWN = 6
HOW = """
The left map of each row is the intact network's. To the right the network loses what it learned: first the classifier
gets random weights, then the last block too, and so on, until everything is random.

- A map about what the network **learned** should fall apart: the curve drops towards 0.
- A map that stays, with a curve near 1, would look the same for a network that knows nothing: it shows the image, or
  the architecture.
- Attention of the last layer cannot see the classifier, so its second map is the first.
"""
FORMULA = r"""
$$\rho_s = \operatorname{corr}\big(\operatorname{rank} m(\theta),\ \operatorname{rank} m(\theta_s)\big)$$

over the map's cells, with $\theta_s$ the network whose weights are random from the classifier down to stage $s$:
linear and convolution weights uniform within $\pm 1/\sqrt{\text{fan in}}$, norms at identity, tokens and position
tables normal with standard deviation 0.02, gains in another order. Relevance keeps explaining the class that the intact
network found.

Source: Adebayo et al. 2018, [arXiv:1810.03292](https://arxiv.org/abs/1810.03292).
"""
NOT_SHOWN = """
- Falling apart does not make a map **right**, only not blind to the weights.
- A method that follows edges finds the same edges with any weights; a high correlation can come from the image.
- One seed is one random network: try another.
"""


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> go.Figure:
    """Rank correlation with the intact map, over how much of the network is random."""
    drawn = go.Figure()
    for index, (name, dataset) in enumerate(datasets.items()):
        stages = dataset.sizes["stage"]
        values = dataset["correlation"]
        drawn.add_scatter(
            x=np.linspace(0, 100, stages),
            y=values.mean("image").values,
            customdata=[said(str(stage)) for stage in dataset["stage_name"].values],
            mode="lines+markers",
            name=name,
            line={"color": colours[name], "width": 2},
            marker={"symbol": palette.MODEL_MARKS[index % len(palette.MODEL_MARKS)], "size": 8},
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


def chosen_stages(stages: int) -> list[int]:
    """The stages whose maps are drawn: the intact one, the classifier's, the last, and some between."""
    inner = np.linspace(2, stages - 1, SHOWN - 2) if stages > SHOWN else np.arange(2, stages)
    return sorted({0, 1, *(round(float(x)) for x in inner)})


def row(model: ModelResult, dataset: xr.Dataset, *, signed: bool) -> tuple[list[Panel], Scale]:
    """The maps of one model, each divided by its own mean magnitude, and the scale they share."""
    made = []
    for stage in chosen_stages(dataset.sizes["stage"]):
        values = dataset["map"].isel(image=0, stage=stage).values.astype(float)
        magnitude = np.abs(values).mean()
        title = said(str(dataset["stage_name"].values[stage]))
        if not np.isfinite(magnitude) or magnitude == 0:
            made.append(Panel(title, model.colour, geometry=model.geometries[0], message="There is no map."))
            continue
        note = f"correlation {palette.number(float(dataset['correlation'].isel(image=0, stage=stage)), 2)}"
        made.append(Panel(title, model.colour, note, model.geometries[0], values / magnitude))
    arrays = [panel.values for panel in made if panel.values is not None]
    return made, Scale.over(arrays, "times its mean magnitude" if signed else "times the map's mean", signed=signed)


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
        verdict = f"it falls below 0.5 once {where} is random" if where else "it never falls below 0.5"
        lines.append(f"**{name}**: {palette.number(last, 2)} with everything random; {verdict}.")
    one = next(iter(datasets.values()))
    n = one.attrs["n"]
    start = f"Rank correlation of the map ({MAPS[kind]}) with the intact network's:"
    return "  \n".join([start, *lines, f"n = {n} image{'s' * (n > 1)}, one random network (seed {one.attrs['seed']})."])


def page() -> None:
    """Draw the page."""
    selection = sidebar()
    frame.header("Would a network that knows nothing show the same?")
    controls = frame.controls()
    layouts = asking.compute({}, selection)
    specs = {model.model: model.spec for model in layouts.models}
    with controls:
        kind = st.selectbox(
            "Map", list(MAPS), key="sanity", bind="query-params", format_func=MAPS.__getitem__, width=220
        )
        seed = st.number_input("Seed", 0, 99, 0, key="seed", bind="query-params", width=110)
        target = target_choice.Chosen("top", "")
        if kind not in ("mean", "rollout"):
            target = target_choice.picker(selection, specs.values(), [])
    asked: dict[str, Params | None] = {}
    for name, spec in specs.items():
        explained = target.params(spec) if kind not in ("mean", "rollout") else {}
        asked[name] = {"map": kind, "seed": int(seed), **explained} if spec else None
    outcome = asking.compute_each({"attention-sanity": asked}, selection)
    picture, ready = selection.images[0], outcome.ready("attention-sanity")
    drawn: list[tuple[list[Panel], Scale]] = []
    for index, model in enumerate(outcome.models):
        if "attention-sanity" in model.datasets:
            made = row(model, model.datasets["attention-sanity"], signed=kind == SIGNED)
            drawn.append(made)
            st.markdown(f"**{model.title}**")
            look = Look(original=False, columns=len(made[0]))
            panels.patch_panels(picture, made[0], scale=made[1], look=look, key=f"sanity-{index}")
    frame.states(outcome, "attention-sanity")
    asking.show_progress(outcome if outcome.jobs or outcome.failures else layouts)
    text = reading(ready, kind) if ready else ""
    if ready:
        frame.chart(figure(ready, outcome.colours), key="sanity-chart", alt="Rank correlation over randomised stages")
        st.markdown(text)

    def document() -> str:
        title = f"{gallery.title(picture)}: {MAPS[kind]} as the network becomes random"
        every = [replace(one, scale=scale) for made, scale in drawn for one in made]
        return export.svg(picture, every, scale=None, look=Look(), title=title, caption=text.replace("*", ""))

    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name=f"sanity-{picture.replace(':', '-')}",
        png=(lambda: export.png(document())) if drawn else None,
        svg=document if drawn else None,
        csv=(lambda: frame.csv({n: d[["correlation"]] for n, d in ready.items()})) if ready else None,
    )
