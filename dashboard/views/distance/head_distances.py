"""Distances of heads over the layers: as a figure, a table and words. Pure: datasets of ``attention-distance`` in."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import charts
from dashboard.draw.palette import number
from dashboard.draw.sentences import percent


def scaled(datasets: Mapping[str, xr.Dataset], units: str) -> dict[str, xr.Dataset]:
    """Distances in pixels, or divided by the diagonal of each model's input."""
    if units == "px":
        return {name: _with_units(dataset, 1.0, "px of the input") for name, dataset in datasets.items()}
    fraction = "fraction of the diagonal"
    return {name: _with_units(dataset, dataset.attrs["diagonal"], fraction) for name, dataset in datasets.items()}


def _with_units(dataset: xr.Dataset, divisor: float, units: str) -> xr.Dataset:
    """In other units, and without the layers at the end that have no distance, as a pooling query has not."""
    defined = np.flatnonzero(np.isfinite(dataset["distance"].values).any(1))
    dataset = dataset.isel(layer=slice(0, int(defined[-1]) + 1 if len(defined) else None))
    lengths = [name for name in dataset.data_vars if "distance" in str(name)]
    return dataset.assign({name: (dataset[name] / divisor).assign_attrs(units=units) for name in lengths})


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> go.Figure:
    """Head points with standard errors, layer means, and a dashed line a model for uniform attention."""
    drawn = charts.over_layers(datasets, "distance", colours, label="mean attention distance")
    for trace in drawn.data:
        name = trace.legendgroup
        errors = datasets[name]["distance_sem"].values
        finite = np.isfinite(datasets[name]["distance"].values)
        if trace.mode == "markers" and np.isfinite(errors).any():
            trace.error_y = {"array": errors[finite], "thickness": 1, "width": 0, "color": colours[name]}
            trace.hovertemplate = trace.hovertemplate.replace("%{y:.3g}", "%{y:.3g} ± %{error_y.array:.2g}")
    references: dict[float, list[str]] = {}
    for name, dataset in datasets.items():
        references.setdefault(round(float(dataset["uniform_distance"]), 4), []).append(name)
    for value, names in references.items():
        alone = len(names) == 1 and len(datasets) > 1
        drawn.add_hline(
            y=value,
            line={"dash": "dash", "width": 1.5, "color": colours[names[0]] if alone else "#8a8f98"},
            annotation={
                "text": f"uniform attention{' in ' + names[0] if alone else ''}: {number(value)}",
                "font": {"size": 12},
            },
            annotation_position="top right",
        )
    return drawn.update_layout(height=470)


def table(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """A row a head: model, layer and head from 1, distance, its standard error and the attention on CLS."""
    rows = []
    for name, dataset in datasets.items():
        values = dataset["distance"].values
        for layer, head in zip(*np.nonzero(np.isfinite(values)), strict=True):
            entry = {variable: float(dataset[variable][layer, head]) for variable in ("distance", "distance_sem")}
            cls = float(dataset["cls_mass"][layer, head]) if "cls_mass" in dataset else np.nan
            place = {"model": name, "layer": int(layer) + 1, "head": int(head) + 1}
            rows.append(place | entry | {"cls_mass": cls, "n": dataset.attrs["n"]})
    return pd.DataFrame(rows)


def reading(datasets: Mapping[str, xr.Dataset], renormalised: bool) -> str:
    """What the numbers say, a sentence a model, with n and the convention."""
    said = []
    for name, dataset in datasets.items():
        values, uniform = dataset["distance"].values, float(dataset["uniform_distance"])
        means = [row[np.isfinite(row)].mean() for row in values if np.isfinite(row).any()]
        flat = values[np.isfinite(values)]
        first, last, least, most, even = (number(x) for x in (means[0], means[-1], flat.min(), flat.max(), uniform))
        local = percent(float((flat < uniform / 2).mean()))
        said.append(
            f"**{name}**: {first} in the first layer, {last} in the last; heads from {least} to {most}, {local} of "
            f"them below half of uniform attention's {even}."
        )
    one = next(iter(datasets.values()))
    n, units = int(one.attrs["n"]), one["distance"].attrs["units"]
    convention = "renormalised over the patches" if renormalised else "not renormalised: attention on CLS counts as 0"
    return "  \n".join([*said, f"Means in {units}, n = {n} image{'s' * (n > 1)}, {convention}."])
