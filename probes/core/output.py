"""Results on disk: a zarr tree, written whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr

PACKAGES = ("torch", "timm", "numpy", "xarray")


class OutputError(ValueError):
    """A place that cannot be written to; the message is one sentence for a person."""


def check(path: Path, *, replace: bool = False) -> None:
    """Find out before any work whether the result can be written.

    Raises:
        OutputError: the name does not end in .zarr, its folder is missing, or something else is there already.
    """
    if path.suffix != ".zarr":
        raise OutputError(f"--out is {path}; a result is a folder whose name ends in .zarr.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; create it or choose another place for --out.")
    if path.exists() and not replace and not is_result(path):
        raise OutputError(f"{path} exists and is not a result of this program; choose another name for --out.")


def is_result(path: Path) -> bool:
    """Whether a folder is a zarr tree, so that writing over it loses no stranger's data."""
    return path.is_dir() and (path / ".zgroup").is_file()


def write(path: Path, results: Mapping[str, Mapping[str, xr.Dataset]]) -> None:
    """Write ``results[probe][label]`` as groups ``probe/label``.

    The tree is built beside its place and moved there at the end, so that a break leaves nothing half-written. A
    result that was there before is replaced.
    """
    building = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    versions = {f"{name}_version": version(name) for name in PACKAGES}
    try:
        for probe, by_label in results.items():
            for label, dataset in by_label.items():
                stored = _at_least_float32(dataset)
                stored.attrs |= {"probe": probe, **versions}
                stored.to_zarr(building, group=f"{probe}/{label}", mode="a", zarr_format=2, consolidated=True)
        if path.exists():
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
            path.rename(old)
            building.rename(path)
            shutil.rmtree(old)
        else:
            building.rename(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {os.strerror(error.errno or 0)}.") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _at_least_float32(dataset: xr.Dataset) -> xr.Dataset:
    """Half precision becomes float32; text becomes fixed-width so that any reader of zarr can read it."""
    half = {n: v.astype(np.float32) for n, v in dataset.data_vars.items() if v.dtype in (np.float16,)}
    return dataset.assign(half).copy()
