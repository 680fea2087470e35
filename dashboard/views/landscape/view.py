"""The loss around a model's weights: a plane through them, and the curvature at them."""

from dataclasses import dataclass
from functools import partial

import streamlit as st

from dashboard.compute.asking import Ask
from dashboard.controls import choices
from dashboard.controls.glossary import meaning
from dashboard.draw import chart_files, frame, model_columns
from dashboard.draw.figures import loss_planes
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.images.sets import FEW_SCENES
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Images, Page, Shown, View
from dashboard.views.landscape import spectra

QUESTION = "How rough is the loss around the weights?"
SHOWN = {"plane": "landscape", "spectrum": "Hessian spectrum"}
HEIGHTS = {"linear": "linear", "log": "logarithm"}
POINTS = {"11": "11 × 11", "21": "21 × 21", "31": "31 × 31"}
"""Points of the plane; the first is the usual number."""
HOW = """
**Landscape**: the middle of each plane (the cross) is the trained model. Away from it all filters are changed along two
random directions, each filter by as much as it is long; the height is the model's own loss on the images. A smooth bowl
says that small changes of the weights matter little; ridges and walls that they matter much.

- All models with the same loss share one scale. *Logarithm* shows the floor of the bowl.
- Grey: the loss is not finite there.
- *Seed* chooses another plane. Look at several before you call a model flat.

**Hessian spectrum**: how much the loss curves at the weights. To the right of 0 it curves up, to the left down; far to
the right lie the few sharp directions. A mark is the largest eigenvalue of a mini-batch of 8 images.
"""
FORMULA = r"""
$$L(\alpha,\beta) = \tfrac1n\sum_i \ell_i(\theta+\alpha\delta+\beta\eta),\qquad
\delta_f \leftarrow \frac{\delta_f}{\lVert\delta_f\rVert}\lVert\theta_f\rVert,\qquad
H = \nabla^2_\theta\,\tfrac1B\sum_i \ell_i$$

with $\delta, \eta$ normal numbers and $f$ a filter. Biases, norms and tables of positions and tokens stay. $\ell$ is
cross-entropy with the image's label; of a masked autoencoder the error of its reconstruction, 75% of the patches
hidden. The spectrum is Lanczos quadrature with 20 products a mini-batch.

Source: Li et al. 2018, [arXiv:1712.09913](https://arxiv.org/abs/1712.09913); Park & Kim 2022,
[arXiv:2202.06709](https://arxiv.org/abs/2202.06709); Ghorbani et al. 2019,
[arXiv:1901.10159](https://arxiv.org/abs/1901.10159).
"""
NOT_SHOWN = """
- **Two directions of millions**: what curves along others is not seen.
- A flat surface does not say that a model generalises; norms can undo what scaling weights does to sharpness.
- The training's own loss had augmentation, label smoothing or a teacher; here it is the plain loss on whole images.
- Losses of different kinds (cross-entropy, reconstruction) have scales of their own and do not compare.
- DINO and CLIP: their training compared with a teacher or with texts that are not kept, so they have no loss here.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: key of ``SHOWN``, heights as logarithms, points along a direction, seed."""

    what: str
    log: bool
    points: int
    seed: int

    @property
    def probe(self) -> str:
        """Which probe answers."""
        return "loss-landscape" if self.what == "plane" else "hessian-spectrum"


def controls(_: Selection) -> Chosen:
    """Draw what is shown, the scale of heights, the points and the seed."""
    what = choices.one_of("Show", SHOWN, "surroundings", help=meaning("loss landscape", meaning("Hessian")))
    plane = what == "plane"
    log = plane and choices.one_of("Heights", HEIGHTS, "heights") == "log"
    points = choices.one_of_many("Points", POINTS, "points", width=110) if plane else next(iter(POINTS))
    seed = st.number_input("Seed", 0, 99, 0, key="plane", bind="query-params", width=100)
    return Chosen(what, log, int(points), int(seed))


def asks(chosen: Chosen) -> list[Ask]:
    """The plane or the spectrum."""
    params = {"seed": chosen.seed, **({"steps": chosen.points} if chosen.what == "plane" else {})}
    return [Ask(chosen.probe, params)]


def shown(answer: Answer[Chosen]) -> Shown:
    """The sentence, the chart of the spectra, the table, and the planes as a file."""
    chosen, colours = answer.chosen, answer.outcome.colours
    ready = answer.outcome.ready(chosen.probe)
    if not ready:
        return Shown(QUESTION)
    if chosen.what == "plane":
        made = partial(loss_planes.document, ready, colours, QUESTION, log=chosen.log)
        return Shown(QUESTION, said=loss_planes.reading(ready), table=ready, document=made)
    chart = Chart(spectra.figure(ready, colours), "spectrum", "Density of the Hessian's eigenvalues")
    made = partial(chart_files.svg, chart.figure, "Hessian spectrum", spectra.reading(ready))
    return Shown(QUESTION, said=spectra.reading(ready), charts=[chart], table=ready, document=made)


def above(answer: Answer[Chosen], _: Shown) -> None:
    """For each model its surface and, beside it, the plane from above."""
    ready, log = answer.outcome.ready("loss-landscape"), answer.chosen.log
    scales = loss_planes.scales(ready, log=log)
    for model in answer.outcome.models:
        dataset = ready.get(model.title)
        scale = scales.get(dataset.attrs["objective"]) if dataset is not None else None
        if dataset is None or scale is None:
            continue
        note = f"{number(dataset.attrs['centre'])} at the weights · {dataset.attrs['objective']}"
        st.html(model_columns.heading(model.title, note, model.colour))
        left, right = st.columns(2, gap="medium")
        name = model.model
        with left:
            alt = f"Loss of {model.title} as a surface over the plane"
            frame.chart(loss_planes.surface(dataset, scale, log=log), key=f"surface-{name}", alt=alt)
        with right:
            alt = f"Loss of {model.title} on the plane, from above"
            frame.chart(loss_planes.contours(dataset, scale, log=log), key=f"contours-{name}", alt=alt)
    for scale in scales.values():
        model_columns.bar(number(scale.low), f"{number(scale.high)} {scale.units}")


VIEW = View(
    Page("Loss landscape", section="Experiments", order=30),
    QUESTION,
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=asks,
    images=Images(several=True, default=FEW_SCENES, set_default="chosen", set_most=250),
    above=above,
    subtitle="The model's own loss on labelled images, or on any image for a masked autoencoder; this takes minutes",
)
