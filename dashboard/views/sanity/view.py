"""Does a map depend on what the network learned: weights are made random from the output down."""

from dataclasses import dataclass

import numpy as np
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices, target_choice
from dashboard.controls.target_choice import VECTOR_NAMES
from dashboard.draw import palette, panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Look, Panel, Row, Scale
from dashboard.images import gallery
from dashboard.runs.charts import Stored
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Page, Shown, View
from dashboard.views.sanity.correlations import MAPS, figure, reading, said

UNEXPLAINED = ("mean", "rollout")
"""Maps that explain no target."""
SIGNED = "integrated-gradients"
MOST_STAGES = 6
HOW = """
After the image, the first map of each row is the intact network's. To the right the network loses what it learned:
first the classifier gets random weights, then the last block too, and so on, until everything is random.

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


@dataclass(frozen=True)
class Chosen:
    """What the controls say: key of ``MAPS``, seed of the random weights, and what is explained, if anything."""

    map: str
    seed: int
    target: target_choice.Chosen | None


def chosen_stages(stages: int) -> list[int]:
    """The stages whose maps are drawn: the intact one, the classifier's, the last, and some between."""
    inner = np.linspace(2, stages - 1, MOST_STAGES - 2) if stages > MOST_STAGES else np.arange(2, stages)
    return sorted({0, 1, *(round(float(x)) for x in inner)})


def panel(model: ModelResult, dataset: xr.Dataset, stage: int) -> Panel:
    """The map at one stage, divided by its own mean magnitude."""
    one = dataset.isel(image=0, stage=stage)
    values = one["map"].values.astype(float)
    magnitude, name = np.abs(values).mean(), said(str(one["stage_name"].values))
    if not np.isfinite(magnitude) or magnitude == 0:
        return Panel(name, model.colour, geometry=model.geometries[0], message="There is no map.")
    note = f"correlation {palette.number(float(one['correlation']), 2)}"
    return Panel(name, model.colour, note, model.geometries[0], values / magnitude)


def row(picture: str, model: ModelResult, *, signed: bool) -> Row:
    """The maps of one model, on a scale of their own, or why there are none."""
    dataset = model.datasets.get("attention-sanity")
    if dataset is None:
        drawn = [panels.pending(model)]
    else:
        drawn = [panel(model, dataset, stage) for stage in chosen_stages(dataset.sizes["stage"])]
    arrays = [one.values for one in drawn if one.values is not None]
    if signed or not arrays:
        scale = Scale.over(arrays, "times its mean magnitude", signed=signed)
    else:
        scale = Scale.over_most(arrays, "times the map's mean")
    look = Look(columns=1 + (len(drawn) if dataset is not None else MOST_STAGES))
    vector = dataset.attrs.get("vector") if dataset is not None else None
    title = f"{model.title} · images compared by {VECTOR_NAMES[vector]}" if vector else model.title
    return Row(picture, drawn, title=title, scale=scale, look=look)


def controls(selection: Selection) -> Chosen:
    """Draw map and seed, and the target of a map that explains one."""
    kind = choices.one_of_many("Map", MAPS, "sanity", width=220)
    seed = st.number_input("Seed", 0, 99, 0, key="seed", bind="query-params", width=110)
    target = None if kind in UNEXPLAINED else target_choice.picker(selection, asking.known(selection))
    return Chosen(kind, int(seed), target)


def asks(chosen: Chosen) -> list[Ask]:
    """The map at every stage."""
    explained = chosen.target.params if chosen.target else {}
    return [Ask("attention-sanity", {"map": chosen.map, "seed": chosen.seed, **explained})]


def shown(answer: Answer[Chosen]) -> Shown:
    """A row a model with a panel a stage, and the correlation over all stages."""
    outcome, kind, picture = answer.outcome, answer.chosen.map, answer.selection.images[0]
    ready = outcome.ready("attention-sanity")
    over = "Rank correlation over randomised stages"
    return Shown(
        f"{gallery.title(picture)}: {MAPS[kind]} as the network becomes random",
        [row(picture, model, signed=kind == SIGNED) for model in outcome.models],
        said=reading(ready, kind) if ready else "",
        charts=[Chart(figure(ready, outcome.colours), "sanity-chart", over)] if ready else (),
        table={name: dataset[["correlation"]] for name, dataset in ready.items()},
    )


VIEW = View(
    Page("Sanity checks", section="Attention", order=60),
    "Would a network that knows nothing show the same?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=asks,
    overlays=True,
    stored={
        "attention-sanity": Stored(
            "rank correlation with the intact map", lambda d, c, _: {"": figure(d, c)}, instead=("correlation",)
        )
    },
)
