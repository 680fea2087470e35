"""Rows of long results on disk as they come, so that who stops one, or the server, goes on where it stood."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

FOLDER = "PROBES_CACHE"
"""The environment variable that names the folder; where it is empty, nothing is kept beyond the process."""
MOST = 256
"""Results that are kept; the one that was not used for longest goes first."""
MOST_BYTES = 2**20
"""A larger file is not one of ours."""


def folder() -> Path | None:
    """Where rows are kept: ``PROBES_CACHE``, or a folder of the user's own cache; None for nowhere."""
    named = os.environ.get(FOLDER)
    if named is not None:
        return Path(named) / "rows" if named else None
    own = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) / "vision-transformer-probes" / "rows"


class KeptRows:
    """The rows of one result that are there, in order from the first.

    Every row that is added is on disk before the next one is computed. A folder that cannot be read or written, or a
    file that is damaged, costs only what would have been found in it.

    Args:
        key: names the result by everything that it depends on.
        count: rows of the whole result.
        length: numbers of a row.
    """

    def __init__(self, key: str, count: int, length: int) -> None:
        self.count = count
        place = folder()
        self._path = place / f"{hashlib.sha256(key.encode()).hexdigest()}.npy" if place else None
        self.rows = list(self._read(length))

    def add(self, row: np.ndarray) -> None:
        """Keep the next row."""
        self.rows.append(row)
        if self._path is not None:
            with suppress(OSError):
                self._write(self._path)

    def whole(self) -> np.ndarray:
        """All of them: (count, length).

        Raises:
            ValueError: some are missing.
        """
        if len(self.rows) != self.count:
            raise ValueError(f"{len(self.rows)} of {self.count} rows are there.")
        return np.stack(self.rows)

    def _read(self, length: int) -> np.ndarray:
        nothing = np.zeros((0, length))
        try:
            if self._path is None or self._path.stat().st_size > MOST_BYTES:
                return nothing
            found = np.load(self._path, allow_pickle=False)
            self._path.touch()
        except (OSError, ValueError, EOFError):
            return nothing
        fits = found.dtype == np.float64 and found.ndim == 2 and found.shape[1] == length and len(found) <= self.count
        return found if fits else nothing

    def _write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            self._make_room(path.parent)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".unfinished")
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, np.stack(self.rows), allow_pickle=False)
            Path(unfinished).replace(path)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise

    def _make_room(self, place: Path) -> None:
        old = sorted((*place.glob("*.npy"), *place.glob("*.unfinished")), key=lambda file: file.stat().st_mtime)
        for file in old[: max(len(old) - MOST + 1, 0)]:
            file.unlink(missing_ok=True)
