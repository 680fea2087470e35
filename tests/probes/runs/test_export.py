"""NetCDF of a result: what xarray would write, without ever holding a whole variable."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from xarray.core import indexing

from probes.core.runs import export, summary

IMAGES = 40


class Counted(xr.backends.BackendArray):
    """An array on a disk that notes how much of it is read at once."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.read: list[int] = []

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        found = self.values[key]
        self.read.append(found.nbytes)
        return found


def result() -> xr.Dataset:
    """A dataset with all kinds of what results hold."""
    random = np.random.default_rng(0)
    maps = random.random((IMAGES, 3, 5), np.float32)
    maps[3] = np.nan
    return xr.Dataset(
        {
            "attention": (("image", "y", "x"), maps, {"units": "fraction", "bfloat16_difference": np.float32(0.5)}),
            "top_class": (("image", "rank"), random.integers(0, 9, (IMAGES, 2)), {"kept": True}),
            "rank": (("rank",), np.arange(2, dtype=np.uint8)),
            "entropy": (("layer", "head"), random.random((2, 3)), {"units": "nat"}),
            "total": ((), 3.5),
            "finite": (("layer",), np.array([True, False])),
            "answer": (("image",), np.array([f"é{i}" for i in range(IMAGES)], dtype=object)),
        },
        coords={
            "image": np.arange(IMAGES),
            "image_name": ("image", [f"{i}.png" for i in range(IMAGES)]),
            "query_row": (("image", "layer"), random.integers(0, 14, (IMAGES, 2))),
            "fraction": ("fraction", np.linspace(0, 1, 4)),
            "alone": ("nowhere", ["a", "b"]),
            "layer_name": ("layer", ["blocks.0", "blocks.1"]),
        },
        attrs={
            "dtype": "float32",
            "n": IMAGES,
            "unreadable": ["b.png"],
            "parameters": '{"query": "cls"}',
            "whole": True,
        },
    )


def as_xarray_writes(dataset: xr.Dataset, path: Path) -> None:
    plain = dataset.assign_attrs({name: export._attribute(value) for name, value in dataset.attrs.items()})
    for variable in plain.variables.values():
        variable.attrs = {name: export._attribute(value) for name, value in variable.attrs.items()}
        variable.encoding = {}
    xr.DataTree().to_netcdf(path, engine="h5netcdf")
    plain.to_netcdf(path, group="maps/a", mode="a", engine="h5netcdf")


def described(path: Path) -> dict[str, Any]:
    """Every variable of a file as HDF5 has it: type, shape, chunks, fill value, values and attributes."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        own = {
            key: value
            for key, value in item.attrs.items()
            if not isinstance(value, np.ndarray) and key != "_Netcdf4Dimid"
        }
        found[name] = {key: repr(value) for key, value in own.items() if not isinstance(value, h5py.Empty)}
        if isinstance(item, h5py.Dataset):
            found[name] |= {"": repr((item.dtype, item.shape, item.chunks, item[()].tolist()))}
            scales = [dim.keys() for dim in item.dims]
            found[name] |= {"scales": repr(scales)}

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def test_netcdf_is_what_xarray_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "PIECE_BYTES", 700)
    ours, theirs = tmp_path / "ours.nc", tmp_path / "theirs.nc"
    export.to_netcdf({"maps/a": result(), "maps/b": xr.Dataset(attrs={"undefined": "no heads"})}, ours)
    as_xarray_writes(result(), theirs)
    found, expected = (xr.open_dataset(path, group="maps/a", engine="h5netcdf").load() for path in (ours, theirs))
    xr.testing.assert_identical(found, expected)
    for name, variable in expected.variables.items():
        assert found.variables[name].dtype == variable.dtype
        assert found.variables[name].encoding.keys() == variable.encoding.keys()
    written = described(ours)
    assert written.pop("maps/b")["undefined"] == "'no heads'"
    assert written == described(theirs)
    assert xr.open_datatree(ours, engine="h5netcdf")["maps/a"].to_dataset().identical(found)


def test_no_variable_is_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "PIECE_BYTES", 700)
    values = np.random.default_rng(0).random((IMAGES, 3, 5), np.float32)
    counted = Counted(values)
    lazy = xr.Variable(("image", "y", "x"), indexing.LazilyIndexedArray(counted))
    export.to_netcdf({"maps/a": xr.Dataset({"attention": lazy})}, tmp_path / "all.nc")
    assert sum(counted.read) == values.nbytes
    assert max(counted.read) <= 700
    found = xr.open_dataset(tmp_path / "all.nc", group="maps/a", engine="h5netcdf")
    np.testing.assert_array_equal(found.attention, values)
