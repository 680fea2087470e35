"""Weights from the hub: fetched once through huggingface_hub, with progress, and given up after seconds of silence."""

import hashlib
import queue
import re
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging

from model_zoo.reference import ModelError

Progress = Callable[[str, int, int | None], None]

SILENCE = 8.0  # seconds without a byte until the hub counts as out of reach
POLL = 0.2  # seconds between two looks at a transfer
PIECE = 2**16  # bytes between two counts; what a break loses at most
FILES = ("model.safetensors", "pytorch_model.bin")
SHA256 = re.compile(r"[0-9a-f]{64}")
WAY_ON = "use a shipped model, a downloaded file (timm:NAME@FILE) or random weights (timm:NAME@random:0)"

# huggingface_hub remarks on a full disk and goes on; here that is an error.
warnings.filterwarnings("ignore", message="Not enough free disk space", category=UserWarning)

_verified: dict[Path, tuple[int, int]] = {}  # size and time of the files that were compared


def fetch(repository: str, filename: str | None = None, on_progress: Progress | None = None) -> Path:
    """The file with the weights of a hub repository, from the cache where it is there, else downloaded.

    A broken connection is taken up again where it broke. ``on_progress("download", bytes, total)`` is called in the
    caller's thread several times a second; what it raises ends the transfer and reaches the caller.

    Args:
        repository: ``owner/name`` on the hub.
        filename: File of the repository; None looks for the usual names.
        on_progress: Told how far the transfer is.

    Raises:
        ModelError: The hub is out of reach, refuses, or holds no such weights, the disk has no room for them, or the
            file is not what the hub has.
    """
    path = _fetch(repository, filename, on_progress)
    _verify(path, repository)
    return path


def places(path: Path) -> str:
    """What to delete so that a file of the cache is downloaded again: the link to it and what it leads to."""
    blob = path.resolve()
    return str(path) if blob == path else f"{path} and {blob}"


def _verify(path: Path, repository: str) -> None:
    """Compare a file with its SHA-256, which the hub gives as ETag and the cache as name of what the link leads to.

    Done once for each size and time of a file. One without such a name (where links cannot be made) is passed over.

    Raises:
        ModelError: The file is not what the hub has.
    """
    blob = path.resolve()
    if not SHA256.fullmatch(blob.name):
        return
    state = blob.stat()
    seen = state.st_size, state.st_mtime_ns
    if _verified.get(blob) == seen:
        return
    with blob.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != blob.name:
        raise ModelError(
            f"The downloaded weights of {repository} are damaged (SHA-256 {digest[:8]}... instead of "
            f"{blob.name[:8]}...): delete {places(path)}."
        )
    _verified[blob] = seen


def _fetch(repository: str, filename: str | None, on_progress: Progress | None) -> Path:
    names = (filename,) if filename else FILES
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, local_files_only=True))
        except LocalEntryNotFoundError:
            continue
    hub_logging.set_verbosity_error()
    constants.DOWNLOAD_CHUNK_SIZE = PIECE  # its own 10 MB would be silence on a slow line, and lost with each break
    for name in names:
        try:
            return _Transfer(repository, name).watch(on_progress)
        except EntryNotFoundError:
            continue
    raise ModelError(f"The hub's {repository} holds none of {', '.join(names)}: choose another model.")


class _Transfer:
    """One download in a thread of its own, so that a silent network cannot hold the caller."""

    def __init__(self, repository: str, filename: str) -> None:
        self.repository = repository
        self.filename = filename
        self.done = 0
        self.total: int | None = None
        self.abandoned = False
        self.outcome: queue.Queue[str | Exception] = queue.Queue()

    def run(self) -> None:
        try:
            # huggingface_hub's own bar is replaced by one that counts here and ends an abandoned transfer.
            path = hf_hub_download(self.repository, self.filename, etag_timeout=3, tqdm_class=self._bar())
            self.outcome.put(path)
        except Exception as error:
            self.outcome.put(error)

    def watch(self, on_progress: Progress | None) -> Path:
        threading.Thread(target=self.run, name=f"fetch {self.repository}", daemon=True).start()
        silent, seen = 0.0, -1
        try:
            while True:
                try:
                    outcome = self.outcome.get(timeout=POLL)
                    break
                except queue.Empty:
                    silent = silent + POLL if self.done == seen else 0.0
                    seen = self.done
                if on_progress:
                    on_progress("download", self.done, self.total)
                if silent >= SILENCE:
                    raise _unreachable(self.repository)
        finally:
            self.abandoned = True
        if isinstance(outcome, Exception):
            raise self._explained(outcome) from outcome
        return Path(outcome)

    def _explained(self, error: BaseException) -> BaseException:
        """What to raise for huggingface_hub's error; a file that is not there stays as it is."""
        if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
            error = error.__cause__
        if isinstance(error, LocalEntryNotFoundError):
            return _unreachable(self.repository)
        if isinstance(error, (EntryNotFoundError, ModelError)):
            return error
        if isinstance(error, GatedRepoError):
            return ModelError(
                f"The hub gives {self.repository} only to those who accepted its licence: accept it on its page and "
                f"log in with `hf auth login`, or {WAY_ON}."
            )
        if isinstance(error, RepositoryNotFoundError):
            return ModelError(f"The hub has no {self.repository}: choose another model.")
        if isinstance(error, HfHubHTTPError):
            return ModelError(
                f"The hub refused {self.repository} ({error.response.status_code}): try later or {WAY_ON}."
            )
        if isinstance(error, OSError) and error.errno is not None:
            return ModelError(f"The weights of {self.repository} could not be stored ({error.strerror}): make room.")
        return _unreachable(self.repository)

    def _bar(transfer) -> type:  # noqa: N805 (the class below needs `self` for itself)
        class Bar:
            def __init__(self, *, total: int | None = None, initial: int = 0, **_: Any) -> None:
                transfer.total = total
                transfer.done = initial
                _make_sure_of_room(transfer.repository, (total or 0) - initial)

            def update(self, n: int = 1) -> None:
                if transfer.abandoned:
                    raise InterruptedError
                transfer.done += n

            def close(self) -> None:
                pass

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                self.close()

        return Bar


def _make_sure_of_room(repository: str, size: int) -> None:
    """Refuse what the disk of the cache has no room for, before a byte of it is fetched.

    Raises:
        ModelError: there are fewer bytes free.
    """
    free = shutil.disk_usage(constants.HF_HUB_CACHE).free
    if size > free:
        raise ModelError(
            f"The weights of {repository} are {size / 1e6:,.1f} MB, and the disk of {constants.HF_HUB_CACHE} has "
            f"{free / 1e6:,.1f} MB free: make room."
        )


def _unreachable(repository: str) -> ModelError:
    return ModelError(f"The weights of {repository} could not be fetched, the hub does not answer: {WAY_ON}.")
