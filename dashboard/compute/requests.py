"""What can be asked for, and what it comes to."""

from dataclasses import dataclass
from typing import Literal

import xarray as xr

from model_zoo.adapter import Geometry, ModelSpec

Size = Literal["native", "uncropped"]
Value = str | int | float | bool

ENTRY_BYTES = 8 * 2**10
"""What a result costs beside its arrays: coordinates, attributes, bookkeeping."""


@dataclass(frozen=True)
class Request:
    """One computation, named by everything that its result depends on.

    Attributes:
        models: MODEL strings; more than one only for a probe that compares models.
        images: picture ids, which name the content.
        probe: name of the probe; empty to ask only how the model lies over the images.
        params: the probe's parameters, sorted by name.
        size: the model's own evaluation transform, or the whole image uncropped.
    """

    models: tuple[str, ...]
    images: tuple[str, ...]
    probe: str = ""
    params: tuple[tuple[str, Value], ...] = ()
    size: Size = "native"


@dataclass(frozen=True)
class Result:
    """What a request came to.

    Attributes:
        datasets: the probe's datasets by MODEL string; empty when no probe was asked for.
        specs: layout of each model.
        geometries: where each model's input lies in each image.
        seconds: time an image of the pass that made it.
    """

    datasets: dict[str, xr.Dataset]
    specs: dict[str, ModelSpec]
    geometries: dict[str, tuple[Geometry, ...]]
    seconds: float = 0.0

    @property
    def bytes(self) -> int:
        """Memory, bytes."""
        return ENTRY_BYTES + sum(dataset.nbytes for dataset in self.datasets.values())


@dataclass(frozen=True)
class Failure:
    """Why a request has no result, in one sentence."""

    sentence: str
    stopped: bool = False
    at: float = 0.0
