"""Patch colours: patches that a model represents alike get the same colour."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices, token_layers
from dashboard.controls.glossary import meaning
from dashboard.draw import panels
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.draw.panels import Panel, Row
from dashboard.images import gallery
from dashboard.state import link
from dashboard.state.selection import Depth, Selection
from dashboard.view import Answer, Images, Page, Shown, View
from model_zoo.catalog import CATALOG

FOREGROUNDS = {"none": "all patches", "first": "foreground only"}
MOST_ROWS = 12
HOW = """
Every patch is painted with the first three principal components of its feature: red the first, green the second, blue
the third. **Patches of the same colour are represented alike**, in all images of one column: the components are fitted
over all chosen images of a model together.

- The same part of several objects in the same colour: the model has found what corresponds.
- Colours that follow the place in the image and not what is there: position dominates.
- *Foreground only* splits the patches in two along the first component, keeps the part that touches the borders less,
  and fits again on it alone.
"""
FORMULA = r"""
$$X - \bar X = USV^\top, \qquad t_k = (X - \bar X)V_k, \quad k = 1, 2, 3$$

with a row of $X$ for every patch of every image. A component's sign is arbitrary: the entry of $V_k$ of largest
magnitude is made positive. Each component runs from its 1st to its 99th percentile over all images.

Source: Oquab et al. 2023, [arXiv:2304.07193](https://arxiv.org/abs/2304.07193); Amir et al. 2021,
[arXiv:2112.05814](https://arxiv.org/abs/2112.05814).
"""
NOT_SHOWN = """
- Colours of **two models** have nothing to do with each other: compare where they change, not which they are.
- Three directions of variance out of hundreds; the rest may hold what matters.
- A component is no object. Add or take away an image and the colours may change.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: the layer, and the key of ``FOREGROUNDS``."""

    depth: Depth
    foreground: str


def default_images() -> tuple[str, ...]:
    """Scenes for the shipped models, which were trained on them; two photos for all others."""
    shipped = all(model in CATALOG and CATALOG[model].weights == "shipped" for model in link.get("model"))
    if shipped and gallery.has_scenes():
        return ("scene:0", "scene:2", "scene:1")
    return ("photo:chelsea", "photo:astronaut")


def colours(dataset: xr.Dataset, image: int) -> np.ndarray:
    """RGBA (y, x, 4) of one image; the background is left transparent."""
    rgb = dataset["rgb"].values[image]
    inside = np.isfinite(rgb).all(-1)
    scaled = (np.nan_to_num(rgb) * 255).round().astype(np.uint8)
    return np.dstack([scaled, np.where(inside, 255, 0).astype(np.uint8)])


def panel(model: ModelResult, image: int, depth: Depth) -> Panel:
    """One model's view of one image."""
    dataset = model.datasets.get("patch-pca")
    if dataset is None or model.spec is None:
        return panels.pending(model, image=image)
    parts = dataset["component"].values[image].reshape(-1, 3)
    texts = [" / ".join(number(float(value), 2) for value in row) for row in parts]
    note = token_layers.text(model.spec, depth)
    return panels.of_model(model, note, image=image, rgba=colours(dataset, image), texts=texts)


def reading(datasets: Mapping[str, xr.Dataset]) -> str:
    """How much the three components hold, per model."""
    said = []
    for name, dataset in datasets.items():
        held = number(100 * float(dataset["explained"].sum()))
        share = number(100 * dataset.attrs["foreground_fraction"])
        kept = f"; foreground {share}% of them" if dataset.attrs["foreground"] == "first" else ""
        said.append(f"**{name}** {held}% ({dataset.sizes['y'] * dataset.sizes['x']} patches an image{kept})")
    n = next(iter(datasets.values())).sizes["image"]
    return (
        f"The three components hold this much of the variance of the patch features: {', '.join(said)}; n = {n} "
        f"image{'s' if n > 1 else ''} together."
    )


def controls(selection: Selection) -> Chosen:
    """Draw the layer and what is fitted."""
    depth = choices.layer(asking.known(selection))
    return Chosen(depth, choices.one_of("Patches", FOREGROUNDS, "foreground", help=meaning("patch")))


def shown(answer: Answer[Chosen]) -> Shown:
    """A row for each image."""
    images, outcome = answer.selection.images, answer.outcome
    rows = [
        Row(image, [panel(model, i, answer.chosen.depth) for model in outcome.models])
        for i, image in enumerate(images[:MOST_ROWS])
    ]
    ready = outcome.ready("patch-pca")
    more = f"The first {MOST_ROWS} of {len(images)} images are drawn; the fit is over all of them."
    return Shown(
        "Patch features as colours",
        rows,
        notes=[more] if len(images) > MOST_ROWS else (),
        said=reading(ready) if ready else "",
        table={name: dataset[["component"]] for name, dataset in ready.items()},
    )


VIEW = View(
    Page("Patch colours (PCA)", section="Representation", order=30),
    "Which patches are alike to a model?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [Ask("patch-pca", {"layer": chosen.depth.parameter, "foreground": chosen.foreground})],
    images=Images(several=True, default=default_images),
)
