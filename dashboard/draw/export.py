"""The panels as one picture for a slide: an SVG that holds everything, and a PNG made from it without a browser."""

import re
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import vl_convert

from dashboard.draw import head_maps, palette, panels
from dashboard.draw.panels import Look, Panel, Row, Scale
from dashboard.images import gallery
from dashboard.state.selection import Point

WIDTH, GAP, HEAD, MARGIN, BAR = 300, 18, 56, 24, 64
TEXT, LETTER, HEADING = 15, 7.1, 11.5
"""Size of the writing, read at half a slide's width, and how wide a letter of it and of the heading is on average."""
ABREAST = 5
"""Pictures of a line at most, so that a saved picture is no wider than its writing allows."""
FONT = "font-family='Liberation Sans, Arial, Helvetica, sans-serif'"


def svg(picture: str, drawn: Sequence[Panel], *, scale: Scale | None, look: Look, title: str, caption: str) -> str:
    """The original and the panels in one row, with their colours, one colour bar, and a caption; see `rows_svg`."""
    return rows_svg([Row(picture, drawn)], scale=scale, look=look, title=title, caption=caption)


def rows_svg(
    rows: Sequence[Row],
    *,
    scale: Scale | None,
    look: Look,
    title: str,
    caption: str,
    legend: Mapping[str, str] | None = None,
) -> str:
    """Rows of an original and its panels, with their colours, one colour bar for all, and a caption.

    Args:
        rows: from the top.
        scale: what the colours mean in panels without a scale of their own.
        look: how maps are drawn.
        title: heading of the picture.
        caption: what the numbers say, in Markdown, which is taken out; long text is wrapped.
        legend: what colours stand for that no scale explains: name to colour.
    """
    most = max(len(line) for row in rows for line in lines_of(row, row.look or look))
    heading = wrap(title, int((most * (WIDTH + GAP) - GAP) / HEADING))
    across = 2 * MARGIN + most * WIDTH + (most - 1) * GAP
    letters = max(int((across - 2 * MARGIN) / LETTER), 30)
    parts: list[str] = []
    top = MARGIN + 40.0 + 28 * (len(heading) - 1)
    for row in rows:
        own = any(panel.scale and not panel.masked for panel in row.panels)
        for line in wrap(plain(row.title), int(letters * 0.82)):
            parts.append(
                f"<text x='{MARGIN}' y='{top + 14:.0f}' font-size='18' font-weight='600'>{escape(line)}</text>"
            )
            top += 26
        for entries in lines_of(row, row.look or look):
            tall, drawn = _row(row, entries, row.scale or scale, row.look or look, top)
            parts += drawn
            top += HEAD + tall + (34 if own else 16)
        if row.scale and any(panel.drawable and not panel.scale and not panel.masked for panel in row.panels):
            parts.append(bar(row.scale, MARGIN, top, flat=(row.look or look).flat))
            top += 28
        for line in wrap(plain(row.note), letters):
            parts.append(f"<text x='{MARGIN}' y='{top + 10:.0f}' font-size='{TEXT}'>{escape(line)}</text>")
            top += 23
        top += 16 if len(rows) > 1 else 0
    every = [panel for row in rows if row.scale is None for panel in row.panels]
    shared = scale is not None and any(
        panel.values is not None and panel.scale is None and not panel.masked for panel in every
    )
    if scale and shared:
        parts.append(bar(scale, MARGIN, top, flat=look.flat))
    if legend:
        top, keys = _legend(legend, top, across)
        parts += keys
    lines = wrap(plain(caption), letters)
    top += BAR - 14 if shared or legend else 20
    for k, line in enumerate(lines):
        parts.append(f"<text x='{MARGIN}' y='{top + 22 * k:.0f}' font-size='{TEXT}'>{escape(line)}</text>")
    down = top + 22 * len(lines) + MARGIN
    return "".join([*opening(across, down, title), *parts, "</svg>"])


def _legend(names: Mapping[str, str], top: float, across: float) -> tuple[float, list[str]]:
    """Names beside their colours, in as many lines as they need: where the last begins, and the parts."""
    left, parts = float(MARGIN), []
    for name, colour in names.items():
        width = 44 + 8.4 * len(name)
        if left + width > across - MARGIN and left > MARGIN:
            left, top = float(MARGIN), top + 22
        parts += [
            f"<rect x='{left:.0f}' y='{top:.0f}' width='14' height='14' rx='2' fill='{colour}'/>",
            f"<text x='{left + 20:.0f}' y='{top + 12:.0f}' font-size='{TEXT}'>{escape(name)}</text>",
        ]
        left += width
    return top, parts


def lines_of(row: Row, look: Look) -> list[list[Panel | None]]:
    """The panels of a row in lines of about the same length, the original (None) first where it is drawn."""
    entries: list[Panel | None] = [*([None] if look.original else []), *row.panels]
    count = -(-len(entries) // ABREAST)
    long = -(-len(entries) // count)
    return [entries[start : start + long] for start in range(0, len(entries), long)]


def opening(across: int, down: float, title: str) -> list[str]:
    """The first parts of a saved picture with a heading, in as many lines as it needs."""
    lines = wrap(title, int((across - 2 * MARGIN) / HEADING))
    return white(across, down) + [
        f"<text x='{MARGIN}' y='{MARGIN + 20 + 28 * k}' font-size='22' font-weight='600'>{escape(line)}</text>"
        for k, line in enumerate(lines)
    ]


def _row(
    row: Row, entries: Sequence[Panel | None], scale: Scale | None, look: Look, above: float
) -> tuple[float, list[str]]:
    """How tall the pictures of a line of a row are, and its parts, the first at ``above``."""
    width, height = gallery.load(row.picture).size
    tall, top = WIDTH * height / width, above + HEAD
    parts: list[str] = []
    for i, panel in enumerate(entries):
        left = MARGIN + i * (WIDTH + GAP)
        colour = panel.colour if panel and panel.colour.startswith("#") else "#9aa1ab"
        said = row.outline_of or f"{width} × {height} px"
        name, note = (panel.name, panel.note) if panel else (gallery.title(row.picture), said)
        mask = row.outline if panel is None else panel.outline if panel.mask is None else None
        parts += [
            f"<rect x='{left}' y='{top - HEAD:.1f}' width='{WIDTH}' height='4' fill='{colour}'/>",
            written(name, left, top - HEAD + 23, size=17, bold=True),
            written(note, left, top - HEAD + 44, size=TEXT, colour="#555b66"),
            f"<svg x='{left}' y='{top:.1f}' width='{WIDTH}' height='{tall:.1f}' viewBox='0 0 {width} {height}'>",
            _picture(panel, row.picture, scale, look, (width, height)),
            _border(mask, (0, 0, width, height), width) if mask is not None else "",
            _asked(panel, row.point, (width, height)) if row.point else "",
            "</svg>",
        ]
        if panel and panel.scale and not panel.masked:
            parts.append(bar(panel.scale, left, top + tall + 10, flat=look.flat))
    return tall, parts


def png(document: str) -> bytes:
    """The SVG drawn at twice its size."""
    drawn: bytes = vl_convert.svg_to_png(document, scale=2)
    return drawn


def _picture(panel: Panel | None, picture: str, shared: Scale | None, look: Look, size: tuple[int, int]) -> str:
    width, height = size
    href = gallery.data_uri(panel.picture if panel and panel.picture else picture, panels.PICTURE_SIDE)
    photo = f"<image href='{href}' width='{width}' height='{height}' preserveAspectRatio='none'"
    if panel is None:
        return f"{photo}/>"
    scale = panel.scale or shared
    if panel.geometry is None or (panel.rgba is None and (panel.values is None or scale is None)):
        lines, letter = wrap(panel.message or "no map", 34), width * TEXT / WIDTH
        first = height / 2 - (len(lines) - 1) / 2 * 1.3 * letter
        return f"{photo} opacity='0.15'/>" + "".join(
            f"<text x='{width / 2}' y='{first + 1.3 * letter * k:.1f}' font-size='{letter:.1f}' text-anchor='middle'>"
            f"{escape(line)}</text>"
            for k, line in enumerate(lines)
        )
    left, top, right, bottom = panel.geometry.box
    place = f"x='{left}' y='{top}' width='{right - left}' height='{bottom - top}'"
    dark = f"M0 0H{width}V{height}H0ZM{left} {top}V{bottom}H{right}V{top}Z"
    if not panel.masked:
        grey = gallery.data_uri(panel.picture or picture, panels.PICTURE_SIDE, grey=True)
        photo = photo.replace(href, grey) + f" opacity='{palette.INK}'"
    white = f"<rect width='{width}' height='{height}' fill='#ffffff'/>"
    parts = [white, f"{photo}/>", f"<path d='{dark}' fill='#0a0c10' opacity='0.72' fill-rule='evenodd'/>"]
    if panel.mask is not None and panel.masked:
        veil = np.zeros((*panel.mask.shape, 4), np.uint8)
        veil[..., 3] = np.where(panel.mask, 0, 195)
        parts.append(_map(veil, place, smooth=False))
    elif panel.rgba is not None:
        parts.append(_map(panel.rgba, place, smooth=panel.grid is not None))
    elif panel.values is not None and scale is not None:
        values = head_maps.smooth(panel.values) if look.smooth else panel.values
        parts.append(_map(scale.colours(values, flat=look.flat), place, smooth=look.smooth))
    if panel.mask is not None:
        parts.append(_border(panel.mask, (left, top, right, bottom), width))
    return "".join(parts)


def _asked(panel: Panel | None, point: Point, size: tuple[int, int]) -> str:
    """The mark of the asked point: a ring in the original, a frame around the patch in a panel that holds it."""
    width, height = size
    x, y = point[0] * width, point[1] * height
    ring = f"cx='{x:.1f}' cy='{y:.1f}' r='{width / 45:.1f}'"
    shape = f"<circle {ring}"
    if panel is not None:
        grid = panel.grid or (panel.values.shape if panel.values is not None else None)
        if grid is None or panel.geometry is None:
            return ""
        left, top, right, bottom = panel.geometry.box
        if not (left <= x < right and top <= y < bottom):
            return ""
        down, across = (bottom - top) / grid[0], (right - left) / grid[1]
        corner = left + (x - left) // across * across, top + (y - top) // down * down
        shape = f"<rect x='{corner[0]:.1f}' y='{corner[1]:.1f}' width='{across:.1f}' height='{down:.1f}'"
    lines = ((6, "#000"), (3, "#fff"))
    return "".join(f"{shape} fill='none' stroke='{c}' stroke-width='{w * width / WIDTH:.1f}'/>" for w, c in lines)


def _border(mask: np.ndarray, box: tuple[float, float, float, float], width: float) -> str:
    """The border of a mask that lies over a box of a picture of this width."""
    left, top, right, bottom = box
    rows, columns = mask.shape
    unit = (right - left) / columns, (bottom - top) / rows
    move = f"transform='translate({left} {top}) scale({unit[0]} {unit[1]})'"
    parts = []
    for colour, thick in (("#000", 4), ("#fff", 2)):
        stroke = f"stroke='{colour}' stroke-width='{thick * width / WIDTH / unit[0]:.4f}'"
        parts.append(f"<path d='{head_maps.contour(mask)}' {move} fill='none' {stroke} stroke-linecap='square'/>")
    return "".join(parts)


def _map(pixels: np.ndarray, place: str, *, smooth: bool) -> str:
    """A map as an image; patch-exact ones are enlarged here, as not every viewer keeps hard edges."""
    if not smooth:
        pixels = np.repeat(np.repeat(pixels, 16, axis=0), 16, axis=1)
    return f"<image href='{panels.png_uri(pixels)}' {place} preserveAspectRatio='none'/>"


def bar(scale: Scale, x: float, y: float, *, flat: bool = True) -> str:
    """A colour bar with its ends, its left upper corner at (x, y): of flat maps, or over a photograph's grey."""
    uri = panels.png_uri(palette.ramp(signed=scale.signed, flat=flat, steps=128)[None])
    low, high = palette.number(scale.low), palette.number(scale.high)
    begin = 6 + 9 * len(low)
    return (
        f"<text x='{x}' y='{y + 12:.1f}' font-size='{TEXT}'>{low}</text>"
        f"<image href='{uri}' x='{x + begin}' y='{y:.1f}' width='110' height='13' preserveAspectRatio='none'/>"
        f"<text x='{x + begin + 116}' y='{y + 12:.1f}' font-size='{TEXT}'>{high} {escape(scale.units)}</text>"
    )


def plain(markdown: str) -> str:
    """A sentence without its Markdown: no stars, no backticks, and of a link its words."""
    return re.sub(r"[*`]", "", re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", markdown))


def written(
    text: str, x: float, y: float, *, size: int, bold: bool = False, colour: str = "#1b1f24", room: int = WIDTH
) -> str:
    """A line over a panel; one that is too long is set smaller, down to two thirds, and only then cut."""
    letters = int(room / (0.52 * size) * (0.94 if bold else 1))
    small = max(size * min(letters / max(len(text), 1), 1), size * 2 / 3)
    weight = " font-weight='600'" if bold else ""
    return (
        f"<text x='{x}' y='{y:.1f}' font-size='{small:.1f}'{weight} fill='{colour}'>"
        f"{escape(fit(text, int(letters * size / small)))}</text>"
    )


def chunks(text: str, most: int) -> list[str]:
    """Text without spaces cut into lines of at most so many characters."""
    return [text[start : start + most] for start in range(0, len(text), most)]


def size_of(document: str) -> tuple[float, float]:
    """Width and height of an SVG, from its opening."""
    across, down = (float(re.findall(rf"\b{name}=['\"]([\d.]+)", document)[0]) for name in ("width", "height"))
    return across, down


def stacked(documents: Sequence[str]) -> str:
    """SVGs one under the other as one, on white."""
    sizes = [size_of(document) for document in documents]
    parts, top = [], 0.0
    for document, (_, height) in zip(documents, sizes, strict=True):
        parts.append(f"<svg y='{top:.0f}' {document[document.index('<svg') + 4 :]}")
        top += height
    return "".join([*white(max(width for width, _ in sizes), top), *parts, "</svg>"])


def white(across: float, down: float) -> list[str]:
    """The first parts of every saved picture: its size and white ground."""
    return [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{across:.0f}' height='{down:.0f}' "
        f"viewBox='0 0 {across:.0f} {down:.0f}' {FONT} fill='#1b1f24'>",
        f"<rect width='{across:.0f}' height='{down:.0f}' fill='#ffffff'/>",
    ]


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
