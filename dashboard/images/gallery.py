"""The pictures a page can show: sample photos, procedural scenes and uploads, each by an id that fits into a link.

Ids are ``photo:NAME``, ``scene:NUMBER`` and ``upload:DIGEST``. An upload is named by the digest of its bytes and held
in a bounded store shared by the whole process, so a link to it works for as long as it is held.
"""

import base64
import hashlib
import importlib
import importlib.util
import io
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from dashboard.cache import remember
from model_zoo.adapter import Geometry
from model_zoo.decoding import open_image
from model_zoo.images import ImageSource

MOST_UPLOAD_BYTES = 256 * 2**20
PICTURE_BYTES = 384 * 2**20
"""Decoded pictures: at least one of the largest that is opened."""
MASK_BYTES = 64 * 2**20
THUMBNAIL_BYTES = 32 * 2**20
MOST_SCENES = 10_000
SCENES_SHOWN = 6
GONE = "The uploaded image is no longer held: upload it again."
_UPLOAD = re.compile(r"upload:[0-9a-f]{16}")
_SCENE = re.compile(r"scene:(0|[1-9][0-9]{0,4})")


@dataclass(frozen=True)
class Photo:
    """A sample photo that comes in the wheel of a library the project uses anyway."""

    title: str
    package: str
    file: str
    licence: str
    alt: str


PHOTOS = {
    "chelsea": Photo(
        "Cat",
        "skimage",
        "data/chelsea.png",
        "Chelsea by Stéfan van der Walt, CC0",
        "A tabby cat's face, close up",
    ),
    "astronaut": Photo(
        "Astronaut",
        "skimage",
        "data/astronaut.png",
        "Eileen Collins by NASA, public domain",
        "An astronaut in an orange suit before a flag and a model of a shuttle",
    ),
    "coffee": Photo(
        "Coffee",
        "skimage",
        "data/coffee.png",
        "Coffee cup by Rachel Michetti, CC0",
        "A cup of coffee on a wooden table",
    ),
    "rocket": Photo(
        "Rocket",
        "skimage",
        "data/rocket.jpg",
        "DSCOVR launch by SpaceX, public domain",
        "A rocket lifting off at dusk",
    ),
    "china": Photo(
        "Temple",
        "sklearn",
        "datasets/images/china.jpg",
        "Summer Palace by danielbuechele, CC BY 2.0",
        "A pagoda among trees under a blue sky",
    ),
    "flower": Photo(
        "Flower",
        "sklearn",
        "datasets/images/flower.jpg",
        "Dahlia by vultilion, CC BY 2.0",
        "An orange flower, close up",
    ),
}


class Uploads:
    """Uploaded files by the digest of their bytes, least recently used out first."""

    def __init__(self, most_bytes: int = MOST_UPLOAD_BYTES) -> None:
        self._most_bytes = most_bytes
        self._files: OrderedDict[str, tuple[bytes, str]] = OrderedDict()
        self._sizes: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def add(self, data: bytes, name: str) -> str:
        """Keep a file and return its id.

        Raises:
            ImageError: it is not an image that can be shown.
        """
        size = open_image(data).size
        identity = "upload:" + hashlib.sha256(data).hexdigest()[:16]
        with self._lock:
            self._files[identity] = (data, name)
            self._sizes[identity] = size
            self._files.move_to_end(identity)
            while len(self._files) > 1 and sum(len(kept) for kept, _ in self._files.values()) > self._most_bytes:
                del self._sizes[self._files.popitem(last=False)[0]]
        return identity

    def get(self, identity: str) -> tuple[bytes, str] | None:
        """The bytes and the file's name, None when they are no longer held."""
        with self._lock:
            if identity in self._files:
                self._files.move_to_end(identity)
            return self._files.get(identity)

    def size(self, identity: str) -> tuple[int, int] | None:
        """Width and height of the upright picture, None when it is no longer held."""
        with self._lock:
            return self._sizes.get(identity)


UPLOADS = Uploads()


@cache
def has_scenes() -> bool:
    """Whether procedural scenes can be drawn."""
    return hasattr(importlib.import_module("model_zoo.scenes"), "Scenes")


def offered() -> tuple[str, ...]:
    """Ids of the pictures that everyone is offered."""
    scenes = tuple(f"scene:{i}" for i in range(SCENES_SHOWN)) if has_scenes() else ()
    return (*(f"photo:{name}" for name in PHOTOS), *scenes)


def missing(identity: str) -> str | None:
    """Why there is no such picture, in one sentence; None when there is."""
    if _UPLOAD.fullmatch(identity):
        return None if UPLOADS.get(identity) else "The uploaded image of this link is no longer held: upload it again."
    if identity.startswith("photo:") and identity.removeprefix("photo:") in PHOTOS:
        return None
    if has_scenes() and (match := _SCENE.fullmatch(identity)) and int(match[1]) < MOST_SCENES:
        return None
    return f"There is no image called {identity[:40]!r}: choose one of the strip or upload one."


def title(identity: str) -> str:
    """What a picture is called."""
    kind, _, name = identity.partition(":")
    if kind == "photo":
        return PHOTOS[name].title
    if kind == "scene":
        return f"Scene {int(name) + 1}"
    upload = UPLOADS.get(identity)
    return Path(upload[1]).stem[:40] if upload else "Upload"


def credit(identity: str) -> str:
    """Whose picture it is and under what licence."""
    kind, _, name = identity.partition(":")
    if kind == "photo":
        return PHOTOS[name].licence
    return "Procedural scene, drawn by this project, Apache-2.0" if kind == "scene" else "Uploaded image"


def alt(identity: str) -> str:
    """What a picture shows, for those who do not see it."""
    kind, _, name = identity.partition(":")
    return PHOTOS[name].alt if kind == "photo" else title(identity)


def whole(identity: str) -> Geometry:
    """The geometry of what lies over the whole picture, uncropped."""
    width, height = size(identity)
    return Geometry((width, height), (0.0, 0.0, float(width), float(height)), (height, width))


@remember(PICTURE_BYTES)
def load(identity: str) -> Image.Image:
    """The picture as upright RGB.

    Raises:
        ImageError: it cannot be shown.
        LookupError: there is no such picture, or it is no longer held.
    """
    kind, _, name = identity.partition(":")
    if kind == "photo":
        photo = PHOTOS[name]
        spec = importlib.util.find_spec(photo.package)
        if spec is None or spec.origin is None:
            raise LookupError(f"{photo.package} is not installed, so its photo {name} is missing.")
        return open_image(Path(spec.origin).parent / photo.file)
    if kind == "scene":
        from model_zoo.scenes import Scenes

        return Scenes().image(int(name))
    upload = UPLOADS.get(identity)
    if upload is None:
        raise LookupError(GONE)
    return open_image(upload[0])


def size(identity: str) -> tuple[int, int]:
    """Width and height of a picture, known without opening it again.

    Raises:
        LookupError: there is no such picture, or it is no longer held.
    """
    kind, _, name = identity.partition(":")
    if kind == "photo":
        return _photo_size(name)
    if kind == "scene":
        from model_zoo.scenes import Scenes

        return (Scenes().size,) * 2
    known = UPLOADS.size(identity)
    if known is None:
        raise LookupError(GONE)
    return known


@cache
def _photo_size(name: str) -> tuple[int, int]:
    return load(f"photo:{name}").size


def source(identity: str) -> ImageSource:
    """The picture as the probes take it."""
    if not identity.startswith("scene:"):
        return ImageSource(identity, partial(load, identity))
    return ImageSource(identity, partial(load, identity), partial(mask, identity), label=partial(label, identity))


def label(identity: str) -> str:
    """The class of a procedural scene."""
    from model_zoo.scenes import Scenes

    return Scenes().label(int(identity.removeprefix("scene:")))


@remember(MASK_BYTES)
def mask(identity: str) -> np.ndarray:
    """The object's exact mask in a procedural scene: boolean (height, width)."""
    from model_zoo.scenes import Scenes

    return Scenes().mask(int(identity.removeprefix("scene:")))


@remember(THUMBNAIL_BYTES)
def data_uri(identity: str, side: int, *, grey: bool = False) -> str:
    """The picture as a JPEG data URI, its longer side at most ``side`` pixels; without its colours if ``grey``."""
    small = load(identity).convert("L") if grey else load(identity).copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
