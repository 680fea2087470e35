"""One image under several models, side by side: one component, one scale, one pointer over all panels."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import streamlit as st

from dashboard.compute.asking import ModelResult
from dashboard.draw import head_maps, palette
from dashboard.images import gallery
from dashboard.state.selection import Point
from model_zoo.adapter import Geometry

ASSETS = Path(__file__).parent / "assets"
PICTURE_SIDE = 720
COMPACT_SIDE = 200
MOST_ABREAST = {"narrow": 6, "wide": 7}
"""Panels beside each other on a screen and on a projector's; more are drawn in two lines."""

_COMPONENT = st.components.v2.component(
    "patch_panels",
    html='<div class="frame"><div class="row"></div><div class="bar shared"><span class="low"></span>'
    '<div class="ramp"></div><span class="high"></span></div><output class="sr" aria-live="polite"></output></div>',
    css=(ASSETS / "panels.css").read_text(encoding="utf-8"),
    js=(ASSETS / "panels.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Scale:
    """What the colours mean.

    Attributes:
        low: value of the first colour.
        high: value of the last colour.
        units: what the values are.
        signed: 0 is in the middle and the colours diverge from it.
    """

    low: float
    high: float
    units: str
    signed: bool = False

    @classmethod
    def over(cls, arrays: Sequence[np.ndarray], units: str, *, signed: bool = False) -> "Scale":
        """The scale that holds all arrays: from 0 to the largest, or symmetric about 0 when ``signed``."""
        finite = [array[np.isfinite(array)] for array in arrays]
        largest = max((float(np.abs(array).max()) for array in finite if array.size), default=1.0) or 1.0
        return cls(-largest if signed else 0.0, largest, units, signed)

    @classmethod
    def over_most(cls, arrays: Sequence[np.ndarray], units: str) -> "Scale":
        """As ``over``; but where a few values tower above the rest, it ends at the 99th percentile, and says so."""
        whole = cls.over(arrays, units)
        high = float(np.nanpercentile(np.concatenate([array.ravel() for array in arrays]), 99))
        return cls(0.0, high, f"{units} or more") if 0 < high < 0.7 * whole.high else whole

    def bar(self, *, flat: bool) -> dict[str, str]:
        """What the browser needs to draw the colour bar, of flat maps or of maps over a photograph."""
        return {
            "low": palette.number(self.low),
            "high": f"{palette.number(self.high)} {self.units}",
            "ramp": palette.css_gradient(signed=self.signed, flat=flat),
        }

    def colours(self, values: np.ndarray, *, flat: bool) -> np.ndarray:
        """The pixels of a map: RGB of a flat one, RGBA of one that lies over a photograph."""
        paint = palette.colours if flat else palette.overlay
        return paint(np.asarray(values, dtype=np.float64), self.low, self.high, signed=self.signed)


@dataclass(frozen=True)
class Panel:
    """One model's view of the image. What is None is not drawn.

    Attributes:
        name: the model, as the user reads it.
        colour: the model's colour.
        note: which layer, head and query it is.
        geometry: where the model's input lies in the image.
        values: the map (y, x) over the model's input.
        mask: patches to keep in the light; the others are darkened and the border is drawn.
        contour_only: draw the mask's border over the map instead.
        message: why there is no map: not defined, failed, waiting.
        waiting: a result is on its way.
        scale: a scale of its own; None for the shared one.
        picture: another picture than the shared one.
        rgba: colours (y, x, 4) uint8 in the stead of a scale's, for what is no single number.
        grid: patches down and across that the pointer marks, where ``rgba`` has other pixels than these.
        texts: what is said of each patch, row by row, in the stead of its value.
        outline: mask (rows, columns) over the whole picture whose border is drawn where no ``mask`` is.
    """

    name: str
    colour: str
    note: str = ""
    geometry: Geometry | None = None
    values: np.ndarray | None = None
    mask: np.ndarray | None = None
    contour_only: bool = False
    message: str = ""
    waiting: bool = False
    scale: Scale | None = None
    picture: str | None = None
    rgba: np.ndarray | None = None
    grid: tuple[int, int] | None = None
    texts: Sequence[str] | None = None
    outline: np.ndarray | None = None

    @property
    def masked(self) -> bool:
        """Whether the photo inside the mask is drawn in the map's stead."""
        return self.mask is not None and not self.contour_only

    @property
    def drawable(self) -> bool:
        """Whether there is a map, and not only a message."""
        return self.values is not None or self.rgba is not None


def of_model(
    model: ModelResult, note: str = "", values: np.ndarray | None = None, image: int = 0, **more: Any
) -> Panel:
    """The panel of a model's map over one of its images; ``more`` are further attributes of `Panel`."""
    return Panel(model.title, model.colour, note, model.geometries[image], values, **more)


def pending(model: ModelResult, message: str = "", image: int = 0) -> Panel:
    """The panel of a model that has no map here: why not, or that it is on its way.

    Args:
        model: what there is of it.
        message: why there is no map although there is a result.
        image: place of the image.
    """
    said = model.message or message
    geometry = model.geometries[image] if model.geometries else None
    return Panel(
        model.title, model.colour, geometry=geometry, message=said or model.doing or "computing …", waiting=not said
    )


@dataclass(frozen=True)
class Look:
    """How maps are drawn, the same in all panels.

    Attributes:
        smooth: interpolated between patches.
        flat: colours alone; otherwise the photograph is seen where values are low.
        original: the image comes first.
        compact: small panels without notes and numbers.
        columns: panels beside each other; 0 for all, or two lines of more than `MOST_ABREAST`.
    """

    smooth: bool = False
    flat: bool = False
    original: bool = True
    compact: bool = False
    columns: int = 0


@dataclass(frozen=True)
class Row:
    """One image under several models.

    Attributes:
        picture: id of the original.
        panels: one per model.
        title: drawn above it.
        note: said under it; Markdown.
        scale: what the colours mean in this row, where it is not the shared scale.
        look: how its maps are drawn, where it differs from the other rows.
        outline: mask (rows, columns) over the original whose border is drawn in it.
        outline_of: what that is.
        point: the selected point of the original.
        clickable: a click asks the patch there.
    """

    picture: str
    panels: Sequence[Panel]
    title: str = ""
    note: str = ""
    scale: Scale | None = None
    look: Look | None = None
    outline: np.ndarray | None = None
    outline_of: str = ""
    point: Point | None = None
    clickable: bool = False


def shared_scale(rows: Sequence[Row], units: str, *, most: bool = False, signed: bool = False) -> Scale | None:
    """One scale for all maps of all rows; None where there is no map.

    Args:
        rows: their panels' values count.
        units: what the values are.
        most: end at the 99th percentile where a few values tower above the rest, see `Scale.over_most`.
        signed: 0 is in the middle.
    """
    arrays = [panel.values for row in rows for panel in row.panels if panel.values is not None]
    if not arrays:
        return None
    return Scale.over_most(arrays, units) if most else Scale.over(arrays, units, signed=signed)


def patch_panels(
    picture: str,
    panels: Sequence[Panel],
    *,
    scale: Scale | None,
    look: Look,
    key: str,
    point: Point | None = None,
    on_pick: Callable[[Point | None], None] | None = None,
    outline: np.ndarray | None = None,
    outline_of: str = "",
    bar: bool = True,
) -> None:
    """Draw the panels.

    Args:
        picture: id of the original, drawn first when ``look.original``.
        panels: one per model.
        scale: what the colours mean in every panel without a scale of its own.
        look: how maps are drawn.
        key: name of the component on its page.
        point: the selected point of the original.
        on_pick: called before the next run with the point that was clicked, None when it was cleared.
        outline: mask (rows, columns) over the original whose border is drawn in it.
        outline_of: what that is.
        bar: draw the shared scale under the panels.
    """
    side = COMPACT_SIDE if look.compact else PICTURE_SIDE
    drawn = [_original(picture, on_pick is not None, outline, outline_of)] if look.original else []
    drawn += [described(panel, panel.picture or picture, scale, look) for panel in panels]
    for panel, entry in zip(panels, drawn[-len(panels) :] if panels else [], strict=True):
        if panel.picture:
            entry["image"] = gallery.data_uri(panel.picture, side)
    shared = any(panel.values is not None and panel.scale is None and not panel.masked for panel in panels)
    data = {
        "image": gallery.data_uri(picture, side),
        "uv": list(point) if point else None,
        **{width: look.columns or abreast(len(drawn), most) for width, most in MOST_ABREAST.items()},
        "compact": look.compact,
        "label": f"{gallery.title(picture)} under {len(panels)} models",
        "bar": scale.bar(flat=look.flat) if bar and shared and scale and not look.compact else None,
        "ink": palette.INK,
        "panels": drawn,
    }

    def picked() -> None:
        if on_pick is not None:
            on_pick(checked_point((st.session_state.get(key) or {}).get("uv")))

    _COMPONENT(key=key, data=data, default={"uv": list(point) if point else None}, on_uv_change=picked)


def abreast(count: int, most: int) -> int:
    """Panels of a line: all where they fit, else two lines of about the same length."""
    return count if count <= most else -(-count // 2)


def checked_point(value: Any) -> Point | None:
    """A point as the browser sent it, which may be anything: clamped into the image, None when it is no point."""
    try:
        u, v = (min(max(float(x), 0.0), 0.999999) for x in value)
    except (TypeError, ValueError):
        return None
    return (u, v) if np.isfinite([u, v]).all() else None


def _original(picture: str, clickable: bool, outline: np.ndarray | None, outline_of: str) -> dict[str, Any]:
    width, height = gallery.load(picture).size
    said = [outline_of] if outline is not None and outline_of else [f"{width} × {height} px"]
    note = " · ".join([*said, "click a patch"] if clickable else said)
    entry = _entry(gallery.title(picture), "var(--st-border-color)", note, gallery.alt(picture), height / width)
    return entry | _outline(outline)


def _outline(mask: np.ndarray | None) -> dict[str, Any]:
    """The border of a mask over the whole picture, in its own units."""
    if mask is None:
        return {}
    return {"contour": head_maps.contour(mask), "contour_grid": list(mask.shape), "contour_box": [0, 0, 1, 1]}


def _entry(name: str, colour: str, note: str, alt: str, tall: float) -> dict[str, Any]:
    return {
        "name": name, "colour": colour, "note": note, "alt": alt, "tall": tall, "state": "ready", "message": "",
        "map": None, "grid": None, "box": None, "contour": None, "values": None, "places": None, "bar": None,
        "grey": False, "exact": True, "image": None, "contour_grid": None, "contour_box": None,
    }  # fmt: skip


def described(panel: Panel, picture: str, shared: Scale | None, look: Look) -> dict[str, Any]:
    """What the browser is sent of a panel."""
    width, height = gallery.load(picture).size
    state: Literal["ready", "waiting", "message"] = "waiting" if panel.waiting else "message"
    entry = _entry(panel.name, panel.colour, panel.note, _said(panel, picture), height / width)
    entry["message"] = panel.message
    if panel.geometry is not None:
        left, top, right, bottom = panel.geometry.box
        entry["box"] = [left / width, top / height, right / width, bottom / height]
    scale = panel.scale or shared
    if panel.rgba is not None and entry["box"] is not None:
        said = list(panel.texts) if panel.texts is not None else None
        drawn = {"map": png_uri(panel.rgba), "grey": True, "values": said}
        return entry | drawn | {"state": "ready", "grid": list(panel.grid or panel.rgba.shape[:2])}
    if panel.values is None or scale is None or entry["box"] is None:
        return entry | {"state": state}
    values = np.asarray(panel.values, dtype=np.float64)
    entry |= {"state": "ready", "grid": list(values.shape), "exact": not look.smooth, "bar": None}
    entry |= _outline(panel.outline if panel.mask is None else None)
    if not look.compact:
        span = (scale.high - scale.low) or 1.0
        entry["values"] = [palette.number(value) for value in values.ravel()]
        entry["places"] = [round(float(x), 4) if np.isfinite(x) else None for x in (values.ravel() - scale.low) / span]
        entry["bar"] = panel.scale.bar(flat=look.flat) if panel.scale and not panel.masked else None
    if panel.mask is not None:
        entry["contour"] = head_maps.contour(panel.mask)
    if panel.mask is not None and panel.masked:
        veil = np.zeros((*panel.mask.shape, 4), np.uint8)
        veil[..., 3] = np.where(panel.mask, 0, 195)
        return entry | {"map": png_uri(veil), "exact": True}
    picture_of = head_maps.smooth(values) if look.smooth else values
    return entry | {"map": png_uri(scale.colours(picture_of, flat=look.flat)), "grey": True}


def _said(panel: Panel, picture: str) -> str:
    """What a panel shows, for those who do not see it: the model, the image, and which layer, head and query it is."""
    if panel.message:
        return f"{panel.name}: {panel.message}"
    shown = "Map" if panel.drawable else "No map yet"
    of = f"{shown} of {panel.name} over {gallery.title(picture)}"
    return f"{of}: {panel.note}" if panel.note else of


def png_uri(pixels: np.ndarray) -> str:
    """RGB or RGBA pixels (h, w, c) as a PNG data URI."""
    code = cv2.COLOR_RGBA2BGRA if pixels.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    written, buffer = cv2.imencode(".png", cv2.cvtColor(pixels, code))
    if not written:
        raise ValueError(f"A map of shape {pixels.shape} cannot be written as PNG.")
    return "data:image/png;base64," + base64.b64encode(buffer.tobytes()).decode()
