"""What is checked before a result that anyone may have made is opened: nothing runs, and nothing outside is read."""

import json
import re
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from probes.core.output import OutputError, lost
from probes.core.runs import manifest

PLAIN = re.compile(r"[<>|](b1|[iu][1248]|f[248]|[US][1-9][0-9]{0,4})")
"""Types of arrays: numbers, yes or no, and text of a fixed length. An array of objects could hold a pickle."""
MOST_CHUNK_BYTES = 2**30
MOST_METADATA_BYTES = 2**22
BLOSC_HEADER = 16


def check(path: Path) -> None:
    """Refuse what this program does not write: links, objects, filters, other compressors, chunks that unfold too far.

    And what is not whole: an array has the chunks that the manifest tells of.

    Args:
        path: a tree whose names `output.not_ours` has found to be those of a result.

    Raises:
        OutputError: there is such a thing; the message names it.
    """
    for file in sorted(path.rglob("*")):
        here = file.relative_to(path)
        if file.is_symlink() or not (file.is_dir() or file.is_file()):
            raise OutputError(f"{here} is a link or no plain file, so the result was not opened.")
        if file.name.startswith(".z") and file.stat().st_size > MOST_METADATA_BYTES:
            raise OutputError(f"{here} is larger than any that this program writes, so the result was not opened.")
        if file.name == ".zarray":
            _check_array(file.parent, _read(file), str(here.parent))
    document = manifest.read(path)
    if document is not None and (said := lost(path, document)) is not None:
        raise OutputError(said)


def _check_array(folder: Path, about: Any, name: str) -> None:
    if (why := _strange(about)) is not None:
        raise OutputError(f"{name} {why}, so the result was not opened.")
    for chunk in _chunks(folder):
        with chunk.open("rb") as file:
            head = file.read(BLOSC_HEADER)
        unfolded = struct.unpack("<I", head[4:8])[0] if len(head) == BLOSC_HEADER else 0
        size = unfolded if about["compressor"] else chunk.stat().st_size
        if size != _bytes(about):
            raise OutputError(f"{name}/{chunk.name} is damaged, so the result was not opened.")


def _strange(about: Any) -> str | None:
    """Why an array is none that this program writes; None where it may be one."""
    if not isinstance(about, dict) or about.get("zarr_format") != 2:
        return "is not described as an array of zarr 2"
    if not isinstance(about.get("dtype"), str) or not PLAIN.fullmatch(about["dtype"]):
        return "holds something else than numbers and text"
    compressor = about.get("compressor")
    if about.get("filters") or (compressor is not None and _of(compressor, "id") != "blosc"):
        return "is packed with a filter that this program does not use"
    shape: Any = about.get("shape")
    chunks: Any = about.get("chunks")
    if not all(isinstance(sizes, list) and all(type(n) is int and n >= 0 for n in sizes) for sizes in (shape, chunks)):
        return "has no shape"
    if len(shape) != len(chunks) or not all(chunks) or _bytes(about) > MOST_CHUNK_BYTES:
        return "has chunks that this program would not write"
    return None


def _bytes(about: dict[str, Any]) -> int:
    """Bytes of a whole chunk."""
    kind, count = re.fullmatch(r".([a-zA-Z])(\d+)", about["dtype"]).groups()  # type: ignore[union-attr]
    return int(prod(about["chunks"])) * int(count) * (4 if kind == "U" else 1)


def _chunks(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if not file.name.startswith("."))


def _of(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
