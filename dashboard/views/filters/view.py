"""Patch filters: the patterns that the first layer looks for."""

import streamlit as st

from dashboard.compute.asking import Ask
from dashboard.controls import choices
from dashboard.draw import frame, model_columns, palette
from dashboard.draw.frame import Help
from dashboard.runs.charts import Stored
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Page, Shown, View
from dashboard.views.filters import sheets, spatial_frequencies

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


def draw_sheets(answer: Answer[str], _: Shown) -> None:
    """A sheet a model."""
    kind, datasets = answer.chosen, answer.outcome.ready("patch-filters")
    notes = {name: sheets.described(dataset, kind) for name, dataset in datasets.items()}
    for name, place in model_columns.columns(notes, answer.outcome.colours, most=sheets.MOST[kind]).items():
        pixels = sheets.enlarged(sheets.sheet(datasets[name][kind].values, sheets.COLUMNS[kind]))
        place.image(pixels, width="stretch", alt=f"{notes[name]} of {name}")


def draw_frequencies(answer: Answer[str], _: Shown) -> None:
    """A spectrum a model with the one colour bar of all, and all over one axis."""
    datasets, colours = answer.outcome.ready("patch-filters"), answer.outcome.colours
    if not datasets:
        return
    st.header("Which spatial frequencies do the filters hold?", anchor=False)
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


def controls(_: Selection) -> str:
    """Draw what is shown, a key of ``KINDS``."""
    return choices.one_of("Show", sheets.KINDS, "kind")


def shown(answer: Answer[str]) -> Shown:
    """How many patterns the filters are made of."""
    kind, ready, colours = answer.chosen, answer.outcome.ready("patch-filters"), answer.outcome.colours
    if not ready:
        return Shown("Filters of the first layer")
    return Shown(
        "Filters of the first layer",
        charts=[
            Chart(
                sheets.figure(ready, colours),
                "spectrum",
                "Variance of the filters held by components",
                title="How many patterns are the filters made of?",
            )
        ],
        said=sheets.reading(ready),
        table=lambda: sheets.table(ready),
        document=lambda: sheets.document(ready, kind, colours),
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
    stored={
        "patch-filters": Stored(
            "spatial frequencies", lambda d, c, _: {"": spatial_frequencies.figure(d, c)}, instead=("amplitude",)
        ),
    },
)
