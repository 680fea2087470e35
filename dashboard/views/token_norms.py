"""Norms of the tokens after every block, and the patches whose norm stands out."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import ModelResult
from dashboard.controls import choices
from dashboard.controls.sidebar import sidebar
from dashboard.draw import charts, export, frame, panels
from dashboard.draw.palette import MODEL_MARKS, number
from dashboard.draw.panels import Look, Panel, Scale
from dashboard.images import gallery
from dashboard.page import Page
from dashboard.state.selection import Depth

PAGE = Page("Token norms", section="Attention", order=60)

VALUES = {"relative": "× median of the patches", "norm": "norm of the token"}
HOW = """
After every block a token is a vector; the picture shows **how long it is**. By default lengths are divided by the
median over the patches of the image in that layer, so that models share one scale.

- *Framed patches* are high: longer than the chosen number of medians. On plain background, late in large models, they
  are the "artifacts" that registers were added to take over.
- The chart below follows the longest patch through the layers, with the prefix tokens (open marks) beside it.
- Put a model with registers beside one without (preset *With and without registers*, downloaded weights).
"""
FORMULA = r"""
$$n^{(l)}_k = \lVert x^{(l)}_k\rVert_2,\qquad
\text{high} \iff n^{(l)}_k > f\cdot\operatorname{median}_{j\in\text{patches}} n^{(l)}_j$$

with $x^{(l)}$ the residual stream after block $l$ and $f$ the factor above, which is a convention: the paper reads its
threshold off the histogram of one model.

Source: Darcet et al. 2024, [arXiv:2309.16588](https://arxiv.org/abs/2309.16588).
"""
NOT_SHOWN = """
- Norms in units of the model: never compare bare norms between models, nor between layers.
- Norms are taken before the next layer norm, which removes scale: long does not mean influential.
- What the long token holds. The paper measures that; a map of norms does not.
"""


def drawn_values(dataset: xr.Dataset, layer: int, values: str) -> np.ndarray:
    """One layer's norms (y, x) of the first image, or their ratio to the median patch."""
    one = dataset["norm"].isel(image=0, layer=layer)
    rows, columns = int(one["grid_height"]), int(one["grid_width"])
    norms = one.values[:rows, :columns]
    return norms / np.median(norms) if values == "relative" else norms


def panel(model: ModelResult, depth: Depth | None, values: str) -> Panel:
    """One model's panel, high patches framed."""
    dataset = model.datasets.get("token-norm")
    geometry = model.geometries[0] if model.geometries else None
    if dataset is None:
        message = model.message or "computing …"
        return Panel(model.title, model.colour, geometry=geometry, message=message, waiting=model.waiting)
    count = dataset.sizes["layer"]
    layer = depth.index(count) if depth else count - 1
    shown = drawn_values(dataset, layer, values)
    high = dataset["high"].isel(image=0, layer=layer).values[: shown.shape[0], : shown.shape[1]]
    note = f"layer {layer + 1} of {count} · {int(high.sum())} of {high.size} patches high"
    own = Scale.over([shown], VALUES[values]) if values == "norm" else None
    mask = high if high.any() else None
    return Panel(model.title, model.colour, note, geometry, shown, mask=mask, contour_only=True, scale=own)


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], at: Mapping[str, int]) -> go.Figure:
    """Longest patch and prefix tokens over the layers, in medians of the patches."""
    drawn = go.Figure()
    depths = {dataset.sizes["layer"] for dataset in datasets.values()}
    for index, (name, dataset) in enumerate(datasets.items()):
        norms = dataset["norm"].isel(image=0)
        median = norms.median(("y", "x")).values
        x = charts.positions(len(median), relative=len(depths) > 1)
        here = np.arange(len(x)) == at.get(name, -1)
        mark = MODEL_MARKS[index % len(MODEL_MARKS)]
        drawn.add_scatter(
            x=x,
            y=norms.max(("y", "x")).values / median,
            mode="lines+markers",
            name=f"{name}: longest patch",
            line={"color": colours[name], "width": 2.5},
            marker={"color": colours[name], "symbol": mark, "size": np.where(here, 14, 8)},
            hovertemplate=f"{name}<br>longest patch: %{{y:.3g}} medians<extra></extra>",
        )
        for token in dataset["token"].values if "prefix_norm" in dataset else ():
            drawn.add_scatter(
                x=x,
                y=dataset["prefix_norm"].isel(image=0).sel(token=token).values / median,
                mode="markers",
                name=f"{name}: {token}",
                showlegend=False,
                marker={"color": colours[name], "symbol": f"{mark}-open", "size": 8},
                hovertemplate=f"{name}<br>{token}: %{{y:.3g}} medians<extra></extra>",
            )
    drawn.add_hline(y=1, line={"dash": "dot", "color": "#8a8f98", "width": 1})
    relative = "relative depth (0: first layer, 1: last layer)"
    drawn.update_xaxes(title=relative if len(depths) > 1 else "layer")
    drawn.update_yaxes(title="norm (× median of the patches)", rangemode="tozero")
    return drawn.update_layout(height=380)


def histogram(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], at: Mapping[str, int]) -> go.Figure:
    """How the patches' norms are spread in the shown layer, in medians; a logarithmic count shows the few."""
    drawn = go.Figure()
    for name, dataset in datasets.items():
        values = drawn_values(dataset, at[name], "relative").ravel()
        drawn.add_histogram(x=values, name=name, nbinsx=60, opacity=0.6, marker={"color": colours[name]})
    drawn.update_xaxes(title="norm (× median of the patches)", rangemode="tozero")
    drawn.update_yaxes(title="patches (count, logarithmic)", type="log")
    return drawn.update_layout(barmode="overlay", height=380)


def reading(datasets: Mapping[str, xr.Dataset], at: Mapping[str, int]) -> str:
    """What the numbers say, a sentence a model."""
    said = []
    for name, dataset in datasets.items():
        shown = drawn_values(dataset, at[name], "relative")
        count = int(dataset["high"].isel(image=0, layer=at[name]).sum())
        registers = sum(str(token).startswith("reg") for token in dataset["token"].values)
        kind = f"{registers} registers" if registers else "no registers"
        said.append(
            f"**{name}** ({kind}): {count} of {shown.size} patches are high in layer {at[name] + 1}; the longest is "
            f"{number(float(shown.max()))} medians long."
        )
    if said:
        factor = next(iter(datasets.values())).attrs["factor"]
        said.append(f"High: more than {number(factor)} medians of the same image and layer. n = 1 image.")
    return "  \n".join(said)


def page() -> None:
    """Draw the page."""
    selection = sidebar()
    frame.header("Which tokens grow long?")
    row = frame.controls()
    with row:
        place = st.container()
        values = st.segmented_control(
            "Values",
            list(VALUES),
            default="relative",
            required=True,
            key="norms",
            bind="query-params",
            format_func=VALUES.__getitem__,
        )
        factor = st.slider("High from (× median)", 1.5, 10.0, 3.0, 0.5, key="factor", bind="query-params")
    outcome = asking.compute({"token-norm": {"factor": factor}}, selection)
    with place:
        depth = choices.layer([model.spec for model in outcome.models], waiting=bool(outcome.jobs))
    drawn = [panel(model, depth, values) for model in outcome.models]
    arrays = [p.values for p in drawn if p.values is not None]
    scale = Scale.over(arrays, VALUES[values]) if arrays and values == "relative" else None
    picture = selection.images[0]
    panels.patch_panels(picture, drawn, scale=scale, look=Look(), key="norm-panels")
    asking.show_progress(outcome)
    ready = outcome.ready("token-norm")
    at = {name: depth.index(d.sizes["layer"]) if depth else d.sizes["layer"] - 1 for name, d in ready.items()}
    said = reading(ready, at)
    st.markdown(said)

    def document() -> str:
        title = f"{gallery.title(picture)}: token norms"
        return export.svg(picture, drawn, scale=scale, look=Look(), title=title, caption=said.replace("*", ""))

    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name=f"token-norms-{picture.replace(':', '-')}",
        png=(lambda: export.png(document())) if ready else None,
        svg=document if ready else None,
        csv=(lambda: frame.csv({n: d[["norm", "high"]] for n, d in ready.items()})) if ready else None,
    )
    if ready:
        left, right = st.columns([3, 2], gap="large")
        with left:
            frame.chart(figure(ready, outcome.colours, at), key="norms-over", alt="Longest token norm over the layers")
        with right:
            frame.chart(histogram(ready, outcome.colours, at), key="norms-hist", alt="Histogram of patch norms")
