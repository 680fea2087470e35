"""Patch filters: the patterns that the first layer looks for."""

from collections.abc import Mapping

import cv2
import numpy as np
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from dashboard import computing, frame
from dashboard.page import Page
from dashboard.sidebar import sidebar

PAGE = Page("First filters", section="Representation", order=50)

KINDS = {"components": "principal components", "filters": "filters"}
COLUMNS = {"components": 7, "filters": 16}
GAP = 1
SIDE = 900
HOW = """
The first layer multiplies every patch by a set of filters. Each small picture is one filter, or one principal
component of all filters, **scaled to its own darkest and brightest value**, its three colour channels as RGB.

- Smooth waves, edges and blobs of colour: the layer decomposes patches much like a Fourier or wavelet basis.
- Noise: the filter was never trained to a pattern, as in a random network, or is not used.
- The chart says how many components it takes: a steep curve means that few patterns make up all filters.
"""
FORMULA = r"""
$W$ (filters × $3p^2$), centred over the filters, $W - \bar W = USV^\top$: component $k$ is $V_k$, its share of the
variance $S_k^2/\sum_j S_j^2$. Of a component's two signs the one is shown whose largest entry is positive.

Source: Dosovitskiy et al. 2021, Fig. 7, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929).
"""
NOT_SHOWN = """
- How **often or strongly** a filter answers: that depends on the images.
- The sizes of the filters: each is scaled by itself, so a weak one looks like a strong one.
- What later layers do with the answers. The order of filters means nothing.
"""


def sheet(weights: np.ndarray, columns: int) -> np.ndarray:
    """Filters (n, 3, p, p), each scaled over its own weights, side by side as RGB uint8 with white gaps."""
    low = weights.min(axis=(1, 2, 3), keepdims=True)
    span = weights.max(axis=(1, 2, 3), keepdims=True) - low
    scaled = (weights - low) / np.where(span > 0, span, 1)
    count, _, height, width = weights.shape
    rows = -(-count // columns)
    page = np.full((rows * columns, height + GAP, width + GAP, 3), 255, np.uint8)
    page[:count, :height, :width] = (scaled.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
    laid = page.reshape(rows, columns, height + GAP, width + GAP, 3).swapaxes(1, 2)
    return laid.reshape(rows * (height + GAP), columns * (width + GAP), 3)[:-GAP, :-GAP]


def enlarged(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The picture with whole-numbered enlargement, so that every weight stays a square."""
    factor = max(side // max(pixels.shape[:2]), 1)
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> go.Figure:
    """Share of the filters' variance that the first k components hold, all models."""
    drawn = go.Figure()
    for index, (name, dataset) in enumerate(datasets.items()):
        share = np.cumsum(dataset["spectrum"].values)
        drawn.add_scatter(
            x=np.arange(1, len(share) + 1),
            y=share,
            mode="lines",
            line={"color": colours[name], "width": 2.5, "dash": ("solid", "dash", "dot")[index % 3]},
            name=name,
            hovertemplate=f"{name}: %{{x}} components hold %{{y:.3f}}<extra></extra>",
        )
    drawn.update_xaxes(title="components kept (number, logarithmic)", type="log")
    drawn.update_yaxes(title="share of the filters' variance (0 to 1)", range=[0, 1.02])
    return drawn.update_layout(height=360)


def reading(datasets: Mapping[str, xr.Dataset]) -> str:
    """How many components it takes, per model."""
    said = []
    for name, dataset in datasets.items():
        share = np.cumsum(dataset["spectrum"].values)
        needed = int(np.argmax(share >= 0.9 - 1e-9)) + 1
        side = dataset.sizes["fy"]
        count = dataset.attrs["filter_count"]
        said.append(f"**{name}**: {needed} of {len(share)} components hold 90% of the variance of its {count} filters "
                    f"of {side} × {side} px")  # fmt: skip
    return "; ".join(said) + "."


def page() -> None:
    """Draw the page."""
    selection = sidebar(images=False)
    frame.header("What does the first layer look for?")
    with frame.controls():
        kind = st.segmented_control(
            "Show", list(KINDS), default="components", required=True, key="kind", bind="query-params",
            format_func=KINDS.__getitem__,
        )  # fmt: skip
    outcome = computing.compute({"patch-filters": {}}, selection)
    ready = outcome.ready("patch-filters")
    if ready:
        places = st.columns(min(len(ready), 3), gap="medium", wrap=True)
        for index, (name, dataset) in enumerate(ready.items()):
            weights = dataset[kind].values
            with places[index % len(places)]:
                colour = outcome.colours[name]
                st.html(f'<div style="border-top:4px solid {colour};padding-top:4px"></div>')
                st.markdown(f"**{name}** · {len(weights)} {KINDS[kind]}, {weights.shape[-1]} × {weights.shape[-2]} px")
                pixels = enlarged(sheet(weights, COLUMNS[kind]))
                st.image(pixels, width="stretch", alt=f"The first {len(weights)} {KINDS[kind]} of {name}")
    frame.states(outcome, "patch-filters")
    computing.show_progress(outcome)
    if ready:
        st.markdown(reading(ready))
        frame.chart(figure(ready, outcome.colours), key="spectrum", alt="Variance of the filters held by components")
    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name=f"filters-{kind}",
        png=(lambda: together(ready, kind)) if ready else None,
        csv=(lambda: frame.csv({n: d[["spectrum"]] for n, d in ready.items()})) if ready else None,
    )


def together(datasets: Mapping[str, xr.Dataset], kind: str) -> bytes:
    """The sheets of all models side by side as one PNG."""
    sheets = [enlarged(sheet(dataset[kind].values, COLUMNS[kind])) for dataset in datasets.values()]
    tall = max(len(pixels) for pixels in sheets)
    padded = [np.pad(p, ((0, tall - len(p)), (0, 24), (0, 0)), constant_values=255) for p in sheets]
    written, data = cv2.imencode(".png", cv2.cvtColor(np.concatenate(padded, 1), cv2.COLOR_RGB2BGR))
    if not written:
        raise ValueError("The filters cannot be written as PNG.")
    return data.tobytes()
