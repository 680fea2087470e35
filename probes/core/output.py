"""Results on disk: a zarr tree, written whole or not at all."""

import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

PACKAGES = ("torch", "timm", "numpy", "xarray")
GROUP_FILES = {".zgroup", ".zattrs", ".zmetadata"}
ARRAY_FILE = re.compile(r"\.zarray|\.zattrs|\d+(\.\d+)*")


class OutputError(ValueError):
    """A place that cannot be written to; the message is one sentence for a person."""


def check(path: Path) -> None:
    """Find out before any work whether the result can be written.

    Raises:
        OutputError: the name does not end in .zarr, its folder is missing, it is a symbolic link, or something is
            there already that is not wholly a result of this program.
    """
    if path.suffix != ".zarr":
        raise OutputError(f"--out is {path}; a result is a folder whose name ends in .zarr.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; create it or choose another place for --out.")
    if path.is_symlink():
        raise OutputError(f"{path} is a symbolic link to {path.readlink()}; give that place itself as --out.")
    if path.exists() and (strange := not_ours(path)) is not None:
        what = f"holds {strange.relative_to(path)}, which is" if strange != path else "exists and is"
        raise OutputError(f"{path} {what} not a result of this program; choose another name for --out.")


def not_ours(path: Path) -> Path | None:
    """The first thing in a folder, or the folder itself, that `write` did not make; None where it made everything.

    A result is made of groups ``probe/label`` that say so in their attributes, of their arrays, and of nothing else.
    """
    if not path.is_dir():
        return path
    results = 0
    for place, folders, files in os.walk(path):
        folder = Path(place)
        depth = len(folder.relative_to(path).parts)
        links = [name for name in folders if (folder / name).is_symlink()]
        if depth < 3:
            strange = sorted({*files} - GROUP_FILES)
        else:
            strange = [*folders, *(name for name in files if not ARRAY_FILE.fullmatch(name))]
        if links or strange:
            return folder / (links or strange)[0]
        if depth == 2:
            if not _is_labelled(folder):
                return folder
            results += 1
        elif (".zgroup" if depth < 2 else ".zarray") not in files:
            return folder
    return None if results else path


def _is_labelled(group: Path) -> bool:
    try:
        attributes = json.loads((group / ".zattrs").read_bytes())
    except (OSError, ValueError):
        return False
    expected = {"probe", *(f"{name}_version" for name in PACKAGES)}
    return isinstance(attributes, dict) and expected <= attributes.keys() and attributes["probe"] == group.parent.name


def write(path: Path, results: Mapping[str, Mapping[str, xr.Dataset]]) -> None:
    """Write ``results[probe][label]`` as groups ``probe/label``.

    The tree is built beside its place and moved there at the end, so that a break leaves nothing half-written. A
    result that was there before is replaced. What a writer that was killed left beside the place is removed.

    Raises:
        OutputError: as `check`, which is asked again, or the disk refuses.
    """
    versions = {f"{name}_version": version(name) for name in PACKAGES}
    stored = {
        f"{probe}/{label}": _at_least_float32(dataset).assign_attrs(probe=probe, **versions)
        for probe, by_label in results.items()
        for label, dataset in by_label.items()
    }
    try:
        _sweep(path)
        with _beside(path) as building:
            xr.DataTree.from_dict(stored).to_zarr(building, mode="a", zarr_format=2, consolidated=True)
            for group in stored:  # each group is opened by itself
                zarr.consolidate_metadata(str(building), path=group, zarr_format=2)
            check(path)
            if path.exists():
                old = _temporary(path)
                path.rename(old)
                building.rename(path)
                shutil.rmtree(old)
            else:
                building.rename(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new folder beside a path, locked while its writer lives, gone afterwards unless it was moved."""
    building = _temporary(path)
    building.mkdir()
    held = os.open(building, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield building
    finally:
        os.close(held)
        shutil.rmtree(building, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove the folders beside a path that no living writer holds."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}")
    for folder in path.parent.iterdir():
        if not name.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        held = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # another run is writing it
        finally:
            os.close(held)


def _at_least_float32(dataset: xr.Dataset) -> xr.Dataset:
    """Half precision becomes float32."""
    return dataset.assign({n: v.astype(np.float32) for n, v in dataset.data_vars.items() if v.dtype == np.float16})
