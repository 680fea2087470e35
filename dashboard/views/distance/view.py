"""Mean attention distance of every head of every model, and the map behind a head."""

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
import vl_convert
import xarray as xr

from dashboard.compute import asking
from dashboard.controls import image_sets
from dashboard.controls.sidebar import sidebar
from dashboard.draw import charts, frame
from dashboard.draw.palette import MODEL_MARKS, number
from dashboard.draw.sentences import percent
from dashboard.page import Page
from dashboard.state.selection import Selection
from dashboard.views.distance import head_picker

PAGE = Page("Attention distance", section="Attention", order=30)

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


def table(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """A row a head: model, layer and head from 1, distance, its standard error and the attention on CLS."""
    rows = []
    for name, dataset in datasets.items():
        values = dataset["distance"].values
        for layer, head in zip(*np.nonzero(np.isfinite(values)), strict=True):
            entry = {variable: float(dataset[variable][layer, head]) for variable in ("distance", "distance_sem")}
            cls = float(dataset["cls_mass"][layer, head]) if "cls_mass" in dataset else np.nan
            place = {"model": name, "layer": int(layer) + 1, "head": int(head) + 1}
            rows.append(place | entry | {"cls_mass": cls, "n": dataset.attrs["n"]})
    return pd.DataFrame(rows)


def linked(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], *, legend: bool = False) -> alt.LayerChart:
    """The same points in Altair, where one can be chosen, with the means of the layers."""
    rows = table(datasets)
    rows["place"] = rows["layer"] + (rows["head"] - rows.groupby("model")["head"].transform("max") / 2 - 0.5) * 0.05
    units = next(iter(datasets.values()))["distance"].attrs["units"]
    names = list(datasets)
    chosen = alt.selection_point(name="head", fields=["model", "layer", "head"], on="click", nearest=True)
    named = alt.Legend(orient="top", labelLimit=300) if legend else None
    colour = alt.Color(
        "model:N", title=None, legend=named, scale=alt.Scale(domain=names, range=[colours[n] for n in names])
    )
    shapes = [{"x": "cross", "star": "wedge"}.get(mark, mark) for mark in MODEL_MARKS]
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, size=46, cursor="pointer")
        .encode(
            x=alt.X("place:Q", title="layer", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(nice=False)),
            y=alt.Y("distance:Q", title=f"mean attention distance ({units})", scale=alt.Scale(zero=True)),
            color=colour,
            shape=alt.Shape(
                "model:N", title=None, legend=named, scale=alt.Scale(domain=names, range=shapes[: len(names)])
            ),
            opacity=alt.condition(chosen, alt.value(1), alt.value(0.35)),
            size=alt.condition(chosen, alt.value(90), alt.value(46)),
            tooltip=["model", "layer", "head", alt.Tooltip("distance", format=".3g")],
        )
        .add_params(chosen)
    )
    lines = (
        alt.Chart(rows).mark_line(strokeWidth=2).encode(x=alt.X("layer:Q"), y=alt.Y("mean(distance):Q"), color=colour)
    )
    return (lines + points).properties(width="container", height=330)


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


def page() -> None:
    """Draw the page."""
    selection = sidebar(several=True, default_images=("photo:coffee", "photo:chelsea", "photo:china"))
    frame.header("How far does each head look?")
    with frame.controls():
        many, _ = image_sets.control(selection)
        weights = st.segmented_control(
            "Weights",
            list(CONVENTIONS),
            default="patches",
            required=True,
            key="weights",
            bind="query-params",
            format_func=CONVENTIONS.__getitem__,
            help="Attention renormalised over the patches, or as the model used it, CLS and registers counting as 0.",
        )
        units = st.segmented_control(
            "Distance in",
            list(UNITS),
            default="px",
            required=True,
            key="units",
            bind="query-params",
            format_func=UNITS.__getitem__,
            help="Pixels of each model's input, or divided by its diagonal: fair between input sizes.",
        )
    outcome = asking.compute({"attention-distance": {"renormalise": weights == "patches"}}, many)
    ready = scaled(outcome.ready("attention-distance"), units)
    if ready:
        frame.chart(figure(ready, outcome.colours), key="distance", alt="Mean attention distance of heads over layers")
    frame.states(outcome, "attention-distance")
    asking.show_progress(outcome)
    if ready:
        st.markdown(reading(ready, weights == "patches"))

    def document() -> str:
        spec = linked(ready, outcome.colours, legend=True).properties(width=900, background="white").to_json()
        drawn: str = vl_convert.vegalite_to_svg(spec)
        return drawn

    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name="attention-distance",
        png=(lambda: vl_convert.svg_to_png(document(), scale=2)) if ready else None,
        svg=document if ready else None,
        csv=(lambda: table(ready).to_csv(index=False, float_format="%.8g")) if ready else None,
    )
    if ready:
        below(ready, outcome, selection)


def below(ready: Mapping[str, xr.Dataset], outcome: asking.Outcome, selection: Selection) -> None:
    """One head's map, and the attention on CLS; the closed tab costs nothing."""
    head, mass = st.tabs(["One head's map", "Attention on CLS"], key="below", on_change="rerun")
    if head.open:
        with head:
            head_picker.draw(linked(ready, outcome.colours), table(ready), outcome, selection)
    if mass.open:
        with mass:
            has = {name: d for name, d in ready.items() if "cls_mass" in d and bool(d["cls_mass"].notnull().any())}
            if has:
                drawn = charts.over_layers(has, "cls_mass", outcome.colours, label="attention of patches on CLS")
                frame.chart(drawn, key="cls-mass", alt="Attention that patches give to CLS over layers")
            for name in ready:
                if name not in has:
                    st.caption(f"{name} has no CLS token among its patches.")
