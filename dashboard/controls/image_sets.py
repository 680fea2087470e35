"""Sets of many images for the pages that need them: what is chosen in the sidebar, scenes, or a zip.

A set is named in the link by ``set=``: ``chosen``, ``scenes-100`` or ``zip-DIGEST`` for one that is held.
"""

import hashlib
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.background import Background
from dashboard.compute.jobs import Job
from dashboard.controls import progress
from dashboard.images import archives, gallery
from dashboard.state import link
from dashboard.state.selection import Selection
from model_zoo.decoding import ImageError

SCENES = (32, 100, 250, 500, 1000, 2000)
MOST_SETS = 16


@dataclass(frozen=True)
class ImageSet:
    """Images and what they are of.

    Attributes:
        title: a few words.
        images: picture ids.
        classes: the class of each image, empty where none is known.
    """

    title: str
    images: tuple[str, ...]
    classes: tuple[str, ...] = ()


class Sets:
    """Uploaded sets by the digest of the zip, least recently added out first; the images themselves are uploads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, ImageSet] = OrderedDict()
        self._lock = threading.Lock()

    def add(
        self, files: Sequence[tuple[str, bytes]], on_progress: Callable[[str, int, int], None] = lambda *_: None
    ) -> tuple[str, list[str]]:
        """Keep the images of zips and single files; return the set's name and what is to be said about it.

        Args:
            files: names and bytes.
            on_progress: called with the stage, and images done and in all; it may raise to cancel.

        Raises:
            ImageError: there is no image in them.
        """
        images: list[tuple[str, str, bytes]] = []
        notes: list[str] = []
        skipped = 0
        for name, data in files:
            if name.lower().endswith(".zip"):
                unpacked = archives.unpack(data)
                images += unpacked.images
                skipped += unpacked.skipped
                notes += unpacked.notes
            else:
                images.append((name, "", data))
        found: dict[str, str] = {}
        for done, (name, kind, data) in enumerate(images):
            on_progress("reading", done, len(images))
            try:
                found[gallery.UPLOADS.add(data, name)] = kind
            except ImageError:
                skipped += 1
        if not found:
            raise ImageError("None of the files is an image that can be read; use JPEG, PNG, WebP, GIF, BMP or TIFF.")
        if skipped:
            notes.append(f"{skipped} file{'s were' if skipped > 1 else ' was'} skipped: no image, or too large.")
        identity = "zip-" + hashlib.sha256("".join(found).encode()).hexdigest()[:12]
        classes = tuple(found.values()) if all(found.values()) else ()
        with self._lock:
            self._kept[identity] = ImageSet(f"{len(found)} uploaded images", tuple(found), classes)
            while len(self._kept) > MOST_SETS:
                self._kept.popitem(last=False)
        return identity, notes

    def get(self, identity: str) -> ImageSet | None:
        """The set, None when it or one of its images is no longer held."""
        with self._lock:
            kept = self._kept.get(identity)
        return kept if kept and all(gallery.missing(image) is None for image in kept.images) else None


SETS = Sets()
_READING: Background[tuple[str, list[str]]] = Background(MOST_SETS)


def control(selection: Selection, *, default: str = "chosen", most: int = 2000) -> tuple[Selection, ImageSet]:
    """Draw the choice of a set, and return the selection with its images and the set itself.

    Args:
        selection: what the sidebar says.
        default: the set when the link names none.
        most: images that the page can take.
    """
    scenes = [f"scenes-{n}" for n in SCENES if n <= most] if gallery.has_scenes() else []
    _read_uploaded()
    own = [name for name in st.session_state.get("sets", ()) if SETS.get(name)]
    linked = link.first("set")
    if linked.startswith("zip-") and linked not in own:
        if SETS.get(linked):
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
        format_func=lambda name: described(name, selection).title,
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
    found = described(chosen, selection)
    found = replace(found, images=found.images[:most], classes=found.classes[:most])
    return replace(selection, images=found.images), found


def described(name: str, selection: Selection) -> ImageSet:
    """The set of a name; the sidebar's images for a name that is none."""
    kind, _, rest = name.partition("-")
    if kind == "scenes" and rest.isdigit():
        count = min(int(rest), SCENES[-1])
        return ImageSet(f"{count:,} scenes", tuple(f"scene:{i}" for i in range(count)), scene_classes(count))
    if kind == "zip" and (kept := SETS.get(name)):
        return kept
    count = len(selection.images)
    classes = scene_classes_of(selection.images)
    return ImageSet(f"{count} chosen image{'s' if count != 1 else ''}", selection.images, classes)


@lru_cache(maxsize=8)
def scene_classes(count: int) -> tuple[str, ...]:
    """Names of the classes of the first scenes."""
    return scene_classes_of(tuple(f"scene:{i}" for i in range(count)))


@lru_cache(maxsize=32)
def scene_classes_of(images: tuple[str, ...]) -> tuple[str, ...]:
    """Classes of scenes; none at all when one of the images is no scene."""
    if not all(image.startswith("scene:") for image in images):
        return ()
    from model_zoo.scenes import CLASSES, Scenes

    indices = [int(image.partition(":")[2]) for image in images]
    return tuple(CLASSES[label] for label in Scenes(size=8).batch(indices).labels.tolist())


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
        found = _READING.fetch(key, "Images", lambda job: SETS.add(files, job.report), asking.visitor())
        if isinstance(found, Job):
            found.finished.wait(patience)
    if isinstance(found, Job):
        _wait(found)
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


@st.fragment(run_every=progress.POLL)
def _wait(job: Job) -> None:
    if job.finished.is_set():
        st.rerun()
    st.caption(progress.describe(job, 1))
