"""High frequencies and variance of the feature maps, across every attention and every MLP."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st
import xarray as xr

from dashboard.compute.asking import Ask
from dashboard.controls import choices, image_sets
from dashboard.controls.glossary import meaning
from dashboard.draw import chart_files, export, frame, model_columns
from dashboard.draw.figures import courses, over_depth
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Images, Page, Shown, View
from dashboard.views.fourier import spectra

QUESTION = "Do attentions blur and convolutions sharpen?"
QUANTITIES = {"fourier": "high frequencies", "feature-variance": "variance"}
"""Probe to what it is called."""
AXES = {
    "fourier": "Δ log amplitude at the highest frequency",
    "feature-variance": "variance over the image (squared units of the model)",
}
WHAT = {"fourier": "the amplitude at the highest frequency", "feature-variance": "the variance over the image"}
SPECTRA = {"diagonal": "diagonal", "radial": "rings"}
HOW = """
After every attention and every MLP the patch tokens, laid out as a picture, are a stack of feature maps. The chart
follows **how much fine detail they hold**, relative to their mean level: a line that falls across a grey span says
that attention blurred the maps, one that rises across a yellow span that the MLP sharpened them again. Convolutional
networks have neither; each of their points is a whole block.

- *High frequencies*: the logarithm of the amplitude at the finest pattern of the grid, less that of the mean level. −1
  is a factor of 2.7.
- *Variance*: how much a channel varies over the image; attention averages over positions, which lowers it.
- *All frequencies*: a curve a point, dark for the embedding, yellow for the last block. On the left the mean level, on
  the right the finest pattern.

The paper's finding: attentions fall, MLPs and convolutions rise, and in ViTs the course ends low.
"""
FORMULA = r"""
$$S_l(f) = \operatorname{mean}_{i,c}\log\big(|\mathcal F z^{(l)}_{ic}(f)| + 10^{-6}\big),\qquad
\Delta S_l(f) = S_l(f) - S_l(0)$$

$z_{ic}$: channel $c$ of image $i$ on its grid, prefix tokens left out. *Diagonal*: the bins $(k,k)$ at
$f = 2\pi k/g$, $g$ the shorter side of the grid (on the longer side the nearest bin), up to the last below $\pi$, as in
the paper's code. *Rings*: the mean over all bins about as far from 0.

$$v_l = \operatorname{mean}_{i,c}\ \operatorname{var}_{\text{positions}} x^{(l)}_{ic} \quad\text{(unbiased)}$$

A change counts as a fall or a rise where it exceeds twice its standard error over the images, taken image by image.

Source: Park & Kim 2022, Figs. 2a, 8 and 9, [arXiv:2202.06709](https://arxiv.org/abs/2202.06709).
"""
NOT_SHOWN = """
- Whether blurring **helps**. The chart says what happens to detail, not what the answer needs.
- Levels are not comparable between grids: the highest frequency of a 4 × 4 grid is a far larger pattern in the picture
  than that of a 14 × 14 grid. Spans across which the grid changes are not counted.
- Variance is in squared units of each model: read the change across a span, not the height of a line. A residual
  stream grows with depth by itself.
- Position embeddings that stay in the stream are pattern, too.
- Even white noise lies at 0.35, not at 0: the mean level is a real number, all other amplitudes are complex.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: the probe, and the spectrum of ``fourier``."""

    probe: str
    spectrum: str


def controls(_: Selection) -> Chosen:
    """Draw the quantity, and the spectrum where there is one."""
    probe = choices.one_of("Follow", QUANTITIES, "follow", help=meaning("spatial frequency"))
    if probe != "fourier":
        return Chosen(probe, "diagonal")
    spectrum = choices.one_of("Spectrum", SPECTRA, "spectrum", help="Along the diagonal, as in the paper, or in rings.")
    return Chosen(probe, spectrum)


def shown(answer: Answer[Chosen]) -> Shown:
    """All models over their depth, and what that says of attention and MLP."""
    probe, ready, colours = answer.chosen.probe, answer.outcome.ready(answer.chosen.probe), answer.outcome.colours
    if not ready:
        return Shown(QUESTION)
    found = {name: courses.course(dataset) for name, dataset in ready.items()}
    figure = over_depth.figure(found, colours, AXES[probe], log=probe != "fourier")
    said = f"{courses.verdict(found, WHAT[probe])}  \n{_basis(ready, found, probe)}"
    return Shown(
        QUESTION,
        charts=[Chart(figure, "over-depth", f"{AXES[probe]}, over the depth of the models")],
        said=said,
        table=ready,
        document=lambda: _document(answer, said),
    )


def _basis(ready: Mapping[str, xr.Dataset], found: Mapping[str, courses.Course], probe: str) -> str:
    n = next(iter(ready.values())).attrs["n"]
    images = f"n = {n} image{'s' * (n > 1)}, standard errors over them" if n > 1 else "n = 1 image"
    if probe != "fourier":
        return f"Unbiased variance over positions, mean over channels and images; {images}."
    tops = sorted({float(f) / 3.141592653589793 for one in found.values() for f in one.frequency if f == f})
    spectrum = SPECTRA[str(next(iter(ready.values())).attrs["spectrum"])]
    ends = " to ".join(dict.fromkeys(number(top, 2) for top in (tops[0], tops[-1]))) if tops else "–"
    return f"Highest frequency: {ends} π of each grid ({spectrum}); ΔS of log amplitudes; {images}."


def _document(answer: Answer[Chosen], said: str) -> str:
    drawn = shown(answer)
    parts = [chart_files.svg(chart.figure, f"{QUESTION} {chart.alt}", said) for chart in drawn.charts]
    if answer.chosen.probe == "fourier":
        ready = answer.outcome.ready("fourier")
        whole = spectra.figure(ready, spectra.ends(ready))
        colours = "A curve a point of the model: purple the embedding, yellow after the last block."
        parts.append(chart_files.svg(whole, "All frequencies", colours, tall=230 * -(-len(ready) // spectra.ABREAST)))
    return export.stacked(parts) if len(parts) > 1 else parts[0]


def below(answer: Answer[Chosen], _: Shown) -> None:
    """The spectrum of every point, a chart a model."""
    ready = answer.outcome.ready("fourier")
    if answer.chosen.probe != "fourier" or not ready:
        return
    st.header("All frequencies, from the embedding to the last block", anchor=False)
    frame.legend(spectra.legend())
    span = spectra.ends(ready)
    notes = {name: f"{dataset.sizes['point']} points" for name, dataset in ready.items()}
    columns = model_columns.columns(notes, answer.outcome.colours, most=spectra.ABREAST)
    for index, (name, place) in enumerate(columns.items()):
        with place:
            drawn = spectra.figure({name: ready[name]}, span, titled=False)
            frame.chart(drawn, key=f"spectra-{index}", alt=f"Spectra of {name} from the embedding to the last block")


VIEW = View(
    Page("Blur and sharpen", section="Representation", order=65),
    QUESTION,
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [
        Ask("fourier", {"spectrum": chosen.spectrum}) if chosen.probe == "fourier" else Ask("feature-variance")
    ],
    images=Images(
        several=True, default=("photo:coffee", "photo:chelsea", "photo:china"), set_default=image_sets.as_trained
    ),
    below=below,
    subtitle="Spatial frequencies and variance of the feature maps, across every attention and every MLP",
)
