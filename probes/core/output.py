"""Results on disk: a zarr tree, written whole or not at all."""

import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # they take seconds to import, and `check` needs none of them
    import xarray as xr

PACKAGES = ("torch", "timm", "numpy", "xarray")
GROUP_FILES = {".zgroup", ".zattrs", ".zmetadata"}
MANIFEST = "manifest.json"
CHUNK_BYTES = 8 * 2**20
ARRAY_FILE = re.compile(r"\.zarray|\.zattrs|\d+(\.\d+)*")


class OutputError(ValueError):
    """A place that cannot be written to; the message is one sentence for a person."""


@dataclass(frozen=True)
class Pieces:
    """A result by image that is read from disk a piece at a time, images in order.

    Attributes:
        read: gives the pieces, the same whenever it is called; all have the same variables.
        count: images in all of them.
        attrs: attributes of the whole.
        change: what is done to every piece.
    """

    read: "Callable[[], Iterator[xr.Dataset]]"
    count: int
    attrs: Mapping[str, Any]
    change: "Callable[[xr.Dataset], xr.Dataset]" = lambda dataset: dataset

    def __iter__(self) -> "Iterator[xr.Dataset]":
        return map(self.change, self.read())

    def map(self, change: "Callable[[xr.Dataset], xr.Dataset]") -> "Pieces":
        """The same, each piece changed once more."""
        import xarray as xr

        before = self.change
        attrs = change(xr.Dataset(attrs=dict(self.attrs))).attrs
        return replace(self, attrs=attrs, change=lambda dataset: change(before(dataset)))


def check(path: Path) -> None:
    """Find out before any work whether the result can be written.

    Raises:
        OutputError: the name does not end in .zarr, its folder is missing, it is a symbolic link, or something is
            there already that is not wholly a result of this program.
    """
    try:
        _check(path)
    except OSError as error:  # a name that is too long, a folder that may not be seen
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from None


def _check(path: Path) -> None:
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
            strange = sorted({*files} - GROUP_FILES - ({MANIFEST} if depth == 0 else set()))
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


def stored_in(path: Path) -> dict[str, int]:
    """Chunks of every array of a result, told in its manifest, so that one that is lost is missed."""
    arrays = sorted(about.parent for about in path.rglob(".zarray"))
    return {
        array.relative_to(path).as_posix(): sum(not name.startswith(".") for name in os.listdir(array))  # noqa: PTH208
        for array in arrays
    }


def lost(path: Path, manifest: Mapping[str, Any], *, arrays: bool = False) -> str | None:
    """Say in one sentence that chunks are missing of a result; None where none are, or its manifest does not tell.

    Args:
        path: the result.
        manifest: as anyone may have written it.
        arrays: whether arrays that are not there at all are missed, too.
    """
    told = manifest.get("stored")
    if not isinstance(told, dict):
        return None
    found = stored_in(path)
    fewer = [name for name, count in found.items() if isinstance(had := told.get(name), int) and count < had]
    missing = fewer + (sorted(told.keys() - found.keys()) if arrays else [])
    return f"{path.name} lost a part of {missing[0][:200]}: copy it again, or measure anew." if missing else None


def write(
    path: Path,
    results: "Mapping[str, Mapping[str, xr.Dataset | Pieces]]",
    manifest: Mapping[str, Any] | None = None,
) -> None:
    """Write ``results[probe][label]`` as groups ``probe/label``.

    The tree is built beside its place and moved there at the end, when all of it is on the disk, so that a break leaves
    nothing half-written. A result that was there before is replaced. What a writer that was killed left beside the
    place is removed.

    Raises:
        OutputError: as `check`, which is asked again, or the disk refuses.
    """
    import xarray as xr
    import zarr

    versions = {f"{name}_version": version(name) for name in PACKAGES}
    groups = {
        f"{probe}/{label}": (probe, result) for probe, found in results.items() for label, result in found.items()
    }

    def stored(probe: str, dataset: xr.Dataset) -> xr.Dataset:
        return _at_least_float32(dataset).assign_attrs(probe=probe, **versions)

    try:
        _sweep(path)
        with _beside(path) as building:
            whole = {g: stored(probe, r) for g, (probe, r) in groups.items() if isinstance(r, xr.Dataset)}
            xr.DataTree.from_dict(whole).to_zarr(building, mode="a", zarr_format=2, consolidated=False)
            for group, (probe, result) in groups.items():
                if isinstance(result, Pieces):
                    _append(building, group, (stored(probe, piece) for piece in result))
            zarr.consolidate_metadata(str(building), zarr_format=2)
            for group in groups:  # each group is opened by itself
                zarr.consolidate_metadata(str(building), path=group, zarr_format=2)
            if manifest is not None:
                document = {**manifest, "stored": stored_in(building)}
                (building / MANIFEST).write_text(json.dumps(document, indent=1), encoding="utf-8")
            _to_disk(building)
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


def _append(building: Path, group: str, pieces: "Iterator[xr.Dataset]") -> None:
    """Write a result piece by piece, in chunks of images of a few MiB."""
    import zarr

    for number, piece in enumerate(pieces):
        if number:
            piece.to_zarr(building, group=group, append_dim="image", zarr_format=2, consolidated=False)
            continue
        chunks = {
            name: {"chunks": (_chunk(variable), *variable.shape[1:])}
            for name, variable in piece.variables.items()
            if variable.dims[:1] == ("image",) and 0 not in variable.shape
        }
        zarr.open_group(str(building / group.partition("/")[0]), mode="a", zarr_format=2)
        piece.to_zarr(building, group=group, mode="a", zarr_format=2, consolidated=False, encoding=chunks)


def _chunk(variable: "xr.Variable") -> int:
    """Images of a chunk: a power of two, so that shards begin where chunks do."""
    most = min(variable.shape[0], max(1, CHUNK_BYTES * variable.shape[0] // max(variable.nbytes, 1)))
    return 1 << most.bit_length() - 1


def _to_disk(folder: Path) -> None:
    """Wait until every file of a folder is on the disk."""
    for place, _, files in os.walk(folder):
        for name in [*files, "."]:
            descriptor = os.open(Path(place) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


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


def _at_least_float32(dataset: "xr.Dataset") -> "xr.Dataset":
    """Half precision becomes float32."""
    import numpy as np

    return dataset.assign({n: v.astype(np.float32) for n, v in dataset.data_vars.items() if v.dtype == np.float16})
