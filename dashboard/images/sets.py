"""Sets of many images: procedural scenes, or uploads that belong together, with the class of each where one is known.

A set is named by ``scenes-100``, or ``zip-DIGEST`` for an uploaded one that is held.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from dashboard.images import archives, gallery
from model_zoo.decoding import ImageError
from model_zoo.images import ImageSource
from model_zoo.scenes import CLASSES, Scenes

SCENES = (32, 100, 250, 500, 1000, 2000)
FEW_SCENES = tuple(f"scene:{i}" for i in range(8))
"""What a page of long work opens with."""
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
        """Keep the images of zips and of single files; return the set's name and what is to be said about it.

        Args:
            files: names and bytes.
            on_progress: called with the stage, and images done and in all; it may raise to cancel.

        Raises:
            ImageError: there is no image in them.
        """
        images: list[tuple[str, str, bytes]] = []
        notes: list[str] = []
        skipped = 0
        zips = [data for name, data in files if name.lower().endswith(".zip")]
        single = [(name, data) for name, data in files if not name.lower().endswith(".zip")]
        for unpacked in (archives.within_limits(single, "upload", "holds"), *map(archives.unpack, zips)):
            images += unpacked.images
            skipped += unpacked.skipped
            notes += unpacked.notes
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

    def class_of(self, image: str) -> str:
        """The class of an uploaded image by the set that was added last with it; empty where none says one."""
        with self._lock:
            known = [kept for kept in self._kept.values() if kept.classes and image in kept.images]
        return known[-1].classes[known[-1].images.index(image)] if known else ""


SETS = Sets()


def source(image: str) -> ImageSource:
    """The picture as the probes take it, with its class where it is known."""
    found = gallery.source(image)
    named = SETS.class_of(image)
    return replace(found, label=partial(str, named)) if named else found


def named(name: str, chosen: tuple[str, ...]) -> ImageSet:
    """The set of a name; for a name that is none, the images that are chosen singly."""
    kind, _, rest = name.partition("-")
    if kind == "scenes" and rest.isdigit():
        count = min(int(rest), SCENES[-1])
        return ImageSet(f"{count:,} scenes", tuple(f"scene:{i}" for i in range(count)), scene_classes(count))
    if kind == "zip" and (kept := SETS.get(name)):
        return kept
    count = len(chosen)
    return ImageSet(f"{count} chosen image{'s' if count != 1 else ''}", chosen, scene_classes_of(chosen))


@lru_cache(maxsize=8)
def scene_classes(count: int) -> tuple[str, ...]:
    """Names of the classes of the first scenes."""
    return scene_classes_of(tuple(f"scene:{i}" for i in range(count)))


@lru_cache(maxsize=32)
def scene_classes_of(images: tuple[str, ...]) -> tuple[str, ...]:
    """Classes of scenes; none at all when one of the images is no scene."""
    if not all(image.startswith("scene:") for image in images):
        return ()
    indices = [int(image.partition(":")[2]) for image in images]
    return tuple(CLASSES[label] for label in Scenes(size=8).batch(indices).labels.tolist())
