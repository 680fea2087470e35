"""Patch colours: patches that a model represents alike get the same colour."""

from collections.abc import Mapping, Sequence

import numpy as np
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import ModelResult
from dashboard.controls import choices, token_layers
from dashboard.controls.sidebar import sidebar
from dashboard.draw import export, frame, panels
from dashboard.draw.palette import number
from dashboard.draw.panels import Look, Panel
from dashboard.draw.stacked import stacked
from dashboard.images import gallery
from dashboard.page import Page
from dashboard.state import link
from dashboard.state.selection import Depth
from model_zoo.catalog import CATALOG

PAGE = Page("Patch colours (PCA)", section="Representation", order=30)

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


def panel(model: ModelResult, image: int, depth: Depth | None) -> Panel:
    """One model's view of one image."""
    dataset = model.datasets.get("patch-pca")
    geometry = model.geometries[image] if model.geometries else None
    if dataset is None or model.spec is None:
        waiting = not model.message
        return Panel(
            model.title, model.colour, geometry=geometry, message=model.message or "computing …", waiting=waiting
        )
    parts = dataset["component"].values[image].reshape(-1, 3)
    texts = [" / ".join(number(float(value), 2) for value in row) for row in parts]
    note = token_layers.text(model.spec, depth)
    return Panel(model.title, model.colour, note, geometry, rgba=colours(dataset, image), texts=texts)


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


def page() -> None:
    """Draw the page."""
    selection = sidebar(several=True, default_images=default_images())
    frame.header("Which patches are alike to a model?")
    row = frame.controls()
    known = asking.compute({}, selection)
    with row:
        depth = choices.layer([model.spec for model in known.models], waiting=bool(known.jobs))
        foreground = st.segmented_control(
            "Patches", list(FOREGROUNDS), default="none", required=True, key="foreground", bind="query-params",
            format_func=FOREGROUNDS.__getitem__,
        )  # fmt: skip
    params = token_layers.of_each(known.models, depth, foreground=foreground)
    outcome = token_layers.together(known, asking.compute_each({"patch-pca": params}, selection))
    look = Look(opacity=1.0, columns=token_layers.columns(len(outcome.models)))
    rows = [[panel(model, i, depth) for model in outcome.models] for i in range(len(selection.images))][:MOST_ROWS]
    for i, drawn in enumerate(rows):
        panels.patch_panels(selection.images[i], drawn, scale=None, look=look, key=f"pca-{i}")
    if len(selection.images) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS} of {len(selection.images)} images are drawn; the fit is over all of them.")
    asking.show_progress(outcome)
    ready = outcome.ready("patch-pca")
    if ready:
        st.markdown(reading(ready))
    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name="patch-colours",
        png=(lambda: export.png(document(selection.images, rows))) if ready else None,
        svg=(lambda: document(selection.images, rows)) if ready else None,
        csv=(lambda: frame.csv({n: d[["component"]] for n, d in ready.items()})) if ready else None,
    )


def document(images: Sequence[str], rows: Sequence[Sequence[Panel]]) -> str:
    """All rows that are drawn as SVG, a row an image."""
    note = "Patches of one colour are represented alike; colours of two models cannot be compared."
    parts = []
    for index, (image, row) in enumerate(zip(images, rows, strict=False)):
        title = "Patch features as colours" if index == 0 else ""
        caption = note if index == len(rows) - 1 else ""
        parts.append(export.svg(image, row, scale=None, look=Look(opacity=1.0), title=title, caption=caption))
    return stacked(parts)
