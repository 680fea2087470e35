"""The panels as one picture for a slide: an SVG that holds everything, and a PNG made from it without a browser."""

from collections.abc import Sequence
from html import escape

import numpy as np
import vl_convert

from dashboard import maps, palette, panels, pictures
from dashboard.panels import Look, Panel, Scale

WIDTH, GAP, HEAD, MARGIN, BAR = 300, 18, 54, 24, 64
FONT = "font-family='Liberation Sans, Arial, Helvetica, sans-serif'"


def svg(picture: str, drawn: Sequence[Panel], *, scale: Scale | None, look: Look, title: str, caption: str) -> str:
    """The original and the panels in one row, with their colours, one colour bar, and a caption.

    Args:
        picture: id of the original.
        drawn: the panels.
        scale: what the colours mean in panels without a scale of their own.
        look: how maps are drawn.
        title: heading of the picture.
        caption: what the numbers say; long text is wrapped.
    """
    width, height = pictures.load(picture).size
    tall = WIDTH * height / width
    across = 2 * MARGIN + (len(drawn) + 1) * WIDTH + len(drawn) * GAP
    lines = wrap(caption, max(int((across - 2 * MARGIN) / 7.4), 30))
    down = MARGIN + 40 + HEAD + tall + BAR + 20 * len(lines) + MARGIN
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{across}' height='{down:.0f}' "
        f"viewBox='0 0 {across} {down:.0f}' {FONT} fill='#1b1f24'>",
        f"<rect width='{across}' height='{down:.0f}' fill='#ffffff'/>",
        f"<text x='{MARGIN}' y='{MARGIN + 20}' font-size='22' font-weight='600'>{escape(title)}</text>",
    ]
    top = MARGIN + 40 + HEAD
    entries: list[Panel | None] = [None, *drawn]
    for i, panel in enumerate(entries):
        left = MARGIN + i * (WIDTH + GAP)
        colour = panel.colour if panel else "#9aa1ab"
        name, note = (panel.name, panel.note) if panel else (pictures.title(picture), f"{width} × {height} px")
        parts += [
            f"<rect x='{left}' y='{top - HEAD}' width='{WIDTH}' height='4' fill='{colour}'/>",
            f"<text x='{left}' y='{top - HEAD + 23}' font-size='16' font-weight='600'>{escape(fit(name, 38))}</text>",
            f"<text x='{left}' y='{top - HEAD + 42}' font-size='13' fill='#555b66'>{escape(fit(note, 52))}</text>",
            f"<svg x='{left}' y='{top}' width='{WIDTH}' height='{tall:.1f}' viewBox='0 0 {width} {height}'>",
            _picture(panel, picture, scale, look, (width, height)),
            "</svg>",
        ]
        if panel and panel.scale and not panel.masked:
            parts.append(bar(panel.scale, left, top + tall + 10))
    coloured = any(panel.values is not None and panel.scale is None and not panel.masked for panel in drawn)
    shared = scale if coloured else None
    if shared:
        parts.append(bar(shared, MARGIN, top + tall + 14))
    for k, line in enumerate(lines):
        y = top + tall + BAR + 20 * k
        parts.append(f"<text x='{MARGIN}' y='{y:.0f}' font-size='14'>{escape(line)}</text>")
    return "".join([*parts, "</svg>"])


def png(document: str) -> bytes:
    """The SVG drawn at twice its size."""
    drawn: bytes = vl_convert.svg_to_png(document, scale=2)
    return drawn


def _picture(panel: Panel | None, picture: str, shared: Scale | None, look: Look, size: tuple[int, int]) -> str:
    width, height = size
    href = pictures.data_uri(panel.picture if panel and panel.picture else picture, panels.PICTURE_SIDE)
    photo = f"<image href='{href}' width='{width}' height='{height}' preserveAspectRatio='none'"
    if panel is None:
        return f"{photo}/>"
    scale = panel.scale or shared
    if panel.geometry is None or (panel.rgba is None and (panel.values is None or scale is None)):
        message = escape(fit(panel.message or "no map", 60))
        return (
            f"{photo} opacity='0.25'/><text x='{width / 2}' y='{height / 2}' font-size='{width / 24:.0f}' "
            f"text-anchor='middle'>{message}</text>"
        )
    left, top, right, bottom = panel.geometry.box
    place = f"x='{left}' y='{top}' width='{right - left}' height='{bottom - top}'"
    dark = f"M0 0H{width}V{height}H0ZM{left} {top}V{bottom}H{right}V{top}Z"
    if not panel.masked:
        photo = photo.replace(href, pictures.data_uri(panel.picture or picture, panels.PICTURE_SIDE, grey=True))
    parts = [f"{photo}/>", f"<path d='{dark}' fill='#0a0c10' opacity='0.72' fill-rule='evenodd'/>"]
    if panel.mask is not None and panel.masked:
        veil = np.zeros((*panel.mask.shape, 4), np.uint8)
        veil[..., 3] = np.where(panel.mask, 0, 195)
        parts.append(_map(veil, place, 1.0, smooth=False))
    elif panel.rgba is not None:
        parts.append(_map(panel.rgba, place, look.opacity, smooth=False))
    elif panel.values is not None and scale is not None:
        values = maps.smooth(panel.values) if look.smooth else panel.values
        rgb = palette.colours(np.asarray(values, float), scale.low, scale.high, signed=scale.signed)
        parts.append(_map(rgb, place, look.opacity, smooth=look.smooth))
    if panel.mask is not None:
        rows, columns = panel.mask.shape
        unit = (right - left) / columns, (bottom - top) / rows
        line = maps.contour(panel.mask)
        move = f"transform='translate({left} {top}) scale({unit[0]} {unit[1]})'"
        for colour, thick in (("#000", 4), ("#fff", 2)):
            stroke = f"stroke='{colour}' stroke-width='{thick * width / WIDTH / unit[0]:.4f}'"
            parts.append(f"<path d='{line}' {move} fill='none' {stroke} stroke-linecap='square'/>")
    return "".join(parts)


def _map(pixels: np.ndarray, place: str, opacity: float, *, smooth: bool) -> str:
    """A map as an image; patch-exact ones are enlarged here, as not every viewer keeps hard edges."""
    if not smooth:
        pixels = np.repeat(np.repeat(pixels, 16, axis=0), 16, axis=1)
    return f"<image href='{panels.png_uri(pixels)}' {place} opacity='{opacity}' preserveAspectRatio='none'/>"


def bar(scale: Scale, x: float, y: float) -> str:
    """A colour bar with its ends, its left upper corner at (x, y)."""
    ramp = np.linspace(scale.low, scale.high, 128)[None]
    uri = panels.png_uri(palette.colours(ramp, scale.low, scale.high, signed=scale.signed))
    low, high = palette.number(scale.low), palette.number(scale.high)
    return (
        f"<text x='{x}' y='{y + 11:.1f}' font-size='13'>{low}</text>"
        f"<image href='{uri}' x='{x + 26}' y='{y:.1f}' width='150' height='12' preserveAspectRatio='none'/>"
        f"<text x='{x + 184}' y='{y + 11:.1f}' font-size='13'>{high} {escape(scale.units)}</text>"
    )


def fit(text: str, most: int) -> str:
    """Text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def wrap(text: str, most: int) -> list[str]:
    """Lines of about so many characters, none of them empty."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]
