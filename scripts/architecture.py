"""Draw which package may import which, from the imports themselves: ``python -m scripts.architecture``.

Writes ``docs/images/architecture.svg``; ``--check`` only says whether that picture is still true.
"""

import argparse
import sys
from html import escape
from pathlib import Path

import grimp

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "architecture.svg"
ROOTS = ("dashboard", "probes", "model_zoo")
ROOMS = {
    "dashboard.navigation": "finds the pages",
    "dashboard.views": "a page each, with its private parts",
    "dashboard.view": "the one form of a page",
    "dashboard.controls": "sidebar, layer, query, progress",
    "dashboard.draw": "colours, panels, charts, slides",
    "dashboard.compute": "requests, jobs, results",
    "dashboard.state": "selection and link",
    "dashboard.images": "samples, scenes, uploads",
    "probes": "a probe each",
    "probes.core": "capture, fold, runner, command line",
    "model_zoo.training": "recipes and objectives",
    "model_zoo": "catalog, loading, scenes, layout",
}
"""Packages of the picture, from the top; a module belongs to the longest name that it begins with."""
WIDE, TALL, GAP, LEFT, TOP = 380, 44, 22, 200, 20


def room_of(module: str) -> str | None:
    """The package of the picture that a module belongs to."""
    found = [room for room in ROOMS if module == room or module.startswith(room + ".")]
    return max(found, key=len, default=None)


def arrows() -> set[tuple[str, str]]:
    """Which package imports which."""
    graph = grimp.build_graph(*ROOTS)
    found = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            a, b = room_of(module), room_of(imported)
            if a and b and a != b:
                found.add((a, b))
    return found


def svg(found: set[tuple[str, str]]) -> str:
    """The packages from the top, an arc for every import that leaps over a neighbour; arrows up are red."""
    place = {room: TOP + index * (TALL + GAP) for index, room in enumerate(ROOMS)}
    down = TOP + len(ROOMS) * (TALL + GAP)
    across = LEFT + WIDE + 40
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{across}' height='{down}' viewBox='0 0 {across} {down}' "
        "font-family='Liberation Sans, Arial, sans-serif'>",
        f"<rect width='{across}' height='{down}' fill='#fff'/>",
    ]
    for a, b in sorted(found):
        y, z = place[a] + TALL / 2, place[b] + TALL / 2
        bend = LEFT - 12 - abs(z - y) * 0.22
        colour = "#7a8290" if z > y else "#c0392b"
        parts.append(
            f"<path d='M{LEFT} {y:.0f}C{bend:.0f} {y:.0f} {bend:.0f} {z:.0f} {LEFT - 4} {z:.0f}' fill='none' "
            f"stroke='{colour}' stroke-width='1.4' opacity='0.75'><title>{a} imports {b}</title></path>"
            f"<path d='M{LEFT - 8} {z - 4:.0f}l7 4l-7 4z' fill='{colour}'/>"
        )
    fills = {"dashboard": "#e8f1f8", "probes": "#eaf5ec", "model_zoo": "#fbf1e3"}
    for room, y in place.items():
        parts.append(
            f"<rect x='{LEFT}' y='{y}' width='{WIDE}' height='{TALL}' rx='4' fill='{fills[room.partition('.')[0]]}' "
            f"stroke='#9aa1ab'/><text x='{LEFT + 12}' y='{y + 19}' font-size='15' font-weight='600'>{room}</text>"
            f"<text x='{LEFT + 12}' y='{y + 36}' font-size='13' fill='#555b66'>{escape(ROOMS[room])}</text>"
        )
    return "".join([*parts, "</svg>\n"])


def main() -> int:
    """Write the picture, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the picture in docs/ is not what the code says")
    drawn = svg(arrows())
    if parser.parse_args().check:
        if PICTURE.read_text(encoding="utf-8") == drawn:
            return 0
        print(f"{PICTURE.name} is out of date: run python -m scripts.architecture", file=sys.stderr)
        return 1
    PICTURE.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
