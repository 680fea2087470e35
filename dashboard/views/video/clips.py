"""The clips that a film can be made of: drawn samples, and uploads, held by the digest of their bytes."""

import hashlib
import io
import re
from functools import cache
from pathlib import Path
from threading import Lock

from dashboard.cache import Bounded
from probes.core.video.clip import Clip, Limits, Part, VideoError
from probes.core.video.reading import FileClip
from probes.core.video.scene_clip import SceneClip

MOST_MEGABYTES = 100
"""Of one uploaded clip."""
HELD_BYTES = 400 * 2**20
LIMITS = Limits(seconds=60.0, frames=900, decoded=20_000)
"""What is taken of a clip on a server that others use, too."""
SAMPLES = 6
TYPES = ["mp4", "mov", "m4v", "webm", "mkv", "avi", "mpg", "mpeg", "ts", "ogv", "3gp", "gif"]
GONE = "The uploaded clip is no longer held on this server: upload it again."
_SCENE = re.compile(r"scene:([0-5])")


class Uploads:
    """Uploaded files by digest, least recently used out first; nothing in them is looked at here."""

    def __init__(self, most_bytes: int = HELD_BYTES) -> None:
        self._files: Bounded[str, tuple[bytes, str]] = Bounded(most_bytes)
        self._lock = Lock()

    def add(self, data: bytes, name: str) -> str:
        """Keep a file and return its id."""
        identity = "clip:" + hashlib.sha256(data).hexdigest()[:16]
        with self._lock:
            self._files[identity] = data, name
        return identity

    def get(self, identity: str) -> tuple[bytes, str] | None:
        """The bytes and the file's name, None when they are no longer held."""
        with self._lock:
            return self._files.get(identity)


@cache
def uploads() -> Uploads:
    """The uploaded clips of this process."""
    return Uploads()


def title(identity: str) -> str:
    """What a clip is called."""
    if found := _SCENE.fullmatch(identity):
        return f"Sample {int(found[1]) + 1}"
    upload = uploads().get(identity)
    return Path(upload[1]).stem[:40] if upload else "Upload"


def opened(identity: str, part: Part) -> Clip:
    """The clip, for a job: an upload's bytes are decoded.

    Raises:
        VideoError: it cannot be taken, or is no longer held.
    """
    if found := _SCENE.fullmatch(identity):
        return SceneClip(int(found[1]), part)
    upload = uploads().get(identity)
    if upload is None:
        raise VideoError(GONE)
    return FileClip(io.BytesIO(upload[0]), part, LIMITS, name=Path(upload[1]).name[:60])
