"""How far a run is that has not written its result yet, seen from outside: its lock is not touched."""

import json
import re
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from probes.core.runs.folder import RUN, place_of

ABOUT, MOST_BYTES = "about.json.npy", 2**24
"""What a shard says of itself, as `stored.save` writes it, and how large that may be."""
SHARD = re.compile(r"(\d+)-(\d{6})\.npz")


@dataclass(frozen=True)
class UnderWay:
    """A run that goes on, or that was broken off: both look alike until it writes again.

    Attributes:
        images: how many are asked for.
        done: how many of them are kept on disk, in the turn that is under way.
        turn: which set of models is measured, from 1, where they do not fit into memory together.
        written: when the last of it was written.
    """

    images: int
    done: int
    turn: int
    written: datetime


def find(out: Path) -> UnderWay | None:
    """The run that will write ``out``; None where there is none, or nothing of it that can be read."""
    folder = place_of(out)
    if folder.is_symlink() or not folder.is_dir():
        return None
    try:
        document = folder / RUN
        if document.is_symlink():
            return None
        images = len(json.loads(document.read_bytes())["names"])
        shards = sorted(file for file in folder.iterdir() if SHARD.fullmatch(file.name) and not file.is_symlink())
        last = shards[-1] if shards else document
        turn = int(last.name.partition("-")[0]) + 1 if shards else 1
        written = datetime.fromtimestamp(last.stat().st_mtime, UTC)
        return UnderWay(images, min(_stop(last), images) if shards else 0, turn, written)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _stop(shard: Path) -> int:
    """How many images the shards up to this one are of, read as numbers and text alone; 0 where it cannot be read."""
    try:
        with zipfile.ZipFile(shard) as file:
            if file.getinfo(ABOUT).file_size > MOST_BYTES:
                return 0
            with file.open(ABOUT) as entry:
                about = json.loads(np.lib.format.read_array(entry, allow_pickle=False).tobytes())
        return int(dict(about["dict"])["shard"]["fields"]["stop"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile):
        return 0
