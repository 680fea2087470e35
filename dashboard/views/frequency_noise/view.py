"""What noise of one spatial frequency does to answers and embeddings, with the noisy picture."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from dashboard.compute.asking import Ask
from dashboard.controls import choices, image_sets
from dashboard.controls.glossary import meaning
from dashboard.draw import chart_files, export
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.images import gallery
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Images, Page, Shown, View
from dashboard.views.frequency_noise import curves, pictures
from model_zoo.adapter import ModelSpec

QUESTION = "Which detail do models lean on?"
STEPS, WIDTH = 9, 0.2
POWERS = {"ring": "as in the paper", "equal": "equal everywhere"}
HOW = """
Noise of one spatial frequency is added to every image: slow waves on the left of the charts, a pattern that changes
with every pixel on the right. **Where a model falls, there it was listening.** Move the slider to see the noise; the
models are not run again.

- *Change of accuracy*: percentage points, where the classes of the images are known and the model's own. Otherwise the
  share of images whose answer stays.
- *Cosine*: how far the embedding moves, also for models without a classifier. 1: not at all.
- *Strength, as in the paper*: the noise is all that a ring leaves of white noise, so the higher the frequency the
  stronger it is. *Equal everywhere* takes that away.

The paper's finding: ViTs withstand high-frequency noise and suffer from low-frequency noise; for ResNets it is the
other way round.
"""
FORMULA = r"""
$$x' = x + \operatorname{Re}\,\mathcal F^{-1}\big(M_f \odot \mathcal F\delta\big),\qquad
\delta=\varepsilon\,\operatorname{sign}(n),\ n\sim\mathcal N(0,1)$$

$x$: the model's input as pixels from 0 to 1, before it is normalised; nothing is cut off afterwards. $M_f$: a square
ring around frequency 0 between the half-widths $\lfloor(f\pm s)\,h/2\pi\rfloor$ bins, $s = 0.2$. *Equal everywhere*
divides the noise so that its root mean square is $\varepsilon$.

Source: Park & Kim 2022, Fig. 2b, [arXiv:2202.06709](https://arxiv.org/abs/2202.06709), in whose code the noise is added
to normalised inputs.
"""
NOT_SHOWN = """
- What happens with fog, blur or a poor camera: this noise is made, not taken.
- A frequency is one of the model's **input**: where inputs differ in size, π is another size in the picture.
- Cosines of different models have no common level: compare the shape of the curves.
- A model may have met noise in its training (colour jitter, crops, random erasing): that is not its architecture's.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: the frequency of the picture in units of π, ε, and how strength goes with frequency."""

    at: float
    epsilon: float
    power: str


def controls(_: Selection) -> Chosen:
    """Draw the frequency of the picture, and the strength of the noise."""
    at = st.slider(
        "Frequency of the picture (π)",
        0.0,
        1.0,
        0.5,
        1 / (STEPS - 1),
        format="%.3f",
        key="frequency",
        bind="query-params",
        width=240,
        help=meaning("spatial frequency"),
    )
    epsilon = st.slider(
        "Noise ε", 0.05, 0.5, 0.2, 0.05, key="epsilon", bind="query-params", width=180, help="In pixels from 0 to 1."
    )
    power = choices.one_of("Strength", POWERS, "power", help="By what the ring leaves, or the same at every frequency.")
    return Chosen(float(at), float(epsilon), power)


def above(answer: Answer[Chosen], _: Shown) -> None:
    """The first image, the noise of the chosen frequency, and both together."""
    chosen, model = answer.chosen, answer.outcome.models[0]
    size = model.spec.input_size if model.spec is not None else (224, 224)
    geometry = model.geometries[0] if model.geometries else None
    image = answer.selection.images[0]
    clean = pictures.cut(gallery.load(image), geometry, size)
    options = {"epsilon": chosen.epsilon, "width": WIDTH, "power": chosen.power}
    noise = pictures.noise(size, chosen.at * np.pi, **options)
    strength = number(float(np.sqrt((noise**2).mean())), 2)
    title = gallery.title(image)
    drawn = {
        f"{title}, {size[0]} × {size[1]} pixels": clean,
        f"noise at {number(chosen.at)} π, root mean square {strength}": 0.5 + noise,
        "with noise": clean + noise,
    }
    for place, (caption, values) in zip(st.columns(3, gap="medium"), drawn.items(), strict=True):
        alt = f"{title}: {caption}"
        place.image(pictures.shown(values), caption=caption, width="stretch", alt=alt)


def shown(answer: Answer[Chosen]) -> Shown:
    """Answers and embeddings over the frequency of the noise."""
    ready, colours, at = answer.outcome.ready("frequency-noise"), answer.outcome.colours, answer.chosen.at
    if not ready:
        return Shown(QUESTION)
    drawn = []
    for variable in curves.measured(ready):
        if any(np.isfinite(dataset[variable].values).any() for dataset in ready.values()):
            figure = curves.figure(ready, colours, variable, at)
            drawn.append(Chart(figure, f"noise-{variable}", f"{curves.AXES[variable]} over the frequency of the noise"))
    missing = [model.title for model in answer.outcome.models if model.title in ready and not _classifies(model.spec)]
    said = curves.reading(ready, missing)
    texts = [said, *[""] * (len(drawn) - 1)]

    def document() -> str:
        parts = [chart_files.svg(one.figure, one.alt, text) for one, text in zip(drawn, texts, strict=True)]
        return export.stacked(parts) if len(parts) > 1 else parts[0]

    return Shown(QUESTION, charts=drawn, said=said, table=ready, document=document)


def _classifies(spec: ModelSpec | None) -> bool:
    return spec is not None and spec.classes > 0


VIEW = View(
    Page("Frequency noise", section="Experiments", order=20),
    QUESTION,
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [
        Ask("frequency-noise", {"epsilon": chosen.epsilon, "power": chosen.power, "frequencies": STEPS})
    ],
    images=Images(
        several=True, default=("photo:coffee", "photo:chelsea", "photo:china"), set_default=image_sets.as_trained
    ),
    above=above,
    subtitle="Noise of one spatial frequency, and what it does to answers and embeddings",
)
