"""Maps of relevance as they come out of the results, in times even relevance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from dashboard.compute.asking import ModelResult
from dashboard.controls.target_choice import VECTOR_NAMES
from dashboard.draw import palette
from dashboard.draw.panels import Scale
from dashboard.draw.sentences import percent
from dashboard.images import gallery

METHODS = {
    "chefer": "Chefer",
    "grad-rollout": "gradient rollout",
    "grad-cam": "attention Grad-CAM",
    "integrated-gradients": "integrated gradients",
    "token-grad-cam": "Grad-CAM on tokens",
}
UNITS = "times even relevance"
SIGNED = "integrated-gradients"


@dataclass(frozen=True)
class RelevanceMap:
    """One method's map under one model, in times even relevance, or why there is none."""

    method: str
    model: ModelResult
    values: np.ndarray | None = None
    note: str = ""
    message: str = ""


def relevance_map(method: str, model: ModelResult, of: str) -> RelevanceMap:
    """Read one map out of the results."""
    dataset = model.datasets.get(method)
    if dataset is None:
        return RelevanceMap(method, model, message=model.reasons.get(method, ""))
    one = dataset.isel(image=0)
    note = explained(one, of)
    if bool(one["vanished"]):
        said = f"{METHODS[method]} gives no map for {note}: no patch stands out."
        return RelevanceMap(method, model, message=said)
    values = one["relevance"].values.astype(float)
    return RelevanceMap(method, model, values / np.abs(values).mean(), note)


def explained(one: xr.Dataset, of: str) -> str:
    """The target and its value: a class with its probability, or a similarity."""
    value, name = float(one["target_value"]), str(one["target_name"].values)
    if name == "similarity":
        vector = VECTOR_NAMES[one.attrs["vector"]]
        return f"similarity to {gallery.title(of)}, {vector}, {palette.number(value)}"
    word = name.partition(",")[0]
    chance = f"{percent(float(one['target_probability']))}, " if "target_probability" in one else ""
    return f"{word}, {chance}logit {palette.number(value)}"


def scales(found: Sequence[RelevanceMap]) -> dict[bool, Scale]:
    """One scale for all unsigned maps, one for the signed."""
    made = {}
    for signed in (False, True):
        arrays = [one.values for one in found if one.values is not None and (one.method == SIGNED) == signed]
        if arrays:
            made[signed] = Scale.over(arrays, UNITS, signed=True) if signed else Scale.over_most(arrays, UNITS)
    return made
