"""The folder beside OUT in which a run keeps its shards until OUT is whole: locked, and written to atomically."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from probes.core.output import OutputError

RUN = "run.json"
PROCESS = "process"


class RunFolder:
    """Where a run keeps what it has; exists while the run does, and after one that was broken off.

    Attributes:
        out: the result's place.
        path: the folder, ``.NAME.run`` beside it.
        descriptor: of the folder, which holds the lock.
    """

    def __init__(self, out: Path, descriptor: int) -> None:
        self.out, self.path, self.descriptor = out, place_of(out), descriptor

    def write(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Write a file whole or not at all: under another name, to the disk, then renamed.

        Raises:
            OutputError: the disk refuses.
        """
        temporary, here = f".{name}.part", self.descriptor  # not by its path, which may be another run's by now
        try:
            try:
                with open(temporary, "wb", opener=partial(os.open, mode=0o666, dir_fd=here)) as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, name, src_dir_fd=here, dst_dir_fd=here)
                os.fsync(here)
            except OSError:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=here)
                raise
        except OSError as error:
            raise OutputError(
                f"{self.out} cannot be written: {error.strerror or error}; what was measured so far is kept, "
                "and --resume goes on from there."
            ) from None

    def write_json(self, name: str, document: Any) -> None:
        """Write a JSON document."""
        self.write(name, lambda file: _json(file, document))

    def read_json(self, name: str) -> Any:
        """A JSON document; None where there is none that can be read."""
        try:
            return json.loads((self.path / name).read_bytes())
        except (OSError, ValueError):
            return None

    def empty(self) -> None:
        """Remove what another run left."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != PROCESS:
                entry.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder with all that is in it, unless somebody did and another run has that place now."""
        if _is_at(self.descriptor, self.path):
            shutil.rmtree(self.path, ignore_errors=True)


def place_of(out: Path) -> Path:
    """The folder of a run that writes ``out``."""
    return out.with_name(f".{out.name}.run")


@contextmanager
def claimed(out: Path) -> Iterator[RunFolder]:
    """The folder of a run, made if it is not there, and locked: a second run on the same OUT is refused.

    The lock is the operating system's and ends with the process, however that ends.

    Raises:
        OutputError: another process has it, or the place cannot be written to.
    """
    path = place_of(out)
    try:
        descriptor = _locked(path)
    except BlockingIOError:
        raise OutputError(
            f"{out} is being written by another run{_process(path)}; wait for it, or choose another name for --out."
        ) from None
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}.") from None
    folder = RunFolder(out, descriptor)
    try:
        folder.write(PROCESS, lambda file: _json(file, os.getpid()))
        yield folder
    finally:
        if {entry.name for entry in os.scandir(descriptor)} <= {PROCESS, RUN}:
            folder.remove()
        os.close(descriptor)


def _locked(path: Path) -> int:
    """Make and lock a folder, as often as another run removes it in between."""
    while True:
        path.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open folder is still the one at a path."""
    with suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _process(path: Path) -> str:
    try:
        return f" (process {int((path / PROCESS).read_text())})"
    except (OSError, ValueError):
        return ""


def _json(file: BinaryIO, document: Any) -> None:
    file.write(json.dumps(document, indent=1).encode())
