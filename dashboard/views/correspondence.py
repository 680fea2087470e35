"""Patch correspondence: what in these images is like one patch, and which patches belong together."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import ModelResult
from dashboard.controls import choices, token_layers
from dashboard.controls.sidebar import sidebar
from dashboard.draw import export, frame, model_columns, panels
from dashboard.draw.palette import number
from dashboard.draw.panels import Look, Panel, Scale
from dashboard.draw.stacked import stacked
from dashboard.images import gallery
from dashboard.page import Page
from dashboard.state import link
from dashboard.state.selection import Depth, Point, read_point
from model_zoo.adapter import Geometry

PAGE = Page("Patch correspondence", section="Representation", order=20)

FACETS = {"token": "token", "query": "query", "key": "key", "value": "value"}
SIDE = 420
HOW = """
Click a patch in the first image. **Yellow: patches whose feature is like it**, in the same image and in the second one,
under each model.

- Yellow on the same part of another object: the model knows the part, not just the place.
- Yellow at the same place in the second image whatever is there: position dominates.
- *Facets*: the token itself, or the query, key or value vectors that the layer's attention compares.
- The lines join mutual best matches: each patch is the other's most similar one. The most similar pairs come first.
"""
FORMULA = r"""
$$s_j = \frac{f_q\cdot f_j}{\lVert f_q\rVert\,\lVert f_j\rVert}, \qquad
i \leftrightarrow j \iff j = \arg\max_{j'} s(i, j') \text{ and } i = \arg\max_{i'} s(i', j)$$

with $f$ the token (last layer: after the final norm), or its query, key or value with the heads side by side.
Source: Amir et al. 2021, [arXiv:2112.05814](https://arxiv.org/abs/2112.05814).
"""
NOT_SHOWN = """
- **Why** two patches are alike: colour, texture, part, or only their place.
- Levels of two models cannot be compared: a part common to all patches raises every similarity. Compare patterns.
- A mutual match need not be right, and a patch of plain background has many equals.
"""


def asked(model: ModelResult, point: Point) -> str | None:
    """The point as the probe's ``query``: a patch of the input, or without patches a point; None outside the crop."""
    if model.spec is None:
        return None
    grid = model.spec.grid if model.spec.is_transformer else model.spec.input_size
    at = model.geometries[0].patch_at(*point, grid)
    if at is None:
        return None
    if model.spec.is_transformer:
        return f"{at[0]}:{at[1]}"
    return f"{(at[1] + 0.5) / grid[1]:.6f},{(at[0] + 0.5) / grid[0]:.6f}"


def scale_of(datasets: Mapping[str, xr.Dataset]) -> Scale:
    """One scale for every panel: from the smallest similarity to 1."""
    low = min((float(dataset["similarity"].min()) for dataset in datasets.values()), default=0.0)
    return Scale(min(low, 0.99), 1.0, "cosine similarity")


def panel(model: ModelResult, image: int, note: str, *, shared: bool) -> Panel:
    """Similarity of one image's patches to the query under one model."""
    dataset = model.datasets.get("patch-similarity")
    geometry = model.geometries[image] if model.geometries else None
    if dataset is None or dataset.sizes["image"] <= image:
        outside = "" if model.waiting or model.spec is None else "The point lies outside this model's crop."
        text = model.message or outside or "computing …"
        return Panel(model.title, model.colour, geometry=geometry, message=text, waiting=not (model.message or outside))
    values = dataset["similarity"].values[image]
    own = None if shared else Scale(float(values.min()), float(np.sort(values.ravel())[-2:][0]), "cosine similarity")
    return Panel(model.title, model.colour, note, geometry, values, scale=own)


def best_pairs(dataset: xr.Dataset, image: int, count: int) -> list[tuple[int, int, float]]:
    """The most similar mutual matches: patch of the first image, patch of the other, similarity."""
    one = dataset.isel(image=image)
    match, value, mutual = (one[name].values.ravel() for name in ("match", "match_similarity", "mutual"))
    order = [i for i in np.argsort(-value, kind="stable") if mutual[i]][:count]
    return [(int(i), int(match[i]), float(value[i])) for i in order]


def lines(
    images: tuple[str, str], geometries: tuple[Geometry, Geometry], grid: tuple[int, int],
    pairs: list[tuple[int, int, float]], colour: str, title: str,
) -> str:  # fmt: skip
    """Both images side by side with a line for each pair, as SVG."""
    sizes = [gallery.load(image).size for image in images]
    zoom = [SIDE / max(size) for size in sizes]
    left = (0.0, sizes[0][0] * zoom[0] + 16)
    width, height = left[1] + sizes[1][0] * zoom[1], max(size[1] * z for size, z in zip(sizes, zoom, strict=True))
    parts = [f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{height:.0f}' "
             f"viewBox='0 0 {width:.1f} {height:.1f}'><title>{escape(title)}</title>"]  # fmt: skip
    for image, size, z, x in zip(images, sizes, zoom, left, strict=True):
        href = gallery.data_uri(image, SIDE, grey=True)
        parts.append(f"<image href='{href}' x='{x:.1f}' width='{size[0] * z:.1f}' height='{size[1] * z:.1f}' "
                     "opacity='0.6'/>")  # fmt: skip
    for number_, (a, b, value) in enumerate(pairs, start=1):
        ends = []
        for patch, geometry, z, x in zip((a, b), geometries, zoom, left, strict=True):
            l, t, r, d = geometry.cell(*divmod(patch, grid[1]), grid)  # noqa: E741
            ends.append((x + (l + r) / 2 * z, (t + d) / 2 * z))
        (x1, y1), (x2, y2) = ends
        place = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
        parts.append(f"<g><title>match {number_}: {number(value)}</title>"
                     f"<line {place} stroke='#fff' stroke-width='4.5'/>"
                     f"<line {place} stroke='{colour}' stroke-width='2.5'/>")  # fmt: skip
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='{colour}' stroke='#fff' stroke-width='1.5'/>"
                  for x, y in ends]  # fmt: skip
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def reading(datasets: Mapping[str, xr.Dataset], facet: str) -> str:
    """How many patches have a mutual match, and how alike they are."""
    said = []
    for name, dataset in datasets.items():
        if dataset.sizes["image"] < 2:
            return "With a second image, the patches that correspond are shown: choose one more in the sidebar."
        mutual = dataset["mutual"].values[1].astype(bool)
        mean = float(dataset["match_similarity"].values[1][mutual].mean()) if mutual.any() else np.nan
        said.append(f"**{name}**: {int(mutual.sum())} of {mutual.size} patches have a mutual match, "
                    f"mean similarity {number(mean)}")  # fmt: skip
    return "; ".join(said) + f" (cosine of {facet}s, n = 1 pair of images)."


def page() -> None:
    """Draw the page."""
    default = ("scene:0", "scene:2") if gallery.has_scenes() else ("photo:chelsea", "photo:astronaut")
    selection = sidebar(several=True, default_images=default)
    images = selection.images[:2]
    selection = type(selection)(selection.models, images)
    frame.header("What corresponds to this patch?")
    row = frame.controls()
    known = asking.compute({}, selection)
    point: Point = read_point(link.first("at")) or (0.5, 0.5)
    with row:
        depth: Depth | None = choices.layer([model.spec for model in known.models], waiting=bool(known.jobs))
        facet = st.segmented_control(
            "Facet", list(FACETS), default="token", required=True, key="facet", bind="query-params"
        )
        scaling = st.segmented_control(
            "Scale", ["shared", "per panel"], default="shared", required=True, key="scale", bind="query-params"
        )
        count = st.slider("Lines", 0, 40, 12, key="lines", bind="query-params", width=150)
    given = token_layers.of_each(known.models, depth, facet=facet, of=0)
    params: dict[str, asking.Params | None] = {}
    for model in known.models:
        layer, patch = given[model.model], asked(model, point)
        params[model.model] = {**layer, "query": patch} if layer and patch else None
    outcome = token_layers.together(known, asking.compute_each({"patch-similarity": params}, selection))
    ready = outcome.ready("patch-similarity")
    scale = scale_of(ready) if ready and scaling == "shared" else None
    look, documents = Look(columns=token_layers.columns(len(outcome.models))), []
    for i, image in enumerate(images):
        drawn = [
            panel(m, i, token_layers.facet_text(m.spec, depth, facet) if m.spec else "", shared=scaling == "shared")
            for m in outcome.models
        ]
        documents.append(drawn)
        panels.patch_panels(
            image, drawn, scale=scale, look=look, key=f"similar-{i}", point=point if i == 0 else None,
            on_pick=choices.pick if i == 0 else None,
        )  # fmt: skip
    asking.show_progress(outcome)
    if ready:
        st.markdown(reading(ready, facet))
    if count and len(images) == 2:
        draw_lines(outcome.models, (images[0], images[1]), count)
    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name="correspondence",
        svg=(lambda: document(images, documents, scale, reading(ready, facet))) if ready else None,
        png=(lambda: export.png(document(images, documents, scale, reading(ready, facet)))) if ready else None,
        csv=(lambda: frame.csv(ready)) if ready else None,
    )


def document(images: Sequence[str], rows: Sequence[Sequence[Panel]], scale: Scale | None, said: str) -> str:
    """The panels of both images as SVG; the numbers are said under the last."""
    parts = []
    for image, drawn in zip(images, rows, strict=True):
        caption = said.replace("*", "") if image == images[-1] else ""
        title = "Patches like the chosen one" if image == images[0] else "The same patch, sought in another image"
        parts.append(export.svg(image, drawn, scale=scale, look=Look(), title=title, caption=caption))
    return stacked(parts)


def draw_lines(models: tuple[ModelResult, ...], images: tuple[str, str], count: int) -> None:
    """The best mutual matches of every model."""
    there = [model for model in models if "patch-similarity" in model.datasets]
    if not there:
        return
    pairs = {model.title: best_pairs(model.datasets["patch-similarity"], 1, count) for model in there}
    both = " to ".join(gallery.title(image) for image in images)
    notes = {
        name: f"{both} · {len(best)} best mutual match{'es' if len(best) != 1 else ''}" for name, best in pairs.items()
    }
    colours = {model.title: model.colour for model in there}
    places = model_columns.columns(notes, colours, most=3)
    for model in there:
        grid = (model.datasets["patch-similarity"].sizes["y"], model.datasets["patch-similarity"].sizes["x"])
        title = f"{notes[model.title]} under {model.title}"
        drawn = lines(images, (model.geometries[0], model.geometries[1]), grid, pairs[model.title], model.colour, title)
        places[model.title].image(drawn, width="stretch", alt=title)
