"""Two runs beside each other: what differs in what they are of, and in their numbers. Pure."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.runs.facts import Facts
from dashboard.runs.figures import plain
from dashboard.runs.quantities import Values


def names(labels: Mapping[str, list[str]]) -> dict[tuple[str, str], str]:
    """(run, label) to what the figures call it: the label, and the run where there are two."""
    several = len(labels) > 1
    return {
        (run, label): f"{plain(label, 40)} · {plain(run, 30)}" if several else plain(label)
        for run, held in labels.items()
        for label in held
    }


def difference(first: Facts, second: Facts, probe: str) -> str:
    """One sentence on what the two runs do not share, besides their numbers."""
    if not first.models or not second.models:
        return "Not both runs say what they were of, so it is not known whether images, weights and parameters agree."
    found = []
    if first.images != second.images:
        both = len({*first.images} & {*second.images})
        found.append(f"the images ({len(first.images):,} and {len(second.images):,}, {both:,} of them the same)")
    for label in [label for label in first.models if label in second.models]:
        a, b = first.models[label], second.models[label]
        if a.weights != b.weights:
            found.append(f"the weights of {plain(label, 40)}")
        elif (a.size, a.dtype) != (b.size, b.dtype):
            found.append(f"input size or type of {plain(label, 40)} ({a.size} px {a.dtype}, {b.size} px {b.dtype})")
    ours, theirs = (one.probes.get(probe, ("", {}))[1] for one in (first, second))
    changed = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if changed:
        found.append("the parameters " + ", ".join(f"{k} ({ours.get(k)} and {theirs.get(k)})" for k in changed))
    versions = [name for name in first.versions if first.versions[name] != second.versions.get(name)]
    if versions:
        found.append(f"the versions of {', '.join(versions)}")
    if not found:
        return "Both runs are of the same images, weights, parameters and versions."
    return plain(f"The runs differ in {'; '.join(found)}.", 600)


def table(first: Mapping[str, Values], second: Mapping[str, Values]) -> pd.DataFrame:
    """A row a model that both runs have: means, and the second's difference from the first where their shapes agree."""
    rows = []
    for label in [label for label in first if label in second]:
        a, b = first[label].mean, second[label].mean
        agree = a.dims == b.dims and a.shape == b.shape
        apart = (b.values.astype(float) - a.values.astype(float)) if agree else np.array(np.nan)
        rows.append(
            {
                "Model": plain(label),
                "Mean, first run": _mean(a.values),
                "Mean, second run": _mean(b.values),
                "Mean difference": _mean(apart),
                "Largest difference": float(np.nanmax(np.abs(apart))) if np.isfinite(apart).any() else np.nan,
                "Values": int(a.size) if agree else None,
            }
        )
    return pd.DataFrame(rows)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def second_dashed(figure: go.Figure, second: set[str]) -> go.Figure:
    """Curves of the second run dashed, with open marks, so that a model keeps its colour in both."""
    for trace in figure.data:
        if trace.type == "scatter" and {trace.name, trace.legendgroup} & second:
            trace.line.dash = "dash"
            symbols = trace.marker.symbol
            if isinstance(symbols, str) and not symbols.endswith("-open"):
                trace.marker.symbol = f"{symbols}-open"
    return figure
