"""Several pictures as one, under each other."""

import re
from collections.abc import Sequence

_SIZE = re.compile(r"<svg [^>]*?width='([0-9.]+)' height='([0-9.]+)'")


def stacked(documents: Sequence[str]) -> str:
    """SVG documents under each other, as wide as the widest.

    Raises:
        ValueError: one of them does not begin with its width and height.
    """
    sizes = []
    for document in documents:
        match = _SIZE.match(document)
        if match is None:
            raise ValueError("Expected SVG documents that begin with their width and height in pixels.")
        sizes.append((float(match[1]), float(match[2])))
    width, height = max(w for w, _ in sizes), sum(h for _, h in sizes)
    size = f"width='{width:g}' height='{height:g}'"
    parts = [f"<svg xmlns='http://www.w3.org/2000/svg' {size} viewBox='0 0 {width:g} {height:g}'>"]
    parts.append(f"<rect {size} fill='#ffffff'/>")
    top = 0.0
    for document, (_, tall) in zip(documents, sizes, strict=True):
        parts.append(document.replace("<svg ", f"<svg y='{top:g}' ", 1))
        top += tall
    return "".join([*parts, "</svg>"])
