"""The choice of a set of many images, for the pages that need them: what is chosen in the sidebar, scenes, or a zip.

The link names a set by ``set=``: ``chosen``, or a name of `dashboard.images.sets`.
"""

import uuid
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.background import Background
from dashboard.compute.jobs import Job
from dashboard.controls import progress
from dashboard.images import gallery, sets
from dashboard.images.sets import ImageSet
from dashboard.state import link
from dashboard.state.selection import Selection

_READING: Background[tuple[str, list[str]]] = Background(2**20)


def control(selection: Selection, *, default: str = "chosen", most: int = 2000) -> tuple[Selection, ImageSet]:
    """Draw the choice of a set, and return the selection with its images and the set itself.

    Args:
        selection: what the sidebar says.
        default: the set when the link names none.
        most: images that the page can take.
    """
    scenes = [f"scenes-{n}" for n in sets.SCENES if n <= most] if gallery.has_scenes() else []
    _read_uploaded()
    own = [name for name in st.session_state.get("sets", ()) if sets.SETS.get(name)]
    linked = link.first("set")
    if linked.startswith("zip-") and linked not in own:
        if sets.SETS.get(linked):
            own.append(linked)
        else:
            link.note("The uploaded images of this link are no longer held: upload them again.")
            link.put("set")
    options = ["chosen", *scenes, *own]
    if linked and linked not in options:
        if not linked.startswith("zip-"):
            link.note(f"There is no set of images called {linked[:20]!r} here: {default.replace('-', ' ')} is shown.")
        linked = ""
    st.session_state["set_choice"] = linked or (default if default in options else "chosen")
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
        link.note(found)
        return
    name, notes = found
    for sentence in notes:
        link.note(sentence)
    st.session_state["sets"] = [name, *(x for x in st.session_state.get("sets", ()) if x != name)][:6]
    link.put("set", name)
