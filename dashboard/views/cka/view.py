"""CKA: which layers of two models represent the same images alike."""

from dataclasses import dataclass

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask
from dashboard.controls import choices, token_layers
from dashboard.controls.glossary import meaning
from dashboard.draw import square_columns
from dashboard.draw.figures.layer_squares import (
    REPRESENTATIONS,
    document,
    of_run,
    reading,
    squares_of,
)
from dashboard.draw.frame import Help
from dashboard.runs.charts import Stored
from dashboard.state import models
from dashboard.state.selection import Selection
from dashboard.view import Answer, Images, Page, Shown, View

POINTS = {"blocks": "block outputs", "all": "also attention, MLP"}
HOW = """
Each square compares every layer of one model (across) with every layer of another (up). **Yellow: the two layers order
the same images alike**, up to a rotation and one scale of their features; black: they have nothing in common.

- A model against itself is 1 on the diagonal. A bright block around it is a stage in which little changes.
- Between two models, a bright line along the diagonal means that they build up alike; a bright row means that one layer
  of the model resembles many of the other.
- Hover for the value and its spread over minibatches.
"""
FORMULA = r"""
$$\mathrm{CKA} = \frac{\sum \mathrm{HSIC}_1(K,L)}{\sqrt{\sum \mathrm{HSIC}_1(K,K)\,\sum \mathrm{HSIC}_1(L,L)}}, \qquad
K = XX^\top,\; L = YY^\top$$

$$\mathrm{HSIC}_1 = \tfrac{1}{n(n-3)}\Big[\mathrm{tr}(KL) + \tfrac{(1^\top K1)(1^\top L1)}{(n-1)(n-2)} -
\tfrac{2}{n-2}1^\top KL1\Big]$$

with $X$ a vector for each image: all its tokens, CLS, the mean of its patches, or *by each model's card*: CLS, or the
mean where no training reached CLS or the classifier averages the patches. Over minibatches of n = 32 images, diagonals
set to zero, sums taken before dividing. Source: Kornblith et al. 2019,
[arXiv:1905.00414](https://arxiv.org/abs/1905.00414); Nguyen et al. 2021,
[arXiv:2010.15327](https://arxiv.org/abs/2010.15327).
"""
NOT_SHOWN = """
- **Which** features two layers share: CKA is blind to rotation, and high CKA is not the same function.
- Small directions: those of largest variance decide, and a few outlying images can.
- It depends on the images. Few images make a noisy estimate, which can leave 0 to 1 a little.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: one or two models, and the keys of ``REPRESENTATIONS`` and ``POINTS``."""

    models: tuple[str, ...]
    representation: str
    points: str


def two_of(selection: Selection) -> tuple[str, ...]:
    """Draw the choice of two models when there are more, and return them."""
    if len(selection.models) <= 2:
        return selection.models
    chosen = []
    for place, (label, key) in enumerate((("Model", "across"), ("against", "up"))):
        if st.session_state.get(key) not in selection.models:
            st.session_state.pop(key, None)
        chosen.append(
            st.selectbox(
                label,
                selection.models,
                index=place,
                key=key,
                bind="query-params",
                format_func=models.title,
                width=150,
            )
        )
    return tuple(dict.fromkeys(chosen))


def controls(selection: Selection) -> Chosen:
    """Draw the models, their features and the points."""
    pair = two_of(selection)
    representation = choices.one_of("Features", REPRESENTATIONS, "representation", help=token_layers.BY_CARD)
    return Chosen(
        pair, representation, choices.one_of_many("Layers", POINTS, "points", width=155, help=meaning("layer"))
    )


def asks(chosen: Chosen) -> list[Ask]:
    """One comparison of the two models."""
    params: dict[str, str | int] = {"representation": chosen.representation, "points": chosen.points, "minibatch": 32}
    return [Ask("cka", params, pairs=True)]


def draw_squares(answer: Answer[Chosen], _: Shown) -> None:
    """A square beside the other, on one scale."""
    outcome = answer.outcome
    square_columns.draw(squares_of(outcome), outcome.colours)
    known = any(model.reasons for model in outcome.models)  # said for the model that it is true of
    for dataset in outcome.pairs.values():
        if "undefined" in dataset.attrs and not known:
            st.info(asking.sentence(f"No square between the two: {dataset.attrs['undefined']}"), icon=":material/info:")


def shown(answer: Answer[Chosen]) -> Shown:
    """What the squares say."""
    outcome = answer.outcome
    found = squares_of(outcome)
    said = reading(found) if found else ""
    return Shown(
        "Similarity of layers (CKA)",
        said=said,
        table={f"{a} + {b}": dataset for (a, b), dataset in found.items()},
        document=(lambda: document(found, outcome.colours, said)) if found else None,
    )


VIEW = View(
    Page("Layer similarity (CKA)", section="Representation", order=60),
    "Which layers represent images alike?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=asks,
    models=lambda chosen, _: chosen.models,
    images=Images(several=True, set_default="scenes-100"),
    above=draw_squares,
    stored={"cka": Stored("CKA of layers", of_run, instead=("cka",), units="CKA")},
)
