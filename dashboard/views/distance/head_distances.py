"""Distances of heads over the layers, of ``attention-distance``: in one unit, as a table and in words. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from dashboard.draw.palette import number
from dashboard.draw.sentences import percent

Datasets = Mapping[str, xr.Dataset]


@dataclass(frozen=True)
class Ends:
    """A model's first and last layers, a quarter of all each, rounded up.

    Attributes:
        layers: how many the first and the last are.
        first: mean over all heads of the first.
        last: mean over all heads of the last.
        first_error: mean of the heads' standard errors, which that of ``first`` does not exceed; NaN for one image.
        last_error: the same of ``last``.
    """

    layers: int
    first: float
    last: float
    first_error: float
    last_error: float


def scaled(datasets: Datasets, units: str) -> dict[str, xr.Dataset]:
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


def units_of(datasets: Datasets) -> str:
    """What the distances are in."""
    return str(next(iter(datasets.values()))["distance"].attrs["units"])


def table(datasets: Datasets) -> pd.DataFrame:
    """A row a head: model, layer and head from 1, distance, standard error, uniform attention's, attention on CLS."""
    rows = []
    for name, dataset in datasets.items():
        values = dataset["distance"].values
        for layer, head in zip(*np.nonzero(np.isfinite(values)), strict=True):
            entry = {variable: float(dataset[variable][layer, head]) for variable in ("distance", "distance_sem")}
            cls = float(dataset["cls_mass"][layer, head]) if "cls_mass" in dataset else np.nan
            place = {"model": name, "layer": int(layer) + 1, "head": int(head) + 1}
            even = {"uniform_distance": float(dataset["uniform_distance"]), "units": units_of(datasets)}
            rows.append(place | entry | even | {"cls_mass": cls, "n": dataset.attrs["n"]})
    return pd.DataFrame(rows)


def layer_means(dataset: xr.Dataset) -> np.ndarray:
    """Mean over the heads of every layer in which the distance is defined."""
    rows = dataset["distance"].values
    return np.array([row[np.isfinite(row)].mean() for row in rows if np.isfinite(row).any()])


def ends(dataset: xr.Dataset) -> Ends:
    """The first and the last layers."""
    defined = np.isfinite(dataset["distance"].values).any(1)
    values, errors = (dataset[name].values[defined] for name in ("distance", "distance_sem"))
    count = -(-len(values) // 4)
    means = [float(np.nanmean(values[part])) for part in (slice(count), slice(-count, None))]
    some = np.isfinite(errors).any()
    bounds = [float(np.nanmean(errors[part])) if some else np.nan for part in (slice(count), slice(-count, None))]
    return Ends(count, *means, *bounds)


def verdict(datasets: Datasets) -> str:
    """Who looks nearest and farthest at first, whether that rises with depth, how far from uniform: a sentence."""
    found = {name: ends(dataset) for name, dataset in datasets.items()}
    unit = " px" if units_of(datasets).startswith("px") else " of the diagonal"
    order = sorted(found, key=lambda name: found[name].first)
    near, far = found[order[0]], found[order[-1]]
    if len(order) == 1:
        first = f"**{order[0]}** looks {number(near.first)}{unit} far in its first layers"
    elif far.first - near.first <= np.nan_to_num(near.first_error + far.first_error):
        span = f"{number(near.first)} to {number(far.first)}{unit}"
        first = f"In their first layers all look equally far within the standard error ({span})"
    else:
        first = (
            f"In the first layers **{order[0]}** looks nearest ({number(near.first)}{unit}) and **{order[-1]}** "
            f"farthest ({number(far.first)}{unit})"
        )
    return f"{first}; towards the last layers the mean {_trends(found)}; {_from_uniform(datasets)}{unit}."


def _trends(found: Mapping[str, Ends]) -> str:
    """Where the mean rises with depth, where it falls, and where it stays."""
    groups: dict[str, list[str]] = {"rises": [], "falls": [], "stays": []}
    for name, one in found.items():
        change, error = one.last - one.first, np.nan_to_num(one.first_error + one.last_error)
        kind = "stays" if abs(change) <= error else "rises" if change > 0 else "falls"
        groups[kind].append(f"{name} ({number(one.first)} to {number(one.last)})" if kind != "stays" else name)
    within = {"stays": "stays within its standard error"}
    parts = [f"{within.get(kind, kind)} in {_listed(names)}" for kind, names in groups.items() if names]
    return _listed(parts)


def _from_uniform(datasets: Datasets) -> str:
    """Between which shares of uniform attention's distance the means of the layers lie."""
    shares = np.concatenate([layer_means(one) / float(one["uniform_distance"]) - 1 for one in datasets.values()])
    least, most = float(shares.min()), float(shares.max())

    if least < 0 < most:
        between = f"{percent(-least)} below to {percent(most)} above"
    else:
        low, high = (percent(share) for share in sorted((abs(least), abs(most))))
        between = f"{low if low == high else f'{low} to {high}'} {'below' if most <= 0 else 'above'}"
    even = sorted({number(float(one["uniform_distance"])) for one in datasets.values()}, key=float)
    return f"all layer means lie {between} uniform attention's {_listed(even, 'or')}"


def _listed(names: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def basis(datasets: Datasets, renormalised: bool) -> str:
    """What the verdict rests on: images, standard error, convention, and what first and last layers are."""
    one = next(iter(datasets.values()))
    n, px = int(one.attrs["n"]), units_of(datasets).startswith("px")
    errors = np.concatenate([dataset["distance_sem"].values.ravel() for dataset in datasets.values()])
    error = number(float(np.nanmax(errors)), 2) if np.isfinite(errors).any() else ""
    said = [
        f"n = {n} image{'s' * (n > 1)}, "
        + (f"standard error of a head over them at most {error}{' px' * px}" if error else "so no standard error"),
        "attention renormalised over the patches"
        if renormalised
        else "attention as used: what goes to CLS counts as 0",
        "first and last layers: a quarter of each model's, rounded up",
    ]
    if px and len({dataset.attrs["diagonal"] for dataset in datasets.values()}) > 1:
        said.append("input sizes differ: compare fractions of the diagonal instead")
    return "; ".join(said) + "."
