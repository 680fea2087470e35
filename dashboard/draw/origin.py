"""Where a saved file comes from: models, versions and the link to the view, written into every download."""

import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import streamlit as st

from dashboard.draw import export
from dashboard.state import link
from dashboard.state.models import reference

PACKAGES = ("torch", "timm", "numpy")
SIZE, LINE, GREY = 11, 15, "#6b7280"
"""Of the writing at the foot of a picture: size, distance of lines and colour."""
_SNAPSHOT = re.compile(r"@step-\d+$")


@dataclass(frozen=True)
class Origin:
    """Where a file comes from.

    Attributes:
        models: MODEL strings, which the command line and links take; snapshots count as their model.
        link: address of the view.
    """

    models: tuple[str, ...] = ()
    link: str = ""

    @property
    def parts(self) -> dict[str, str]:
        """What is written: kind to text without commas, so that a line of it is one cell of a spreadsheet."""
        keys = dict.fromkeys(_SNAPSHOT.sub("", model) for model in self.models)
        named = {key: reference(key).label.replace(",", "") for key in keys}
        written = {
            "Models": "; ".join(f"{title} = {key}" for key, title in named.items()),
            "Versions": versions(),
            "Link": self.link,
        }
        return {kind: text for kind, text in written.items() if text}


@cache
def versions() -> str:
    """The project's commit, where it is known, and the packages that compute."""
    project = []
    if git := shutil.which("git"):
        command = [git, "describe", "--always", "--tags"]
        told = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        project = [f"dashboard {told.stdout.strip()}"] if told.returncode == 0 else []
    return "; ".join([*project, *(f"{name} {version(name)}" for name in PACKAGES)])


def of_page(models: tuple[str, ...] = ()) -> Origin:
    """The origin of what the page shows now; call it while the page is drawn."""
    bound = {name: st.query_params.get_all(name) for name in st.query_params if name not in link.NAMES}
    chosen = {name: list(values) for name in link.NAMES if (values := link.get(name))}
    shown = {name: list(values) for name, values in link.shown().items()}
    query = urlencode({**chosen, **shown, **bound}, doseq=True, safe=":@/")
    address = st.context.url or ""
    if address and not urlsplit(address).path:
        address += "/"
    return Origin(models, f"{address}{'?' if query else ''}{query}")


def signed(document: str, origin: Origin) -> str:
    """An SVG with a foot that says where it is from, and the same as its metadata; the link can be followed."""
    across, down = export.size_of(document)
    letters = int((across - 2 * export.MARGIN) / (0.56 * SIZE))
    top, lines = down, []
    for kind, text in origin.parts.items():
        cut = export.wrap(text, letters) if kind != "Link" else export.chunks(text, letters)
        spans = "".join(
            f"<text x='{export.MARGIN}' y='{top + LINE * k:.0f}'>{escape(line)}</text>" for k, line in enumerate(cut)
        )
        lines.append(f"<a href='{escape(text)}'>{spans}</a>" if kind == "Link" else spans)
        top += LINE * len(cut)
    tall = top - LINE + export.MARGIN
    told = escape("; ".join(f"{kind}: {text}" for kind, text in origin.parts.items()))
    foot = f"<metadata>{told}</metadata><g font-size='{SIZE}' fill='{GREY}'>{''.join(lines)}</g></svg>"
    return "".join([*export.white(across, tall), document, foot])


def png(document: str, origin: Origin) -> bytes:
    """A signed SVG as PNG whose metadata (iTXt, read by image viewers and by PIL) say the same."""
    drawn = export.png(document)
    head = 8 + 25  # the signature and the first chunk, which is the size
    return drawn[:head] + b"".join(_text(kind, text) for kind, text in origin.parts.items()) + drawn[head:]


def _text(keyword: str, text: str) -> bytes:
    """A chunk iTXt of PNG: uncompressed, of no language."""
    body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def csv(table: str, origin: Origin) -> str:
    """A CSV with lines of comment on top; ``pandas.read_csv(..., comment="#")`` leaves them out."""
    return "".join(f"# {kind}: {text}\n" for kind, text in origin.parts.items()) + table
