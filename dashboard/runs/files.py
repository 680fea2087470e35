"""What is drawn of stored results as files: the chart as SVG, the numbers as a table, the probe as NetCDF. Pure."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.draw import chart_files, export, frame, matrices
from dashboard.draw.matrices import Square
from dashboard.draw.panels import Scale
from dashboard.runs.drawing import Drawing, Source
from dashboard.runs.figures import plain
from dashboard.runs.quantities import MOST_CELLS
from dashboard.runs.run import Run
from probes.core.runs.export import to_netcdf

MOST_NETCDF_BYTES = 256 * 2**20
GREY = "#8a8f98"


def caption(runs: tuple[Run, ...], said: str) -> str:
    """What stands under a saved chart: of what it is, the runs, and each model with the digest of its weights."""
    parts = [said] if said else []
    for run in runs:
        known = ", ".join(
            f"{plain(label)} = {plain(one.source)} (weights {plain(one.weights, 12).rstrip('…')})"
            for label, one in run.facts.models.items()
        )
        parts.append(f"Run {plain(run.name)}: {known}" if known else f"Run {plain(run.name)}")
    return ". ".join(parts) + "."


def svg(drawing: Drawing, runs: tuple[Run, ...], colours: Mapping[str, str]) -> str:
    """A chart as a picture for a slide."""
    told = caption(runs, drawing.said)
    pictures = {
        name: figure
        for name, figure in drawing.figures.items()
        if figure.data and figure.data[0].type in ("heatmap", "image")
    }
    if pictures:
        squares = [_square(name, figure, colours.get(name, GREY)) for name, figure in pictures.items()]
        return matrices.svg(squares, scale=drawing.scale, title=drawing.title, caption=told)
    charts = list(drawing.figures.values())
    parts = [
        chart_files.svg(figure, drawing.title if not number else "", told if number == len(charts) - 1 else "")
        for number, figure in enumerate(charts)
    ]
    return export.stacked(parts) if len(parts) > 1 else parts[0]


def _square(name: str, figure: go.Figure, colour: str) -> Square:
    trace, layout = figure.data[0], figure.layout
    if trace.type == "image":
        return Square(name, colour, "", np.asarray(trace.z, np.uint8), photo=True)
    values = np.asarray(trace.z, float)
    upward = layout.yaxis.autorange != "reversed" and not (
        layout.yaxis.range and layout.yaxis.range[0] > layout.yaxis.range[1]
    )
    scale = Scale(float(trace.zmin), float(trace.zmax), "", signed=trace.zmin < 0)
    rows, columns = values.shape
    across = [((k + 0.5) / columns, str(k + 1)) for k in range(0, columns, max(columns // 8, 1))]
    down = [((k + 0.5) / rows, str(k + 1)) for k in range(0, rows, max(rows // 8, 1))]
    pixels = matrices.painted(values[::-1] if upward else values, scale, gaps=True)
    ticks = [(1 - at, text) for at, text in down] if upward else down
    numbered = max(values.shape) <= 64
    return Square(
        name, colour, "", pixels, layout.xaxis.title.text or "", layout.yaxis.title.text or "",
        across if numbered else (), ticks if numbered else (),
    )  # fmt: skip


def table(drawing: Drawing) -> pd.DataFrame:
    """A row a value: model, variable, units, a column a dimension, counted from 1 as on the screen, and the value."""
    parts = []
    for name, dataset in drawing.numbers.items():
        for variable, values in dataset.data_vars.items():
            if values.dtype.kind not in "fiub" or values.size > MOST_CELLS:
                continue
            bare = values.reset_coords(drop=True)
            rows = pd.DataFrame({"value": bare.values.ravel()})
            places: Any = np.indices(bare.shape).reshape(bare.ndim, -1) if bare.ndim else []
            for dim, at in zip(map(str, bare.dims), places, strict=True):
                given = bare[dim].values[at] if dim in bare.coords else at
                rows[frame.PLACES.get(dim, dim)] = given
            parts.append(rows.assign(model=name, variable=str(variable), units=str(values.attrs.get("units", ""))))
    if not parts:
        return pd.DataFrame({"model": [], "variable": [], "units": [], "value": []})
    found = pd.concat(parts, ignore_index=True)
    for column in (frame.COUNTED | {"image", "image_b"}) & {*found}:
        if pd.api.types.is_numeric_dtype(found[column]):
            found[column] = (found[column] + 1).astype("Int64")
    first = ["model", "variable", "units"]
    return found[[*first, *(name for name in found if name not in (*first, "value")), "value"]]


def csv(drawing: Drawing, runs: tuple[Run, ...]) -> str:
    """The numbers of a chart, with what they are of in a comment line."""
    told = caption(runs, drawing.said).replace(",", ";")  # one cell of a spreadsheet
    return f"# {told}\n{frame.csv(table(drawing))}"


def netcdf_bytes(source: Source) -> int:
    """How large a probe of the first run is when nothing is packed."""
    return sum(d.nbytes for (run, _), d in source.sets.items() if run == source.runs[0].name)


def netcdf(source: Source) -> bytes:
    """A probe of the first run as NetCDF 4, a group for each model."""
    groups = {f"{source.probe}/{label}": d for (run, label), d in source.sets.items() if run == source.runs[0].name}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "probe.nc"
        to_netcdf(groups, target)
        return target.read_bytes()
