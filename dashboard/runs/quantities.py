"""What of a stored result can be drawn, and its numbers for one drawing: of maps one image, else means over images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from dashboard.draw.charts import ATTENTION_STATISTICS
from probes.core.moments import Moments
from probes.core.output import OutputError
from probes.core.runs.summary import pieces

PLANES = (
    ("y", "x"),
    ("row", "column"),
    ("layer_b", "layer_a"),
    ("image", "image_b"),
    ("frequency_y", "frequency_x"),
)
"""Dimensions that are drawn as a picture, down and across."""
PAINT = {"fraction of full intensity", "0 black, 1 white"}
"""Units of what is a colour by itself."""
WORDS = {"iou": "IoU", "auc": "AUC", "cka": "CKA", "cls": "CLS", "sd": "standard deviation", "rgb": "colours"}
"""Parts of variables' names that are written otherwise."""
ERROR = "_sem"
MEAN = -1
"""The place that stands for the mean over a dimension."""
MOST_BYTES, MOST_CELLS = 2**31, 2**21
"""Of what is read through for a mean over images, and of what is drawn."""


@dataclass(frozen=True)
class Quantity:
    """A variable of a probe's results.

    Attributes:
        name: of the variable.
        title: what people call it.
        units: of its values.
        dims: its dimensions.
        paint: its values are colours.
    """

    name: str
    title: str
    units: str
    dims: tuple[str, ...]
    paint: bool = False

    @property
    def averaged(self) -> bool:
        """Whether the mean over the images is drawn."""
        return "image" in self.dims and not self._picture

    @property
    def _picture(self) -> tuple[str, str] | None:
        return next((plane for plane in PLANES if {*plane} <= {*self.dims}), None)

    @property
    def _left(self) -> tuple[str, ...]:
        return tuple(dim for dim in self.dims if dim != "image" or not self.averaged)

    @property
    def plane(self) -> tuple[str, str] | None:
        """Dimensions down and across where it is drawn as pictures; None where it is drawn as curves."""
        left = self._left
        if self._picture or len(left) < 2 or (len(left) == 2 and "head" in left):
            return self._picture
        return left[-2], left[-1]

    @property
    def free(self) -> tuple[str, ...]:
        """Dimensions of which one place is drawn."""
        painted = {self.dims[-1]} if self.paint else set()
        if self.plane:
            return tuple(dim for dim in self._left if dim not in {*self.plane, *painted})
        return ("head",) if len(self._left) == 2 and "layer" not in self._left else ()


@dataclass(frozen=True)
class Values:
    """What is drawn of one model: values, their standard errors where there are some, and over how many images."""

    mean: xr.DataArray
    error: xr.DataArray | None = None
    n: int = 1


def found(datasets: Mapping[str, xr.Dataset]) -> dict[str, Quantity]:
    """Everything that can be drawn of a probe's results, by its variable's name; first what has standard errors."""
    quantities: dict[str, Quantity] = {}
    names = {str(name) for dataset in datasets.values() for name in dataset.data_vars}
    for dataset in datasets.values():
        for name, variable in dataset.data_vars.items():
            drawable = (
                variable.dtype.kind in "fiub" and not str(name).endswith(ERROR) and "feature" not in variable.dims
            )
            if drawable and str(name) not in quantities:
                quantities[str(name)] = _quantity(str(name), variable)
    return dict(sorted(quantities.items(), key=lambda item: (f"{item[0]}{ERROR}" not in names, item[0])))


def _quantity(name: str, variable: xr.DataArray) -> Quantity:
    words = " ".join(WORDS.get(word, word) for word in name.split("_"))
    title = ATTENTION_STATISTICS.get(name) or str(variable.attrs.get("long_name", words))
    units, dims = str(variable.attrs.get("units", "")), tuple(map(str, variable.dims))
    return Quantity(
        name, title[:80], "" if units == "1" else units[:80], dims, units in PAINT and variable.shape[-1:] == (3,)
    )


def first_places(quantity: Quantity, sizes: Mapping[str, int]) -> dict[str, int]:
    """What is drawn where nothing is chosen: the last layer, the mean of the heads, the first of all else."""
    return {dim: sizes.get(dim, 1) - 1 if dim == "layer" else MEAN if dim == "head" else 0 for dim in quantity.free}


def values(dataset: xr.Dataset, quantity: Quantity, places: Mapping[str, int]) -> Values:
    """Read what is drawn, and no more.

    Args:
        dataset: of one model.
        quantity: one that `found` has found in it.
        places: of each of its ``free`` dimensions, from 0; `MEAN` for the mean. One that is too far is the last.

    Raises:
        OutputError: it is too large to be drawn, or damaged.
    """
    try:
        variable = dataset[quantity.name]
        chosen = _at(variable, places)
        if quantity.averaged and len(quantity.dims) > 1:
            return _over_images(chosen, [dim for dim, at in places.items() if at == MEAN])
        error = dataset.get(f"{quantity.name}{ERROR}")
        n = int(dataset.attrs.get("n", 1))
        return Values(_read(chosen, places), _read(_at(error, places), places) if error is not None else None, n)
    except OutputError:
        raise
    except Exception as error:  # whatever damage makes zarr and its codecs raise
        raise OutputError(f"{quantity.title} cannot be read ({type(error).__name__}); measure anew.") from None


def _at(variable: xr.DataArray, places: Mapping[str, int]) -> xr.DataArray:
    return variable.isel(
        {dim: min(at, variable.sizes[dim] - 1) for dim, at in places.items() if dim in variable.dims and at != MEAN}
    )


def _read(chosen: xr.DataArray, places: Mapping[str, int]) -> xr.DataArray:
    means = [dim for dim, at in places.items() if at == MEAN and dim in chosen.dims]
    if chosen.size > MOST_CELLS * (1 + 15 * bool(means)):
        raise OutputError(f"{chosen.size:,} values are too many to be drawn; `python -m probes export` writes them.")
    return chosen.load().mean(means, keep_attrs=True) if means else chosen.load()


def _over_images(chosen: xr.DataArray, means: list[str]) -> Values:
    """Mean and standard error over images, a bounded part of them at a time, of each image's mean over ``means``."""
    if chosen.nbytes > MOST_BYTES or chosen[{"image": 0}].size > MOST_CELLS:
        raise OutputError(f"{chosen.size:,} values are too many to be drawn; `python -m probes export` writes them.")
    moments = Moments()
    for piece in pieces(chosen.transpose("image", ...)):
        numbers = piece.mean(means).values if means else piece.values
        moments += Moments.of(numbers, np.isfinite(numbers))
    like = chosen[{"image": 0}].load().mean(means, keep_attrs=True)
    mean = like.copy(data=np.where(moments.count > 0, moments.mean, np.nan))
    error = moments.deviation() / np.sqrt(np.maximum(moments.count, 1))
    return Values(mean, like.copy(data=error), chosen.sizes["image"])
