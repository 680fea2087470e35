"""Masked reconstruction: what a masked autoencoder fills in where patches are hidden."""

from dataclasses import dataclass

import streamlit as st

from dashboard.compute.asking import Ask
from dashboard.controls.glossary import meaning
from dashboard.draw import panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Look, Row
from dashboard.state.models import reference
from dashboard.state.selection import Selection
from dashboard.view import Answer, Images, Page, Shown, View
from dashboard.views.masked_reconstruction.pictures import drawn, reading
from model_zoo.catalog import CATALOG

SHIPPED = "scenes-vit-mae"
MOST_IMAGES = 6
MOST_SEED = 999
HOW = """
A masked autoencoder was trained to predict patches that it was not shown. From the left: the image, the patches that
its encoder sees, what its decoder predicts for every patch, the prediction put in where patches were hidden, and how
far off it is there.

- **Yellow: far off**, dark blue: close. All maps share one scale. Point at a patch to read its number.
- *Draw another mask* hides other patches. The mask is the same for all images, and for all models with as many patches.
- Outlines and shading that continue through hidden patches are what the model has learned about images.
- *Filled in* looks better than *Reconstruction*: no training asked for the patches that are visible.
"""
FORMULA = r"""
$$e_i = \frac1{3p^2}\lVert \hat x_i - n(x_i)\rVert^2, \qquad n(x_i) = \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + 10^{-4}}}$$

with $x_i$ the pixels of hidden patch $i$ of side $p$, $\mu_i$ and $\sigma_i$ their mean and standard deviation, and
$\hat x_i$ the prediction. The mean of $e_i$ over the hidden patches is the loss of the training.

The decoder predicts normalised pixels. To be seen they are given the mean and deviation of the **true** patch,
$\sqrt{\sigma_i^2 + 10^{-4}}\,\hat x_i + \mu_i$, as in the visualisation of the reference implementation.

Source: He et al. 2021, [arXiv:2111.06377](https://arxiv.org/abs/2111.06377).
"""
NOT_SHOWN = """
- The model does **not** say how bright, or how strong in contrast, a hidden patch is: both are lent from the true
  patch. Only what is inside a patch is predicted, and only that is counted.
- A low error does not make features useful: it may come from texture alone.
- A training averages over all ways to fill in, so what could be several things is blurred.
- Moments of the training: the decoder is kept of the finished model alone.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: share of the patches that is hidden, per cent, and which of the random masks."""

    hidden: int
    mask: int


def another_mask() -> None:
    """Hide other patches."""
    st.session_state["mask"] = (st.session_state.get("mask", 0) + 1) % (MOST_SEED + 1)


def controls(selection: Selection) -> Chosen:
    """Draw the share that is hidden and the choice of the mask."""
    hidden = st.slider(
        "Hidden patches",
        5,
        95,
        75,
        5,
        format="%d %%",
        key="hidden",
        bind="query-params",
        width=220,
        help=meaning("patch", "Masked autoencoders are trained with 75% of them hidden."),
    )
    mask = st.number_input("Mask", 0, MOST_SEED, key="mask", bind="query-params", width=110)
    st.button("Draw another mask", icon=":material/shuffle:", on_click=another_mask)
    return Chosen(int(hidden), int(mask))


def asked(_: Chosen, selection: Selection) -> tuple[str, ...]:
    """The selected masked autoencoders; the shipped one where none is."""
    keys = {model: reference(model).key for model in selection.models}
    masked = tuple(model for model, key in keys.items() if key and CATALOG[key].family == "MAE")
    return masked or (SHIPPED,)


def shown(answer: Answer[Chosen]) -> Shown:
    """A row for each image of each model that has a decoder; the others say why not."""
    outcome, rows = answer.outcome, []
    for model in outcome.models:
        dataset = model.datasets.get("masked-reconstruction")
        if dataset is None:
            if model.waiting:
                rows.append(Row(answer.selection.images[0], [panels.pending(model)], title=model.title))
            continue
        for place, image in enumerate(answer.selection.images):
            title = model.title if place == 0 else ""
            rows.append(Row(image, drawn(model, dataset, place), title=title))
    ready = outcome.ready("masked-reconstruction")
    missing = [f"{model.title}: {model.message}" for model in outcome.models if model.message and rows]
    return Shown(
        "What a masked autoencoder fills in",
        rows,
        scale=panels.shared_scale(rows, "squared error", most=True),
        look=Look(columns=5),
        notes=missing,
        said=reading(ready) if ready else "",
        table={name: dataset[["error", "hidden"]] for name, dataset in ready.items()},
    )


VIEW = View(
    Page("Masked reconstruction", section="Compare", order=12),
    "What does a masked autoencoder fill in?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [
        Ask("masked-reconstruction", {"mask_ratio": chosen.hidden / 100, "seed": chosen.mask}),
    ],
    models=asked,
    images=Images(several=True, default=("scene:0", "scene:2", "photo:chelsea"), most=MOST_IMAGES),
)
