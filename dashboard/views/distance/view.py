"""Mean attention distance of every head of every model, and the map behind a head."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from dashboard.compute.asking import Ask
from dashboard.controls import choices
from dashboard.draw import charts, frame
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.draw.sentences import percent
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Images, Page, Shown, View
from dashboard.views.distance import head_picker

UNITS = {"px": "pixels", "diagonal": "fraction of the diagonal"}
CONVENTIONS = {"patches": "over patches", "raw": "as used"}
HOW = """
A **small point is a head**, with its standard error over the images where there are several; the line joins the means
of the layers. Low: the head looks at the neighbours of the asking patch. High: it looks across the image.

- *Dashed*: what a head would have that attends everywhere alike. A head above it avoids its own neighbourhood.
- *Weights, over patches*: attention is renormalised over the patches. *As used*: what goes to CLS and registers counts
  as distance 0, so that a head that looks at CLS seems local.
- *Attention on CLS* shows how much the two conventions differ.
- *One head's map*: click a head in the chart, then a patch in the picture.

Models with other input sizes: compare fractions of the diagonal.
"""
FORMULA = r"""
$$d_{lh} = \frac1{IN}\sum_i\sum_q\sum_k \tilde A^{(l,h)}_{iqk}\; p\,\lVert x_q-x_k\rVert_2$$

over $I$ images and $N$ patch queries, $x$ in patches, $p$ the side of a patch in pixels of the model's input.
$\tilde A$ is the attention among patches, each row divided by its sum (or not: *as used*). The standard error is over
the images' own means.

Source: Dosovitskiy et al. 2021, Fig. 7, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929); Raghu et al. 2021,
[arXiv:2108.08810](https://arxiv.org/abs/2108.08810).
"""
NOT_SHOWN = """
- The **shape** of attention: half near and half far reads like all at middle distance.
- Whether the distance matters: values may be small, and a few CLS-bound heads may decide.
- Windowed models (Swin) are left out: their distance is bounded by the window, whatever they learned.
- Patches at the border reach farther than those in the middle; the mean hides it.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: whether weights are renormalised over the patches, and the key of ``UNITS``."""

    renormalised: bool
    units: str


def scaled(datasets: Mapping[str, xr.Dataset], units: str) -> dict[str, xr.Dataset]:
    """Distances in pixels, or divided by the diagonal of each model's input."""
    if units == "px":
        return {name: _with_units(dataset, 1.0, "px of the input") for name, dataset in datasets.items()}
    fraction = "fraction of the diagonal"
    return {name: _with_units(dataset, dataset.attrs["diagonal"], fraction) for name, dataset in datasets.items()}


def _with_units(dataset: xr.Dataset, divisor: float, units: str) -> xr.Dataset:
    """In other units, and without the layers at the end that have no distance, as a pooling query has not."""
    defined = np.flatnonzero(np.isfinite(dataset["distance"].values).any(1))
    dataset = dataset.isel(layer=slice(0, int(defined[-1]) + 1 if len(defined) else None))
    lengths = [name for name in dataset.data_vars if "distance" in str(name)]
    return dataset.assign({name: (dataset[name] / divisor).assign_attrs(units=units) for name in lengths})


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> go.Figure:
    """Head points with standard errors, layer means, and a dashed line a model for uniform attention."""
    drawn = charts.over_layers(datasets, "distance", colours, label="mean attention distance")
    for trace in drawn.data:
        name = trace.legendgroup
        errors = datasets[name]["distance_sem"].values
        finite = np.isfinite(datasets[name]["distance"].values)
        if trace.mode == "markers" and np.isfinite(errors).any():
            trace.error_y = {"array": errors[finite], "thickness": 1, "width": 0, "color": colours[name]}
            trace.hovertemplate = trace.hovertemplate.replace("%{y:.3g}", "%{y:.3g} ± %{error_y.array:.2g}")
    references: dict[float, list[str]] = {}
    for name, dataset in datasets.items():
        references.setdefault(round(float(dataset["uniform_distance"]), 4), []).append(name)
    for value, names in references.items():
        alone = len(names) == 1 and len(datasets) > 1
        drawn.add_hline(
            y=value,
            line={"dash": "dash", "width": 1.5, "color": colours[names[0]] if alone else "#8a8f98"},
            annotation={
                "text": f"uniform attention{' in ' + names[0] if alone else ''}: {number(value)}",
                "font": {"size": 12},
            },
            annotation_position="top right",
        )
    return drawn.update_layout(height=470)


def reading(datasets: Mapping[str, xr.Dataset], renormalised: bool) -> str:
    """What the numbers say, a sentence a model, with n and the convention."""
    said = []
    for name, dataset in datasets.items():
        values, uniform = dataset["distance"].values, float(dataset["uniform_distance"])
        means = [row[np.isfinite(row)].mean() for row in values if np.isfinite(row).any()]
        flat = values[np.isfinite(values)]
        first, last, least, most, even = (number(x) for x in (means[0], means[-1], flat.min(), flat.max(), uniform))
        local = percent(float((flat < uniform / 2).mean()))
        said.append(
            f"**{name}**: {first} in the first layer, {last} in the last; heads from {least} to {most}, {local} of "
            f"them below half of uniform attention's {even}."
        )
    one = next(iter(datasets.values()))
    n, units = int(one.attrs["n"]), one["distance"].attrs["units"]
    convention = "renormalised over the patches" if renormalised else "not renormalised: attention on CLS counts as 0"
    return "  \n".join([*said, f"Means in {units}, n = {n} image{'s' * (n > 1)}, {convention}."])


def controls(_: Selection) -> Chosen:
    """Draw the convention of the weights and the units."""
    weights = choices.one_of(
        "Weights",
        CONVENTIONS,
        "weights",
        help="Attention renormalised over the patches, or as the model used it, CLS and registers counting as 0.",
    )
    units = choices.one_of(
        "Distance in",
        UNITS,
        "units",
        help="Pixels of each model's input, or divided by its diagonal: fair between input sizes.",
    )
    return Chosen(weights == "patches", units)


def shown(answer: Answer[Chosen]) -> Shown:
    """All heads of all models over the layers."""
    ready, colours = scaled(answer.outcome.ready("attention-distance"), answer.chosen.units), answer.outcome.colours
    if not ready:
        return Shown("Mean attention distance")
    return Shown(
        "Mean attention distance",
        charts=[Chart(figure(ready, colours), "distance", "Mean attention distance of heads over layers")],
        said=reading(ready, answer.chosen.renormalised),
        table=lambda: head_picker.table(ready),
        document=lambda: head_picker.document(ready, colours),
    )


def below(answer: Answer[Chosen], _: Shown) -> None:
    """One head's map, and the attention on CLS; the closed tab costs nothing."""
    outcome, ready = answer.outcome, scaled(answer.outcome.ready("attention-distance"), answer.chosen.units)
    if not ready:
        return
    head, mass = st.tabs(["One head's map", "Attention on CLS"], key="below", on_change="rerun")
    if head.open:
        with head:
            head_picker.draw(ready, outcome, answer.picture)
    if mass.open:
        with mass:
            has = {name: d for name, d in ready.items() if "cls_mass" in d and bool(d["cls_mass"].notnull().any())}
            if has:
                drawn = charts.over_layers(has, "cls_mass", outcome.colours, label="attention of patches on CLS")
                frame.chart(drawn, key="cls-mass", alt="Attention that patches give to CLS over layers")
            for name in (name for name in ready if name not in has):
                st.caption(f"{name} has no CLS token among its patches.")


VIEW = View(
    Page("Attention distance", section="Attention", order=30),
    "How far does each head look?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [Ask("attention-distance", {"renormalise": chosen.renormalised})],
    images=Images(several=True, default=("photo:coffee", "photo:chelsea", "photo:china"), set_default="chosen"),
    below=below,
)
