"""``python -m probes show OUT.zarr``: what a result holds, with the numbers that one looks for first."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_zoo.command_line import printable
from probes.core import output
from probes.core.runs import manifest, reading

if TYPE_CHECKING:
    import xarray as xr

PIECE_BYTES = 64 * 2**20


def run(arguments: argparse.Namespace) -> int:
    """Print the summary."""
    try:
        lines = list(summary(arguments.result))
    except output.OutputError as error:
        print(f"python -m probes show: {printable(str(error))}", file=sys.stderr)
        return 2
    print("\n".join(map(printable, lines)))
    return 0


def summary(path: Path) -> Iterator[str]:
    """The lines of the summary.

    Raises:
        OutputError: there is no result of this program.
    """
    groups = dict(opened(path))
    document = manifest.read(path)
    if document is not None and not manifest.is_whole(document):
        raise output.OutputError(f"The {manifest.MANIFEST} of {path} is damaged; measure anew.")
    yield str(path)
    if document is not None:
        yield from _measured(document)
    for probe in dict.fromkeys(name.partition("/")[0] for name in groups):
        yield ""
        yield probe
        for name, dataset in groups.items():
            if name.partition("/")[0] == probe:
                yield from _numbers(name.partition("/")[2], dataset)


def opened(path: Path) -> "Iterator[tuple[str, xr.Dataset]]":
    """``PROBE/LABEL`` and dataset, read when its values are, of every group of a result.

    Raises:
        OutputError: there is no result of this program.
    """
    try:
        exists = path.exists()
    except OSError as error:
        raise output.OutputError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not exists:
        raise output.OutputError(f"{path} does not exist; give a result of `python -m probes run`.")
    if output.not_ours(path) is not None:
        raise output.OutputError(f"{path} is not a result of `python -m probes run`.")
    reading.check(path)
    for probe in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        for label in sorted(entry for entry in probe.iterdir() if entry.is_dir()):
            group = f"{probe.name}/{label.name}"
            yield group, dataset(path, group)


def dataset(path: Path, group: str) -> "xr.Dataset":
    """One group of a result that was checked, read when its values are; nothing of it stays in memory by itself.

    Raises:
        OutputError: it is damaged.
    """
    import xarray as xr

    try:
        return xr.open_dataset(
            path, engine="zarr", group=group, chunks=None, cache=False, consolidated=False, zarr_format=2
        )
    except Exception as error:  # whatever damage makes zarr and xarray raise
        raise output.OutputError(f"{group} of {path.name} is damaged ({type(error).__name__}); measure anew.") from None


def pieces(variable: "xr.DataArray") -> "Iterator[xr.DataArray]":
    """A variable in parts of a bounded size along its first dimension."""
    if not variable.ndim or not variable.size:
        yield variable
        return
    dim, size = variable.dims[0], variable.shape[0]
    step = max(1, PIECE_BYTES * size // max(variable.nbytes, 1))
    for start in range(0, size, step):
        yield variable.isel({dim: slice(start, start + step)})


def _measured(document: dict[str, Any]) -> Iterator[str]:
    skipped = [entry for entry in document["images"] if "skipped" in entry]
    count = len(document["images"]) - len(skipped)
    yield f"{count:,} images on {document['device']}, {document['finished']}, {document['seconds']:.1f} s"
    if document["resumed_after"]:
        yield f"  broken off and resumed after {document['resumed_after']:,}"
    for entry in skipped[:5]:
        yield f"  left out: {entry['name']}: {entry['skipped']}"
    if len(skipped) > 5:
        yield f"  and {len(skipped) - 5:,} more left out, named in {manifest.MANIFEST}"
    for label, model in document["models"].items():
        size = "×".join(map(str, model["input_size"]))
        digest = model["weights_sha256"][:12]
        yield f"{label}: {model['model']}, {size} px, {model['dtype']}, weights {digest}"


def _numbers(label: str, dataset: "xr.Dataset") -> Iterator[str]:
    if "undefined" in dataset.attrs:
        yield f"  {label}: not defined: {dataset.attrs['undefined']}"
        return
    count = dataset.sizes.get("image", dataset.attrs.get("n"))
    yield f"  {label}" + (f", n = {count:,}" if count is not None else "")
    for name, variable in dataset.data_vars.items():
        if variable.dtype.kind in "fiub" and not str(name).endswith("_sem"):
            yield f"    {name}: {_range(variable)}"


def _range(variable: "xr.DataArray") -> str:
    """Mean, least and largest value, with units and what the mean is over."""
    import numpy as np

    total, count, least, most = 0.0, 0, np.inf, -np.inf
    for piece in pieces(variable):
        values = piece.values.astype(np.float64)
        known = values[np.isfinite(values)]
        total, count = total + float(known.sum()), count + known.size
        if known.size:
            least, most = min(least, float(known.min())), max(most, float(known.max()))
    units = variable.attrs.get("units", "")
    if not count:
        return f"no value ({units})"
    if variable.ndim == 0:
        return f"{total:.4g} {units}"
    return f"{total / count:.4g} ({least:.4g} to {most:.4g}) {units}, over {', '.join(map(str, variable.dims))}"
