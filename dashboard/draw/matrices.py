"""Squares of numbers, and maps of images, side by side as one picture for a slide. Nothing here knows Streamlit."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from dashboard.draw import export, palette
from dashboard.draw.panels import Scale, png_uri

WIDTH, GAP, HEAD, MARGIN, BAR, AXIS, FOOT, ABREAST = 360, 20, 54, 24, 40, 84, 52, 4
FINE = 2 * WIDTH
"""Pixels of a square's longer side at least, as not every viewer keeps the hard edges of an enlarged picture."""

Ticks = Sequence[tuple[float, str]]
"""Places on an axis as fractions of it, from the left or from the top, and what is written there."""


@dataclass(frozen=True)
class Square:
    """One panel of the picture.

    Attributes:
        name: the model or the pair of models, as the user reads it.
        colour: the model's colour.
        note: which layer and vector it is.
        pixels: colours (y, x, 3) uint8, as `painted` makes them.
        across: what the horizontal axis is, with units; empty for none.
        up: what the vertical axis is.
        ticks_across: what is written along the horizontal axis.
        ticks_up: what is written along the vertical axis.
        scale: what the colours mean where panels have scales of their own.
        photo: a photograph, which has no hard edges to keep.
    """

    name: str
    colour: str
    note: str
    pixels: np.ndarray
    across: str = ""
    up: str = ""
    ticks_across: Ticks = ()
    ticks_up: Ticks = ()
    scale: Scale | None = None
    photo: bool = False


def painted(values: np.ndarray, scale: Scale, *, gaps: bool = False) -> np.ndarray:
    """Numbers (y, x) as colours (y, x, 3) uint8; NaN is grey, or white where it only keeps tiles apart."""
    rgb = palette.colours(np.asarray(values, np.float64), scale.low, scale.high, signed=scale.signed)
    return np.where(np.isnan(values)[..., None], np.uint8(255), rgb) if gaps else rgb


def svg(squares: Sequence[Square], *, scale: Scale | None, title: str, caption: str) -> str:
    """The squares in lines of at most `ABREAST`, each with its axes, over one colour bar and a caption.

    Args:
        squares: the panels.
        scale: what the colours mean in all of them; None where each has its own, or the colours are no numbers.
        title: heading of the picture.
        caption: what the numbers say; long text is wrapped.
    """
    axes = any(square.across or square.up for square in squares)
    step = WIDTH + GAP + (AXIS if axes else 0)
    first = MARGIN + (AXIS if axes else 0)
    count = -(-len(squares) // ABREAST)
    long = -(-len(squares) // count)
    across = first + long * step - step + WIDTH + MARGIN
    across = max(across, round(len(title) * export.HEADING) + 2 * MARGIN)
    lines = export.wrap(export.plain(caption), max(int((across - 2 * MARGIN) / export.LETTER), 30))
    parts, foot = [], MARGIN + 40.0
    for start in range(0, len(squares), long):
        line = squares[start : start + long]
        top = foot + HEAD
        foot = top + max(WIDTH * one.pixels.shape[0] / one.pixels.shape[1] for one in line) + (FOOT if axes else 10)
        for index, square in enumerate(line):
            parts.append(_square(square, first + index * step, top))
            if square.scale:
                parts.append(export.bar(square.scale, first + index * step, foot))
        foot += BAR if any(square.scale for square in line) else 8
    if scale:
        parts.append(export.bar(scale, first, foot))
        foot += BAR
    parts += [
        f"<text x='{MARGIN}' y='{foot + 22 * k:.0f}' font-size='{export.TEXT}'>{escape(line)}</text>"
        for k, line in enumerate(lines, start=1)
    ]
    return "".join([*export.opening(across, foot + 22 * len(lines) + MARGIN, title), *parts, "</svg>"])


def _square(square: Square, left: float, top: float) -> str:
    height, width = square.pixels.shape[:2]
    tall = WIDTH * height / width
    times = 1 if square.photo else max(-(-FINE // max(height, width)), 1)
    pixels = np.repeat(np.repeat(square.pixels, times, axis=0), times, axis=1)
    parts = [
        f"<rect x='{left}' y='{top - HEAD}' width='{WIDTH}' height='4' fill='{square.colour}'/>",
        export.written(square.name, left, top - HEAD + 23, size=17, bold=True, room=WIDTH),
        export.written(square.note, left, top - HEAD + 43, size=export.TEXT, colour="#555b66", room=WIDTH),
        f"<image href='{png_uri(pixels)}' x='{left}' y='{top}' width='{WIDTH}' height='{tall:.1f}' "
        "preserveAspectRatio='none'/>",
        f"<rect x='{left}' y='{top}' width='{WIDTH}' height='{tall:.1f}' fill='none' stroke='#9aa1ab'/>",
    ]
    grey = "font-size='12' fill='#555b66'"
    for at, text in square.ticks_across:
        x = left + at * WIDTH
        parts.append(f"<text x='{x:.1f}' y='{top + tall + 15:.1f}' {grey} text-anchor='middle'>{escape(text)}</text>")
    for at, text in square.ticks_up:
        y = top + at * tall + 4
        parts.append(f"<text x='{left - 6}' y='{y:.1f}' {grey} text-anchor='end'>{escape(export.fit(text, 10))}</text>")
    if square.across:
        place = f"x='{left + WIDTH / 2}' y='{top + tall + 36:.1f}'"
        parts.append(
            f"<text {place} font-size='13' text-anchor='middle'>{escape(export.fit(square.across, 52))}</text>"
        )
    if square.up:
        turn = f"transform='translate({left - 68} {top + tall / 2:.1f}) rotate(-90)'"
        parts.append(f"<text {turn} font-size='13' text-anchor='middle'>{escape(export.fit(square.up, 52))}</text>")
    return "".join(parts)
