"""``python -m probes export OUT.zarr``: CSV for a spreadsheet, NetCDF for other programs."""

import argparse
import csv
import itertools
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from model_zoo.command_line import printable
from probes.core import output
from probes.core.runs.summary import opened, pieces

if TYPE_CHECKING:
    import xarray as xr

OF_PATCHES = frozenset({"y", "x"})
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a cell begins with that a spreadsheet may run as a formula."""


def run(arguments: argparse.Namespace) -> int:
    """Write the file or folder."""
    target: Path = arguments.csv or arguments.netcdf
    try:
        groups = dict(opened(arguments.result))
        _check(target, folder=arguments.csv is not None and target.suffix.lower() != ".csv")
        if arguments.netcdf is not None:
            to_netcdf(groups, target)
        elif target.suffix.lower() == ".csv":
            left_out = to_table(groups, target)
            if left_out:
                print(f"Left out, for they are maps: {', '.join(left_out)}; give --csv a folder.", file=sys.stderr)
        else:
            to_folder(groups, target)
    except (output.OutputError, OSError) as error:
        said = str(error) if isinstance(error, output.OutputError) else f"{target} cannot be written: {error.strerror}."
        print(f"python -m probes export: {printable(said)}", file=sys.stderr)
        return 2
    print(f"{target}", file=sys.stderr)
    return 0


def _check(target: Path, folder: bool) -> None:
    if not target.absolute().parent.is_dir():
        raise output.OutputError(f"The folder {target.parent} does not exist; create it or choose another place.")
    if folder and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise output.OutputError(f"{target} exists and is no empty folder; choose another name.")
    if not folder and target.is_dir():
        raise output.OutputError(f"{target} is a folder; give the name of a file.")


def to_table(groups: "Mapping[str, xr.Dataset]", target: Path) -> list[str]:
    """One table of all that is not by patch: probe, model, variable, units, a column a dimension, and the value.

    Returns:
        the variables that are left out.
    """
    chosen, left_out = [], []
    for group, dataset in groups.items():
        for name, variable in dataset.data_vars.items():
            if OF_PATCHES & {*map(str, variable.dims)}:
                left_out.append(f"{group}/{name}")
            else:
                chosen.append((group, str(name), variable))
    columns = list(dict.fromkeys(str(dim) for _, _, variable in chosen for dim in _labels(variable)))
    with _beside(target) as building, building.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["probe", "model", "variable", "units", *columns, "value"])
        table.writerow({name: cell(name) for name in table.fieldnames})
        for group, name, variable in chosen:
            probe, _, label = group.partition("/")
            same = {"probe": probe, "model": label, "variable": name, "units": variable.attrs.get("units", "")}
            safe = {kind: cell(text) for kind, text in same.items()}
            table.writerows(safe | row for row in _rows(variable))
    return left_out


def to_folder(groups: "Mapping[str, xr.Dataset]", target: Path) -> None:
    """A table for every variable: ``PROBE/MODEL/VARIABLE.csv``."""
    with _beside(target) as building:
        for group, dataset in groups.items():
            folder = building / group
            folder.mkdir(parents=True)
            for name, variable in dataset.data_vars.items():
                with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                    _table(file, variable)


def _table(file: TextIO, variable: "xr.DataArray") -> None:
    table = csv.DictWriter(file, [*_labels(variable), "value"])
    table.writerow({name: cell(name) for name in table.fieldnames})
    table.writerows(_rows(variable))


def _labels(variable: "xr.DataArray") -> dict[str, Any]:
    """Coordinates that name a row: those along one of the dimensions, and the dimensions that have none."""
    along = {str(name): c for name, c in variable.coords.items() if len(c.dims) == 1}
    return {str(dim): along.get(str(dim)) for dim in variable.dims} | along


def _rows(variable: "xr.DataArray") -> Iterator[dict[str, Any]]:
    done = 0
    for piece in pieces(variable):
        places = [range(size) for size in piece.shape]
        if places:  # where there is no coordinate, places are counted over the pieces
            places[0] = range(done, done + piece.shape[0])
            done = places[0].stop
        columns = []
        for name, coordinate in _labels(piece).items():
            axis = piece.dims.index(name if coordinate is None else coordinate.dims[0])
            columns.append((name, axis, list(places[axis]) if coordinate is None else coordinate.values.tolist()))
        values = piece.values
        for place in itertools.product(*map(range, piece.shape)):
            yield {name: cell(known[place[axis]]) for name, axis, known in columns} | {"value": values[place]}


def to_netcdf(groups: "Mapping[str, xr.Dataset]", target: Path) -> None:
    """The tree as NetCDF 4, a group for each probe and model; numbers are read and written in pieces."""
    import h5netcdf
    import h5py  # noqa: F401 (what that writes with)
    import xarray as xr

    with _beside(target) as building:
        xr.DataTree().to_netcdf(building, engine="h5netcdf")
        for group, dataset in groups.items():
            flat = _flat(dataset)
            numbers = [name for name, one in flat.data_vars.items() if one.ndim and one.dtype.kind in "fiu"]
            flat.drop_vars(numbers).to_netcdf(building, group=group, mode="a", engine="h5netcdf")
            with h5netcdf.File(building, "a") as file:
                for name in numbers:
                    _numbers(file[group], str(name), flat[name])


def _flat(dataset: "xr.Dataset") -> "xr.Dataset":
    """The dataset as NetCDF has it: coordinates are variables that an attribute of others names. Nothing is read."""
    import xarray as xr

    plain = dataset.assign_attrs({name: _attribute(value) for name, value in dataset.attrs.items()})
    for variable in plain.variables.values():
        variable.attrs = {name: _attribute(value) for name, value in variable.attrs.items()}
        variable.encoding = {}
    variables, attributes = xr.conventions.encode_dataset_coordinates(plain)
    return xr.Dataset(variables, attrs=attributes)


def _numbers(group: Any, name: str, variable: "xr.DataArray") -> None:
    """Write a variable piece by piece, as xarray writes it whole."""
    for dim, size in variable.sizes.items():
        if dim not in group.dimensions:
            group.dimensions[dim] = size
    missing = variable.dtype.type("nan") if variable.dtype.kind == "f" else None
    stored = group.create_variable(name, variable.dims, variable.dtype, fillvalue=missing)
    for key, value in variable.attrs.items():
        stored.attrs[key] = value
    done = 0
    for piece in pieces(variable):
        stored[done : done + len(piece)] = piece.values
        done += len(piece)


def _attribute(value: Any) -> Any:
    """An attribute that NetCDF knows: numbers, text, or JSON of the rest."""
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, (int, float, str)) else json.dumps(value, default=str)


def cell(value: Any) -> Any:
    """What is written into a table: a text that a spreadsheet may run as a formula gets an apostrophe before it."""
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A place beside the target, moved there when it is whole."""
    building = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield building
        if building.is_dir() and target.is_dir():
            target.rmdir()
        os.replace(building, target)  # noqa: PTH105
    finally:
        if building.is_dir():
            shutil.rmtree(building)
        else:
            building.unlink(missing_ok=True)
