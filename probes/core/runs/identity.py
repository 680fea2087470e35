"""What a result stands on, told apart by content: files, the code of this program, and versions of packages.

Nothing here imports torch, so that a question that was answered before is answered at once.
"""

import hashlib
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow", "xarray")
ROOT = Path(__file__).parents[3]
SETTLED_NS = 100_000_000
"""A file that was written to later than this before it was read may be written again within its clock's tick."""


@dataclass(frozen=True)
class FileIdentity:
    """A file as it was when it was read.

    Attributes:
        path: absolute.
        sha256: of its bytes.
        bytes, modified, changed, inode: what the file system says of it; the times in nanoseconds.
        read: when reading began, nanoseconds.
    """

    path: str
    sha256: str
    bytes: int
    modified: int
    changed: int
    inode: int
    read: int

    def as_json(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self)


def identify(path: str | Path) -> FileIdentity:
    """Read a file and say what it is.

    Raises:
        OSError: it cannot be read.
    """
    place, began = Path(path).absolute(), time.time_ns()
    with place.open("rb") as file:
        found = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileIdentity(
        str(place), digest, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, began
    )  # fmt: skip


def untouched(known: FileIdentity) -> bool:
    """Whether the file system says the same of a file as when it was read."""
    found = Path(known.path).stat()
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino) == (
        known.bytes,
        known.modified,
        known.changed,
        known.inode,
    )


def unchanged(known: FileIdentity) -> bool:
    """Whether a file still holds what it held: by what the file system says where that is enough, else by its bytes."""
    try:
        if untouched(known) and known.read - max(known.modified, known.changed) > SETTLED_NS:
            return True
        return Path(known.path).stat().st_size == known.bytes and identify(known.path).sha256 == known.sha256
    except OSError:
        return False


def code(probes: Iterable[str]) -> str:
    """Digest of the source that results of some probes come from: theirs, what they stand on, and the model zoo's."""
    own = [ROOT / "probes" / f"{name.replace('-', '_')}.py" for name in probes]
    shared = [*(ROOT / "probes" / "core").rglob("*.py"), *(ROOT / "model_zoo").rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted({*own, *shared}):
        if path.is_file():
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def program(probes: Iterable[str]) -> dict[str, str]:
    """`code` and `versions`, which have to be one on all machines of a run."""
    return {"code": code(probes)} | versions()
