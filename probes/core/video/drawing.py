"""Panels of a film: a frame with a map over it, labels above, the scale below."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from probes.core.colour_map import INK, colours, overlay, ramp
from probes.core.saliency import mass_mask
from probes.core.video.framing import Sheet

LABEL, BAR, GAP = 34, 38, 8
LARGE, SMALL = 18, 15
PAPER, MUTED = (255, 255, 255), (244, 245, 247)
WRITING, FAINT = (27, 31, 36), (99, 107, 116)
VEIL = 60
"""Brightness, of 255, of what a mask leaves out."""
TINT = 0.62
"""Opacity of patch colours over the grey frame."""


@dataclass(frozen=True)
class Panel:
    """One model's place in a film.

    Attributes:
        label: its name.
        note: which layer and head it is.
        colour: RGB of the stroke beside the name; None without.
        message: why there is no map; empty where there is.
    """

    label: str
    note: str = ""
    colour: tuple[int, int, int] | None = None
    message: str = ""


@dataclass(frozen=True)
class Bar:
    """A colour bar: what stands at its ends, and whether maps are ``flat``, colours alone, or over a frame."""

    low: str
    high: str
    flat: bool


def paint(frame: np.ndarray, values: np.ndarray, high: float, kind: str, drawn: str, tau: float) -> np.ndarray:
    """A frame with its map.

    Args:
        frame: RGB (height, width, 3).
        values: the map (rows, columns), or colours (rows, columns, 3) from 0 to 1.
        high: value of the last colour.
        kind: what is shown, see `probes.core.video.maps.Show`.
        drawn: ``overlay``, ``map`` (colours alone), or ``cutout`` (the frame inside the mass mask, dark outside).
        tau: share of the mass in the mass mask.
    """
    size = frame.shape[1], frame.shape[0]
    if kind == "pca":
        rgb = _enlarged(np.rint(values * 255).astype(np.uint8), size)
        return rgb if drawn == "map" else cv2.addWeighted(rgb, TINT, _grey(frame), 1 - TINT, 0)
    if kind == "mask" or drawn == "cutout":
        mask = _enlarged(mass_mask(values, tau).astype(np.uint8), size)
        if drawn == "map":
            return np.where(mask[..., None] > 0, sequential_end(), np.uint8(VEIL // 2)).astype(np.uint8)
        outside = cv2.convertScaleAbs(frame, alpha=VEIL / 255) if drawn == "overlay" else np.uint8(VEIL // 3)
        found = np.where(mask[..., None] > 0, frame, outside).astype(np.uint8)
        edge = cv2.dilate(mask, np.ones((3, 3), np.uint8)) - mask
        found[edge > 0] = PAPER
        return found
    if drawn == "map":
        return _enlarged(colours(values, 0, high), size)
    rgba = overlay(values, 0, high)
    over = _enlarged((rgba[..., 3] / 255).astype(np.float32), size)
    return cv2.blendLinear(_enlarged(np.ascontiguousarray(rgba[..., :3]), size), _grey(frame), over, 1 - over)


def sequential_end() -> np.ndarray:
    """The last colour of the map's scale."""
    return colours(np.array(1.0), 0, 1)


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Patches as squares."""
    return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST)


def _grey(frame: np.ndarray) -> np.ndarray:
    """The frame grey and lightened, as under maps of images."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor(cv2.convertScaleAbs(grey, alpha=INK, beta=255 * (1 - INK)), cv2.COLOR_GRAY2RGB)


class Canvas:
    """What stays the same in all frames of a film, and the places of its pictures."""

    def __init__(self, sheet: Sheet, panels: Sequence[Panel], scale: Bar | None, said: str) -> None:
        """Draw labels and scale.

        Args:
            sheet: the arrangement.
            panels: the models; the original comes before them.
            scale: the colour bar; None without one.
            said: a few words at the foot.
        """
        self._sheet, self._panels = sheet, panels
        width, height = sheet.panel
        self.size = (
            2 * GAP + sheet.columns * width + (sheet.columns - 1) * GAP,
            GAP + sheet.rows * (LABEL + height) + (sheet.rows - 1) * GAP + BAR,
        )
        page = Image.new("RGB", self.size, PAPER)
        pen = ImageDraw.Draw(page)
        for place, panel in enumerate((Panel("Original"), *panels)):
            self._label(pen, panel, *self._corner(place))
        self._foot(pen, page, scale, said)
        self._page = np.asarray(page)

    def _corner(self, place: int) -> tuple[int, int]:
        row, column = divmod(place, self._sheet.columns)
        width, height = self._sheet.panel
        return GAP + column * (width + GAP), GAP + row * (LABEL + height + GAP) + LABEL

    def _label(self, pen: ImageDraw.ImageDraw, panel: Panel, left: int, top: int) -> None:
        width, height = self._sheet.panel
        if panel.message:
            pen.rectangle((left, top, left + width - 1, top + height - 1), fill=MUTED)
            lines = _wrapped(panel.message, SMALL, width - 32)
            pen.multiline_text((left + 16, top + 14), "\n".join(lines), FAINT, font=_font(SMALL), spacing=6)
        if panel.colour is not None:
            pen.rectangle((left, top - LABEL + 6, left + 4, top - 8), fill=panel.colour)
            left += 11
        name = _fitted(panel.label, LARGE, width - 12)
        pen.text((left, top - LABEL + 6), name, WRITING, font=_font(LARGE))
        used = pen.textlength(name, font=_font(LARGE)) + 10
        if panel.note and pen.textlength(panel.note, font=_font(SMALL)) < width - used - 12:
            pen.text((left + used, top - LABEL + 8), panel.note, FAINT, font=_font(SMALL))

    def _foot(self, pen: ImageDraw.ImageDraw, page: Image.Image, scale: Bar | None, said: str) -> None:
        top, left = self.size[1] - BAR + 10, GAP
        if scale is not None:
            pen.text((left, top), scale.low, WRITING, font=_font(SMALL))
            left += int(pen.textlength(scale.low, font=_font(SMALL))) + 7
            length = min(160, self.size[0] // 6)
            bar = np.repeat(ramp(flat=scale.flat, steps=length)[None], 12, 0)
            page.paste(Image.fromarray(bar), (left, top + 3))
            left += length + 7
            pen.text((left, top), scale.high, WRITING, font=_font(SMALL))
            left += int(pen.textlength(scale.high, font=_font(SMALL))) + 24
        said = _fitted(said, SMALL, self.size[0] - left - GAP)
        pen.text((self.size[0] - GAP - pen.textlength(said, font=_font(SMALL)), top), said, FAINT, font=_font(SMALL))

    def frame(self, original: np.ndarray, pictures: Sequence[np.ndarray | None]) -> np.ndarray:
        """One frame of the film: RGB (height, width, 3); a model without a picture shows its message."""
        page = self._page.copy()
        width, height = self._sheet.panel
        for place, picture in enumerate((original, *pictures)):
            if picture is not None:
                left, top = self._corner(place)
                page[top : top + height, left : left + width] = picture
        return page


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitted(text: str, size: int, width: float) -> str:
    """The text, or so much of it as fits with an ellipsis."""
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…" if text else ""


def _wrapped(text: str, size: int, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font(size).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
