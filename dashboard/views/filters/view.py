"""Patch filters: the patterns that the first layer looks for."""

from collections.abc import Mapping

import cv2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from dashboard.compute.asking import Ask
from dashboard.controls import choices
from dashboard.draw import frame, matrices, model_columns, palette
from dashboard.draw.frame import Help
from dashboard.draw.matrices import Square
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Page, Shown, View
from dashboard.views.filters import spatial_frequencies

KINDS = {"components": "principal components", "filters": "filters"}
COLUMNS = {"components": 7, "filters": 16}
MOST = {"components": 4, "filters": 3}
GAP = 1
SIDE = 900
HOW = """
The first layer multiplies every patch by a set of filters. Each small picture is one filter, or one principal
component of all filters, **scaled to its own darkest and brightest value**, its three colour channels as RGB.

- Smooth waves, edges and blobs of colour: the layer decomposes patches much like a Fourier or wavelet basis.
- Noise: the filter was never trained to a pattern, as in a random network, or is not used.
- **Frequencies**: every filter's Fourier amplitude, mean over filters and channels. The middle of a picture is a plain
  patch (frequency 0), the edge a pattern that changes at every pixel (0.5). All are divided by their own mean, so that
  filters of 3 × 3 and of 16 × 16 pixels share one scale: brighter than the mean is what the layer holds much of.
- **Components**: a curve that rises early means that few patterns make up all filters.
"""
FORMULA = r"""
$W$ (filters × $3p^2$), centred over the filters, $W - \bar W = USV^\top$: component $k$ is $V_k$, its share of the
variance $S_k^2/\sum_j S_j^2$. Of a component's two signs the one is shown whose largest entry is positive.

$$a(f) = \operatorname{mean}_{k,c}\Big|\sum_{y,x} W_{kcyx}\,e^{-2\pi i (f_y y + f_x x)}\Big|$$

over the filters' own frequencies, $f_y, f_x$ in steps of $1/p$ cycles per pixel; drawn is $a$ over its mean. A ring is
as wide as that step, and frequencies beyond 0.5 (the corners) are in the pictures but in no ring.

Source: Dosovitskiy et al. 2021, Fig. 7, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929).
"""
NOT_SHOWN = """
- How **often or strongly** a filter answers: that depends on the images.
- The sizes of the filters: each is scaled by itself, so a weak one looks like a strong one.
- What later layers do with the answers. The order of filters means nothing.
- Phase and direction of single filters: the spectrum is a mean over all of them. Even random filters are about 10%
  below the mean at frequency 0, where a Fourier coefficient has no imaginary part.
- The same detail in the picture: a pixel is one of the **model's input**, and inputs differ in size.
"""


def sheet(weights: np.ndarray, columns: int) -> np.ndarray:
    """Filters (n, 3, p, p), each scaled over its own weights, side by side as RGBA uint8 with clear gaps."""
    low = weights.min(axis=(1, 2, 3), keepdims=True)
    span = weights.max(axis=(1, 2, 3), keepdims=True) - low
    scaled = (weights - low) / np.where(span > 0, span, 1)
    count, _, height, width = weights.shape
    rows = -(-count // columns)
    page = np.zeros((rows * columns, height + GAP, width + GAP, 4), np.uint8)
    page[:count, :height, :width, :3] = (scaled.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
    page[:count, :height, :width, 3] = 255
    laid = page.reshape(rows, columns, height + GAP, width + GAP, 4).swapaxes(1, 2)
    return laid.reshape(rows * (height + GAP), columns * (width + GAP), 4)[:-GAP, :-GAP]


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
    most = max((dataset.sizes["rank"] for dataset in datasets.values()), default=1)
    ticks = [n * 10**power for power in range(5) for n in (1, 2, 5) if n * 10**power <= most]
    drawn.update_xaxes(title="components kept (number, logarithmic)", type="log", tickvals=ticks)
    drawn.update_yaxes(title="share of the filters' variance (0 to 1)", range=[0, 1.02])
    return drawn.update_layout(height=360, showlegend=True)


def reading(datasets: Mapping[str, xr.Dataset]) -> str:
    """How many components it takes, per model."""
    said = []
    for name, dataset in datasets.items():
        share = np.cumsum(dataset["spectrum"].values)
        needed = int(np.argmax(share >= 0.9 - 1e-9)) + 1
        said.append(f"**{name}** {needed} of {len(share)}")
    return f"Components that hold 90% of the variance over a model's filters: {'; '.join(said)}."


def described(dataset: xr.Dataset, kind: str) -> str:
    """What a sheet holds."""
    count, _, height, width = dataset[kind].shape
    of = f"first {count} of {dataset.attrs['filter_count']}" if kind == "filters" else str(count)
    return f"{of} {KINDS[kind]}, {width} × {height} px"


def draw_sheets(answer: Answer[str], _: Shown) -> None:
    """A sheet a model."""
    kind, datasets = answer.chosen, answer.outcome.ready("patch-filters")
    notes = {name: described(dataset, kind) for name, dataset in datasets.items()}
    for name, place in model_columns.columns(notes, answer.outcome.colours, most=MOST[kind]).items() if notes else ():
        pixels = enlarged(sheet(datasets[name][kind].values, COLUMNS[kind]))
        place.image(pixels, width="stretch", alt=f"{notes[name]} of {name}")


def draw_frequencies(answer: Answer[str], _: Shown) -> None:
    """A spectrum a model with the one colour bar of all, and all over one axis."""
    datasets, colours = answer.outcome.ready("patch-filters"), answer.outcome.colours
    if not datasets:
        return
    st.subheader("Which spatial frequencies do the filters hold?", anchor=False)
    high = spatial_frequencies.ceiling(datasets)
    notes = {
        name: f"{dataset.attrs['filter_count']} filters, steps of "
        f"{palette.number(1 / dataset.sizes['frequency_x'])} cycles per pixel"
        for name, dataset in datasets.items()
    }
    for index, (name, place) in enumerate(model_columns.columns(notes, colours, most=4).items()):
        with place:
            drawn = spatial_frequencies.picture(datasets[name], high)
            frame.chart(drawn, key=f"frequencies-{index}", alt=f"Mean amplitude of the filters of {name}")
    model_columns.bar("0", f"{palette.number(high)} times the mean over all frequencies; one scale for all models")
    st.markdown(spatial_frequencies.reading(datasets))
    rings = spatial_frequencies.figure(datasets, colours)
    frame.chart(rings, key="rings", alt="Relative amplitude of the filters over radial frequency")


def table(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Shares of variance and amplitudes, one table under the other in the same columns."""
    parts = [
        dataset[variable].drop_vars("c", errors="ignore").to_dataframe(name="value").reset_index()
        .assign(model=name, quantity=f"{variable} ({dataset[variable].attrs['units']})")
        for name, dataset in datasets.items()
        for variable in ("spectrum", "amplitude")
    ]  # fmt: skip
    wanted = ["model", "quantity", "rank", "frequency_y", "frequency_x", "value"]
    return pd.concat(parts, ignore_index=True).reindex(columns=wanted)


def document(datasets: Mapping[str, xr.Dataset], kind: str, colours: Mapping[str, str]) -> str:
    """The sheets of all models as SVG; the charts save themselves."""
    drawn = [
        Square(name, colours[name], described(dataset, kind), enlarged(sheet(dataset[kind].values, COLUMNS[kind])))
        for name, dataset in datasets.items()
    ]
    return matrices.svg(drawn, scale=None, title="Filters of the first layer", caption=reading(datasets))


def controls(_: Selection) -> str:
    """Draw what is shown, a key of ``KINDS``."""
    return choices.one_of("Show", KINDS, "kind")


def shown(answer: Answer[str]) -> Shown:
    """How many patterns the filters are made of."""
    kind, ready, colours = answer.chosen, answer.outcome.ready("patch-filters"), answer.outcome.colours
    if not ready:
        return Shown("Filters of the first layer")
    return Shown(
        "Filters of the first layer",
        charts=[Chart(figure(ready, colours), "spectrum", "Variance of the filters held by components")],
        said=reading(ready),
        table=lambda: table(ready),
        document=lambda: document(ready, kind, colours),
    )


VIEW = View(
    Page("First filters", section="Representation", order=50),
    "What does the first layer look for?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda _: [Ask("patch-filters")],
    images=None,
    above=draw_sheets,
    below=draw_frequencies,
)
