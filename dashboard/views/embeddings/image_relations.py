"""Images among each other under several models: one component for squares of similarities and maps of points."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from dashboard.compute.background import Background
from dashboard.compute.jobs import Job
from dashboard.draw import palette
from dashboard.images import gallery

ASSETS = Path(__file__).parent
NEAR_SIDE = 96
CHUNK = 50
_SHEETS: Background[dict[str, Any]] = Background(64 * 2**20)

_COMPONENT = st.components.v2.component(
    "relations",
    html='<div class="frame"><div class="row"></div><div class="below"><div class="bar"><span></span>'
    '<div class="ramp"></div><span></span></div><div class="pair"></div></div><div class="near"></div>'
    '<output class="sr" aria-live="polite"></output></div>',
    css=(ASSETS / "relations.css").read_text(encoding="utf-8"),
    js=(ASSETS / "relations.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Relation:
    """One model's panel.

    Attributes:
        name: the model, as the user reads it.
        colour: the model's colour.
        note: which layer and vector it is.
        square: similarities (image, image), −1 to 1, images as they come.
        points: a place for each image (image, 2), any scale.
        message: why there is nothing.
    """

    name: str
    colour: str
    note: str = ""
    square: np.ndarray | None = None
    points: np.ndarray | None = None
    message: str = ""


@dataclass(frozen=True)
class Near:
    """The nearest images of the selected one under a model: indices and similarities, nearest first."""

    text: str
    colour: str
    images: Sequence[int]
    similarities: Sequence[float]


def relations(
    images: Sequence[str],
    panels: Sequence[Relation],
    *,
    thumbnails: Mapping[str, Any],
    order: Sequence[int],
    classes: Sequence[str],
    selected: int | None,
    near: Sequence[Near],
    key: str,
    on_pick: Callable[[int], None],
) -> None:
    """Draw the panels.

    Args:
        images: picture ids.
        panels: one a model.
        thumbnails: what `sheet` gives for the images.
        order: images from top to bottom and left to right, as indices; they may be fewer than there are.
        classes: class of each image; empty where none is known.
        selected: index of the selected image.
        near: rows of nearest images under the panels.
        key: name of the component on its page.
        on_pick: called before the next run with the index of the image that was chosen.
    """
    data = describe(images, panels, thumbnails=thumbnails, order=order, classes=classes, selected=selected, near=near)

    def picked() -> None:
        value = (st.session_state.get(key) or {}).get("picked")
        if isinstance(value, (int, float)) and 0 <= value < len(images):
            on_pick(int(value))

    _COMPONENT(key=key, data=data, default={"picked": selected}, on_picked_change=picked)


def describe(
    images: Sequence[str],
    panels: Sequence[Relation],
    *,
    thumbnails: Mapping[str, Any],
    order: Sequence[int],
    classes: Sequence[str],
    selected: int | None,
    near: Sequence[Near],
) -> dict[str, Any]:
    """What the browser is sent; a square of 500 images is a third of a megabyte."""
    titles = [f"{gallery.title(image)}{f', {classes[i]}' if classes else ''}" for i, image in enumerate(images)]
    kinds = sorted(set(classes))
    points = any(panel.points is not None for panel in panels)
    return {
        "sheet": dict(thumbnails),
        "order": list(map(int, order)),
        "titles": titles,
        "colours": [class_colour(kinds, kind) for kind in classes] if classes else [""] * len(images),
        "ramp": base64.b64encode(palette.diverging()[:255].tobytes()).decode(),
        "bar": None if points else {"low": "−1", "high": "1 cosine", "ramp": palette.css_gradient(signed=True)},
        "hint": "Point at an image, click to select it.",
        "selected": selected,
        "panels": [_panel(panel, order) for panel in panels],
        "near": [
            {
                "text": row.text,
                "colour": row.colour,
                "items": [
                    {
                        "image": int(i),
                        "src": gallery.data_uri(images[i], NEAR_SIDE),
                        "title": titles[i],
                        "text": palette.number(float(value), 2),
                        "same": bool(classes) and selected is not None and classes[i] == classes[selected],
                    }
                    for i, value in zip(row.images, row.similarities, strict=True)
                ],
            }
            for row in near
        ],
    }


def class_colour(kinds: Sequence[str], kind: str) -> str:
    """A hue for a class; classes are told apart by hovering as well, never by colour alone."""
    return f"hsl({round(360 * list(kinds).index(kind) / max(len(kinds), 1))} 65% 50%)"


def _panel(panel: Relation, order: Sequence[int]) -> dict[str, Any]:
    what = "Map of the images" if panel.points is not None else "Similarity of every two images"
    entry: dict[str, Any] = {
        "name": panel.name, "colour": panel.colour, "note": panel.note, "message": panel.message,
        "alt": f"{what} under {panel.name}", "bytes": None, "points": None,
    }  # fmt: skip
    if panel.square is not None:
        square = panel.square[np.ix_(order, order)]
        levels = np.rint(np.clip(np.nan_to_num(square), -1, 1) * 127 + 127)
        entry["bytes"] = base64.b64encode(np.where(np.isnan(square), 255, levels).astype(np.uint8).tobytes()).decode()
    if panel.points is not None:
        low, high = panel.points.min(0), panel.points.max(0)
        placed = (panel.points - low) / np.where(high > low, high - low, 1)
        entry["points"] = placed.round(4).tolist()
    return entry


def fetch_sheet(images: Sequence[str], visitor: str) -> dict[str, Any] | Job | str:
    """Thumbnails of all images on one JPEG, the job that draws them, or why there are none."""
    return _SHEETS.fetch(tuple(images), "Thumbnails", lambda job: sheet(images, job), visitor)


def sheet_again(visitor: str) -> None:
    """Let this visitor ask for thumbnails that they stopped or that failed."""
    _SHEETS.again(visitor)


def sheet(images: Sequence[str], job: Job | None = None) -> dict[str, Any]:
    """Thumbnails of all images on one JPEG, row by row: its address, the side of one, and how many are in a row."""
    side = 48 if len(images) <= 600 else 32
    columns = max(ceil(sqrt(len(images))), 1)
    page = Image.new("RGB", (columns * side, ceil(len(images) / columns) * side), "white")
    for start in range(0, len(images), CHUNK):
        if job is not None:
            job.report("drawing thumbnails", start, len(images))
        for index, thumbnail in enumerate(thumbnails(images[start : start + CHUNK], side), start=start):
            page.paste(thumbnail, (index % columns * side, index // columns * side))
    buffer = io.BytesIO()
    page.save(buffer, "JPEG", quality=82)
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"src": source, "side": side, "columns": columns}


def thumbnails(images: Sequence[str], side: int) -> list[Image.Image]:
    """Square thumbnails; scenes are drawn small at once instead of one by one."""
    if all(image.startswith("scene:") for image in images):
        from model_zoo.scenes import Scenes

        drawn = Scenes(size=side).batch([int(image.partition(":")[2]) for image in images]).images
        return [Image.fromarray(pixels) for pixels in drawn.permute(0, 2, 3, 1).numpy()]
    found = []
    for image in images:
        picture = gallery.load(image)
        short = min(picture.size)
        left, top = (picture.width - short) // 2, (picture.height - short) // 2
        found.append(picture.crop((left, top, left + short, top + short)).resize((side, side)))
    return found
