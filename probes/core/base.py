"""A probe is a fold over what forward passes hand over."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from model_zoo.adapter import Adapter, ModelSpec

State = Any
READS = frozenset({"attention", "tokens", "batch", "weights"})


class Probe(ABC):
    """One measurement. Concrete probes are frozen dataclasses whose fields are the parameters.

    States are sums and moments (`probes.core.moments`) or are keyed by image, so that they merge across batches, shards
    and machines; what is summed is kept in float64. A probe never sees a whole run at once.

    Attributes:
        title: the probe's name for people.
        reads: what `update` receives: ``attention`` (`AttentionRows`), ``tokens`` (`Tokens`), ``batch`` (`Batch`, for
            passes of its own) or ``weights`` (`Weights`, once, no images); all four are in `probes.core.capture`.
        per_image: whether the result for an image does not depend on the other images, so that it can be kept alone.
        pairs: whether it also compares two models; then it is a `PairProbe`.
    """

    title: ClassVar[str]
    reads: ClassVar[frozenset[str]]
    pairs: ClassVar[bool] = False
    per_image: ClassVar[bool] = False

    @property
    def autocasts(self) -> bool:
        """Whether a forward pass in the run's type (bfloat16) stands behind the result; gradients never run in it."""
        return self.reads != {"weights"}

    def undefined(self, spec: ModelSpec) -> str | None:
        """Say in one sentence why the probe is not defined for a model; None where it is."""
        return spec.no_attention if "attention" in self.reads else None

    def queries(self, spec: ModelSpec, layer: int) -> slice | Sequence[int] | None:
        """Query tokens wanted of an attention layer: ``slice(None)`` for all, None for none.

        An empty sequence where they differ between images: then `update` takes them from the rows' ``source``.
        """
        return slice(None)

    def taps(self, spec: ModelSpec) -> tuple[str, ...]:
        """Canonical points wanted by a probe that reads tokens."""
        return ()

    def held_bytes(self, adapter: Adapter, images: int, batch: int) -> int:
        """What a state holds of a model's features at most; 0 where it holds sums alone, or little of each image.

        Args:
            adapter: the model.
            images: that the state is of, a shard's.
            batch: images of a forward pass.
        """
        return 0

    @abstractmethod
    def init(self, spec: ModelSpec) -> State:
        """An empty state."""

    @abstractmethod
    def update(self, state: State, seen: Any) -> State:
        """Take in one event of the kind that `reads` names; may change and return ``state``.

        What has to leave the device goes through the event's ``send``; ``state`` may then change once the pass is over.
        """

    @abstractmethod
    def merge(self, a: State, b: State) -> State:
        """The state of all images of ``a`` and ``b``, which saw different ones."""

    @abstractmethod
    def compute(self, state: State) -> xr.Dataset:
        """The result, with named dimensions, units in ``attrs`` and coordinates that say what is what."""


class PairProbe(Probe):
    """A probe that also compares two models over the same images.

    The models run in lock-step: after both have seen a batch, `update_pair` takes what it needs from their states, so
    that nothing has to be kept for the end. The result goes under ``LABEL_A+LABEL_B``.
    """

    pairs: ClassVar[bool] = True

    @abstractmethod
    def init_pair(self, a: State, b: State) -> State:
        """An empty state of the comparison."""

    @abstractmethod
    def update_pair(self, pair: State, a: State, b: State) -> State:
        """Take in what both states gained since the last call; called after every batch and after merging."""

    @abstractmethod
    def merge_pair(self, x: State, y: State) -> State:
        """The comparison over the images of both."""

    @abstractmethod
    def compute_pair(self, pair: State, a: State, b: State) -> xr.Dataset:
        """The result, of the comparison and what both states still hold."""


class ReferenceProbe(Probe):
    """A probe of tokens that compares every image with one of the run.

    In a run of shards `refer` shows that one to every state before its own images, so that their features need not be
    kept until it comes; elsewhere it comes among the others.

    Attributes:
        of: the place of that image in the run, from 0.
    """

    of: int

    @abstractmethod
    def refer(self, state: State, seen: Any) -> State:
        """Take in the image's tokens as what others are compared with; it does not count as seen by that."""


def layer_coordinates(spec: ModelSpec) -> dict[str, Any]:
    """Coordinates of the dimensions layer and head, for results padded with NaN where layers differ."""
    layers = spec.layers
    return {
        "layer": np.arange(len(layers)),
        "head": np.arange(max(layer.heads for layer in layers)),
        "layer_name": ("layer", [layer.name for layer in layers]),
        "layer_kind": ("layer", [layer.kind for layer in layers]),
        "head_count": ("layer", [layer.heads for layer in layers]),
        "grid_height": ("layer", [layer.grid[0] for layer in layers]),
        "grid_width": ("layer", [layer.grid[1] for layer in layers]),
    }


def one_of(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise a ValueError that names the choices unless ``value`` is one of them."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(str, choices))}.")
