"""The numbers behind an answer, as tables with a line for each. Pure."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from dashboard.draw import frame
from dashboard.draw.figures.courses import Course


def together(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables below each other, the quantity that a table is of beside the model.

    Args:
        tables: quantity to a table with a column ``model``; columns that a line does not have stay empty.
    """
    whole = pd.concat([one.assign(quantity=name) for name, one in tables.items() if len(one)], ignore_index=True)
    first = ["model", "quantity"]
    return whole[[*first, *(name for name in whole if name not in first)]].convert_dtypes()


def of_heads(marks: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """A line for each head: how far it looks and what changes without it, as `heads.points` gives them."""
    columns = ["layer", "head", "distance", "effect"]
    return _all({name: pd.DataFrame(one, columns=columns).convert_dtypes() for name, one in marks.items()})


def of_datasets(found: Mapping[str, xr.Dataset], *variables: str) -> pd.DataFrame:
    """A line for each value of some variables, as in every table that is saved."""
    return frame.lines({name: one[list(variables)] for name, one in found.items()}) if found else pd.DataFrame()


def of_courses(found: Mapping[str, Course]) -> pd.DataFrame:
    """A line for each point of every model; blocks count from 1, 0 is the embedding."""
    tables = {}
    for name, one in found.items():
        columns = {"span": one.spans, "block": one.blocks + 1, "value": one.values, "sem": one.errors}
        tables[name] = pd.DataFrame({**columns, "change_sem": one.changes})
    return _all(tables)


def _all(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    found = [table.assign(model=name) for name, table in tables.items()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
