"""The choice of a set of many images, for the pages that need them: what is chosen in the sidebar, scenes, or a zip.

The link names a set by ``set=``: ``chosen``, or a name of `dashboard.images.sets`.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.background import Background
from dashboard.compute.jobs import Job
from dashboard.controls import progress
from dashboard.images import gallery, sets
from dashboard.images.sets import ImageSet
from dashboard.state import link, models
from dashboard.state.selection import Selection

_READING: Background[tuple[str, list[str]]] = Background(2**20)


Default = str | Callable[[Selection], str]
"""The set that a page opens with, or what makes it of models and images."""


def as_trained(selection: Selection) -> str:
    """Scenes to models that learned from scenes, what is chosen in the sidebar to others or once something is."""
    learned = any(models.learned_scenes(model) for model in selection.models)
    return "scenes-32" if learned and not link.get("image") else "chosen"


def in_use(selection: Selection, *, default: Default = "chosen", most: int = 2000) -> str:
    """Title of the set that the page is of; empty where it is of the images that are chosen in the sidebar."""
    name = _current(selection, default, _offered(most))
    return "" if name == "chosen" else sets.named(name, ()).title


def _offered(most: int) -> list[str]:
    """Names of the sets that can be chosen: the sidebar's images, scenes, and this visitor's own."""
    scenes = [f"scenes-{n}" for n in sets.SCENES if n <= most] if gallery.has_scenes() else []
    linked = link.first("set")
    own = [*st.session_state.get("sets", ()), *([linked] if linked.startswith("zip-") else [])]
    return ["chosen", *scenes, *(name for name in dict.fromkeys(own) if sets.SETS.get(name))]


def _current(selection: Selection, default: Default, offered: Sequence[str]) -> str:
    """The link's set; where it names none that there is, the default."""
    first = default(selection) if callable(default) else default
    linked = link.first("set")
    return linked if linked in offered else first if first in offered else "chosen"


def control(selection: Selection, *, default: Default = "chosen", most: int = 2000) -> tuple[Selection, ImageSet]:
    """Draw the choice of a set, and return the selection with its images and the set itself.

    Args:
        selection: what the sidebar says.
        default: the set when the link names none.
        most: images that the page can take.
    """
    _read_uploaded()
    options = _offered(most)
    current = _current(selection, default, options)
    linked = link.first("set")
    if linked.startswith("zip-") and linked not in options:
        link.note("The uploaded images of this link are no longer held: upload them again.")
        link.put("set")
    elif linked and linked not in options:
        shown = sets.named(current, selection.images).title
        link.note(f"There is no set of images called {linked[:20]!r} here: {shown} are shown.")
    st.session_state["set_choice"] = current
    chosen = st.selectbox(
        "Images",
        options,
        key="set_choice",
        format_func=lambda name: sets.named(name, selection.images).title,
        width=170,
        help="The images chosen in the sidebar, procedural scenes, or your own: several files or one zip.",
        on_change=lambda: link.put("set", st.session_state["set_choice"]),
    )
    with st.popover("Upload many"):
        generation = st.session_state.setdefault("set_generation", 0)
        st.file_uploader(
            "Images, or a zip of them (a folder in it is a class)",
            type=["zip", "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"],
            accept_multiple_files=True,
            key=f"many-{generation}",
            on_change=_take,
            args=(f"many-{generation}",),
        )
    found = sets.named(chosen, selection.images)
    found = replace(found, images=found.images[:most], classes=found.classes[:most])
    return replace(selection, images=found.images), found


def _take(key: str) -> None:
    files: list[Any] = st.session_state.get(key) or []
    if files:
        st.session_state["set_files"] = (uuid.uuid4().hex, [(file.name, file.getvalue()) for file in files])
        st.session_state["set_generation"] += 1


def _read_uploaded() -> None:
    """Read what was uploaded, in another thread; until it is read the page shows the set that it had."""
    if "set_files" not in st.session_state:
        return
    key, files = st.session_state["set_files"]
    for patience in (asking.PATIENCE, 0.0):
        found = _READING.fetch(key, "Images", lambda job: sets.SETS.add(files, job.report), asking.visitor())
        if isinstance(found, Job):
            found.finished.wait(patience)
    if isinstance(found, Job):
        progress.watch(found, part="set")
        return
    del st.session_state["set_files"]
    if isinstance(found, str):
        _READING.again(asking.visitor())
        link.note(found)
        return
    name, notes = found
    for sentence in notes:
        link.note(sentence)
    st.session_state["sets"] = [name, *(x for x in st.session_state.get("sets", ()) if x != name)][:6]
    link.put("set", name)
    st.rerun()  # the sidebar, drawn before, still says what was shown until now
