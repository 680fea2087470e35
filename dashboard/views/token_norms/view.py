"""Norms of the tokens after every block, and the patches whose norm stands out."""

from dataclasses import dataclass

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices
from dashboard.controls.glossary import meaning
from dashboard.draw import panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Panel, Row, Scale
from dashboard.images import gallery
from dashboard.runs.charts import Stored
from dashboard.state.selection import Depth, Selection
from dashboard.view import Answer, Chart, Page, Shown, View
from dashboard.views.token_norms.norms import drawn_values, figure, histogram, of_run, reading

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


@dataclass(frozen=True)
class Chosen:
    """What the controls say: layer, key of ``VALUES``, and from how many medians a norm is high."""

    depth: Depth
    values: str
    factor: float


def panel(model: ModelResult, depth: Depth, values: str) -> Panel:
    """One model's panel, high patches framed."""
    dataset = model.datasets.get("token-norm")
    if dataset is None:
        return panels.pending(model)
    count = dataset.sizes["layer"]
    layer = depth.index(count)
    shown = drawn_values(dataset, layer, values)
    high = dataset["high"].isel(image=0, layer=layer).values[: shown.shape[0], : shown.shape[1]]
    note = f"layer {layer + 1} of {count} · {int(high.sum())} of {high.size} patches high"
    own = Scale.over([shown], VALUES[values]) if values == "norm" else None
    return panels.of_model(model, note, shown, mask=high if high.any() else None, contour_only=True, scale=own)


def controls(selection: Selection) -> Chosen:
    """Draw layer, values and factor."""
    depth = choices.layer(asking.known(selection))
    values = choices.one_of("Values", VALUES, "norms", help=meaning("token norm"))
    factor = st.slider(
        "High from (× median)", 1.5, 10.0, 3.0, 0.5, key="factor", bind="query-params", help="Patches above are framed."
    )
    return Chosen(depth, values, factor)


def shown(answer: Answer[Chosen]) -> Shown:
    """Panels of one layer, and the longest tokens over all."""
    chosen, outcome, picture = answer.chosen, answer.outcome, answer.selection.images[0]
    row = Row(picture, [panel(model, chosen.depth, chosen.values) for model in outcome.models])
    ready, colours = outcome.ready("token-norm"), outcome.colours
    at = {name: chosen.depth.index(dataset.sizes["layer"]) for name, dataset in ready.items()}
    drawn = [
        Chart(figure(ready, colours, at), "norms-over", "Longest token norm over the layers"),
        Chart(histogram(ready, colours, at), "norms-hist", "Histogram of patch norms"),
    ]
    return Shown(
        f"{gallery.title(picture)}: token norms",
        [row],
        scale=panels.shared_scale([row], VALUES["relative"]) if chosen.values == "relative" else None,
        said=reading(ready, at),
        charts=drawn if ready else (),
        table={name: dataset[["norm", "high"]] for name, dataset in ready.items()},
    )


VIEW = View(
    Page("Token norms", section="Attention", order=60),
    "Which tokens grow long?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [Ask("token-norm", {"factor": chosen.factor})],
    overlays=True,
    stored={"token-norm": Stored("longest tokens over the layers", of_run, of_image=True)},
)
