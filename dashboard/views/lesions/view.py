"""What single heads and blocks contribute: each is left out alone, and the answer compared."""

from dataclasses import dataclass
from functools import partial

import plotly.graph_objects as go
import streamlit as st

from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices
from dashboard.controls.glossary import meaning
from dashboard.draw import frame, model_columns
from dashboard.draw.figures import lesion_effects
from dashboard.draw.figures.lesion_effects import EFFECTS
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.images.sets import FEW_SCENES
from dashboard.state.selection import Selection
from dashboard.view import Answer, Images, Page, Shown, View
from dashboard.views.lesions import switches

QUESTION = "What does each block and head contribute?"
HOW = """
**A cell is a head**, layers from left to right: what changes when this head alone is left out. All maps have one scale.
The curves leave out a whole branch of a block: its attention (solid) or its MLP (dashed); of a convolutional network
the block beside its shortcut (dotted).

- *Embedding*: how far the vector that stands for an image turns; 0 where nothing changes. Every model has it.
- *Confidence*: the probability of the class that the intact model predicts; below 0 (blue) where it is lost.
- *Right answers*: for images with a label that is one of the model's classes, such as scenes.
- **Click a cell** to switch the head off on one picture below; click it again to switch it on. Several can be off.
"""
FORMULA = r"""
$$\Delta p = p_{-h}(\hat y) - p(\hat y),\quad \hat y = \arg\max_c p(c),\qquad
1 - \frac{e_{-h}\cdot e}{\lVert e_{-h}\rVert\,\lVert e\rVert}$$

as means over the images, with $-h$ the network without a part: of a head its output is zero before the projection
(whose bias stays), of a branch what it would add to the residual stream. $e$ is CLS or the mean of the patches, as each
model's card says.

Source: Park & Kim 2022, [arXiv:2202.06709](https://arxiv.org/abs/2202.06709); heads as in Michel et al. 2019,
[arXiv:1905.10650](https://arxiv.org/abs/1905.10650).
"""
NOT_SHOWN = """
- **Small does not mean useless**: another part may do the same, and only one is left out at a time.
- **Large does not mean that the answer is made there**: later parts may only need this one to be as it was in training.
- A network without a part was never trained so; trained again it could do without.
- Heads have no order: head 3 of one layer has nothing to do with head 3 of the next.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: key of ``EFFECTS``."""

    effect: str


def controls(_: Selection) -> Chosen:
    """Draw the choice of the effect."""
    named = {key: one.name for key, one in EFFECTS.items()}
    return Chosen(choices.one_of("Effect on", named, "effect", help=meaning("lesion")))


def shown(answer: Answer[Chosen]) -> Shown:
    """The sentence, the table, and maps and curves as a file."""
    ready, effect = answer.outcome.ready("lesion"), answer.chosen.effect
    if not ready:
        return Shown(QUESTION)
    saved = any(lesion_effects.drawn(one, of, effect) is not None for one in ready.values() for of in ("head", "part"))
    return Shown(
        QUESTION,
        said=lesion_effects.reading(ready, effect),
        table=partial(lesion_effects.table, ready),
        document=partial(lesion_effects.document, ready, effect, answer.outcome.colours, QUESTION) if saved else None,
    )


def above(answer: Answer[Chosen], _: Shown) -> None:
    """The maps of all models, to be clicked, and beside them the curves."""
    ready, effect, colours = answer.outcome.ready("lesion"), answer.chosen.effect, answer.outcome.colours
    if not any(lesion_effects.drawn(one, "part", effect) is not None for one in ready.values()):
        return
    shared = lesion_effects.scale(ready, effect)
    maps, curves = st.columns([3, 2], gap="large")
    with maps:
        placed = [
            (index, model, values)
            for index, model in enumerate(answer.outcome.models)
            if model.title in ready and (values := lesion_effects.drawn(ready[model.title], "head", effect)) is not None
        ]
        titles = {model.title: "" for _, model, _ in placed}
        places = model_columns.columns(titles, colours, most=2) if titles else {}
        for index, model, values in placed:
            with places[model.title]:
                _map(index, model, lesion_effects.head_map(values, shared, model.colour, _off(model, index)))
        if placed:
            low = number(shared.low)
            model_columns.bar(low, f"{number(shared.high)} {shared.units}", signed=shared.signed)
    with curves:
        figure = lesion_effects.curves(ready, effect, colours)
        frame.chart(figure, key="lesion-curves", alt="Effect of leaving out attention or MLP, over the layers")


def _off(model: ModelResult, index: int) -> list[lesion_effects.Head]:
    return switches.pairs(switches.off(model, index))


def _map(index: int, model: ModelResult, figure: go.Figure) -> None:
    """A model's map; a click switches a head. Its name changes with the heads, so that a click can be repeated."""
    key = f"lesion-map-{index}-{'-'.join(switches.off(model, index))}"

    def clicked() -> None:
        for point in (st.session_state.get(key) or {}).get("selection", {}).get("points", [])[:1]:
            switches.toggle(index, f"{int(point['x'])}.{int(point['y'])}")

    frame.legible(figure)
    alt = f"What leaving out each head of {model.title} changes, layers by heads"
    st.plotly_chart(figure, key=key, alt=alt, on_select=clicked, selection_mode="points", config=frame.CHART_CONFIG)


def below(answer: Answer[Chosen], _: Shown) -> None:
    """Heads switched off by hand on one picture."""
    if answer.outcome.ready("lesion"):
        colours = {model.model: model.colour for model in answer.outcome.models}
        switches.draw(answer.outcome, answer.selection.images, colours)


VIEW = View(
    Page("Lesions", section="Experiments", order=20),
    QUESTION,
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda _: [Ask("lesion")],
    images=Images(several=True, default=FEW_SCENES, set_default="chosen", set_most=250),
    above=above,
    below=below,
    subtitle="The change when one head, or one branch of a block, is left out",
)
