"""Two images with lines between the patches that are each other's best match."""

from collections.abc import Sequence
from html import escape

import numpy as np
import xarray as xr

from dashboard.compute.asking import ModelResult
from dashboard.draw import model_columns
from dashboard.draw.palette import number
from dashboard.images import gallery
from model_zoo.adapter import Geometry

SIDE = 420
"""Pixels of an image's longer side."""


def draw(models: Sequence[ModelResult], images: Sequence[str], count: int) -> None:
    """Draw the best mutual matches of every model that has any result.

    Args:
        models: with the similarity of both images' patches.
        images: the two.
        count: lines at most.
    """
    there = [model for model in models if "patch-similarity" in model.datasets]
    if not there:
        return
    pairs = {model.title: best_pairs(model.datasets["patch-similarity"], 1, count) for model in there}
    both = " to ".join(gallery.title(image) for image in images)
    notes = {
        name: f"{both} · {len(best)} best mutual match{'es' if len(best) != 1 else ''}" for name, best in pairs.items()
    }
    places = model_columns.columns(notes, {model.title: model.colour for model in there}, most=3)
    for model in there:
        sizes = model.datasets["patch-similarity"].sizes
        title = f"{notes[model.title]} under {model.title}"
        drawn = lines(images, model.geometries, (sizes["y"], sizes["x"]), pairs[model.title], model.colour, title)
        places[model.title].image(drawn, width="stretch", alt=title)


def best_pairs(dataset: xr.Dataset, image: int, count: int) -> list[tuple[int, int, float]]:
    """The most similar mutual matches: patch of the first image, patch of the other, similarity."""
    one = dataset.isel(image=image)
    match, value, mutual = (one[name].values.ravel() for name in ("match", "match_similarity", "mutual"))
    order = [i for i in np.argsort(-value, kind="stable") if mutual[i]][:count]
    return [(int(i), int(match[i]), float(value[i])) for i in order]


def lines(
    images: Sequence[str],
    geometries: Sequence[Geometry],
    grid: tuple[int, int],
    pairs: Sequence[tuple[int, int, float]],
    colour: str,
    title: str,
) -> str:
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
