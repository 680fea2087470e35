"""Where images are measured: in this process, or by the workers of a Ray cluster. What is kept is the same."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from model_zoo.reference import ModelReference
from probes.core.base import Probe
from probes.core.memory import free_on
from probes.core.precision import Chosen, Dtype, choose
from probes.core.runner import bfloat16_differences
from probes.core.runs import in_turn
from probes.core.runs.batch_size import BatchSize, fitting, held_bytes, refuse_to_hold
from probes.core.runs.lanes import WATCHES, SideBySide, lanes
from probes.core.runs.loader import worker_count
from probes.core.runs.measure import Measurement, Shard, shard_size

Differences = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Task:
    """What is measured on the images, of the models that are in memory.

    Attributes:
        labels: of the models.
        images: the images.
        probes: name to probe, those that see images.
        dtypes: label to the type of its forward passes.
        size: images of a shard.
        batch_size: images of a forward pass, as long as memory allows.
        workers: decoding processes of each who measures; chosen if None.
    """

    labels: tuple[str, ...]
    images: Sequence[ImageSource]
    probes: Mapping[str, Probe]
    dtypes: Mapping[str, Chosen]
    size: int
    batch_size: int
    workers: int | None = None


class Shards(Protocol):
    """One shard after another, in order; see `Measurement.shards`."""

    batch: BatchSize

    def shards(
        self,
        after: Shard | None = None,
        on_image: Callable[[int], None] = ...,
        on_unreadable: Callable[[int, str], None] = ...,
    ) -> Iterator[Shard]:
        """Measure what comes after a shard."""


class Engine(Protocol):
    """Who measures.

    Attributes:
        device: for the models that this process merges with, as `model_zoo.loading.load` takes it.
        stretch: how many times larger than need be a shard is, where to begin one takes long.
    """

    device: str
    stretch: int

    def room(self) -> float:
        """Bytes that the weights of models which are in memory together may take."""

    def release(self) -> None:
        """Let go of the models in memory, before others are loaded."""

    def begin(self, references: Sequence[ModelReference], models: Mapping[str, Adapter]) -> None:
        """Have these models in memory, and no others."""

    def device_name(self) -> str:
        """Where forward passes run."""

    def dtypes(self, asked: Dtype, images: int) -> dict[str, Chosen]:
        """The type of every model's forward passes."""

    def fitting(self, labels: Sequence[str], probes: Mapping[str, Probe]) -> int:
        """Images of a forward pass that fit into memory beside what the probes hold.

        Raises:
            ValueError: the probes hold more than there is.
        """

    def measure(self, task: Task) -> Shards:
        """Begin with the images."""

    def differences(self, label: str, image: ImageSource, probes: Mapping[str, Probe]) -> Differences:
        """What bfloat16 changes; see `bfloat16_differences`."""


class Here:
    """This process.

    Args:
        device: of the models.
        in_worker: called in each decoding process as it begins.
        neighbours: how many such processes share the memory.
    """

    stretch = 1

    def __init__(self, device: str, in_worker: Callable[[], object] = lambda: None, neighbours: int = 1) -> None:
        self.device, self.in_worker, self.neighbours = device, in_worker, neighbours
        self.models: Mapping[str, Adapter] = {}

    def room(self) -> float:
        """See `Engine`."""
        return in_turn.room(self.device) / self.neighbours

    def release(self) -> None:
        """See `Engine`."""
        self.models = {}

    def begin(self, references: Sequence[ModelReference], models: Mapping[str, Adapter]) -> None:
        """See `Engine`."""
        self.models = models

    def device_name(self) -> str:
        """See `Engine`."""
        device = next(iter(self.models.values())).device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)

    def dtypes(self, asked: Dtype, images: int) -> dict[str, Chosen]:
        """See `Engine`."""
        return {label: choose(asked, adapter, images) for label, adapter in self.models.items()}

    def fitting(self, labels: Sequence[str], probes: Mapping[str, Probe]) -> int:
        """See `Engine`."""
        models = {label: self.models[label] for label in labels}

        def held(batch: int) -> dict[str, int]:
            return held_bytes(models, probes, shard_size(probes, batch), batch)

        # Passes of a probe's own take the room of the lanes that there are not.
        watching = {name: probe for name, probe in probes.items() if probe.reads <= WATCHES}
        sharing = self.neighbours * lanes(models, watching, shard_size(probes, 1), 1, self.neighbours)
        size = fitting(models.values(), sharing, lambda batch: sum(held(batch).values()))
        refuse_to_hold(held(size), free_on(next(iter(models.values())).device) / self.neighbours)
        return size

    def measure(self, task: Task) -> Shards:
        """See `Engine`."""
        measurement = self.measurement(task)
        count = lanes(measurement.models, task.probes, task.size, task.batch_size, self.neighbours)
        return SideBySide(measurement, count) if count > 1 else measurement

    def measurement(self, task: Task) -> Measurement:
        """The same, one shard after the other."""
        models = {label: self.models[label] for label in task.labels}
        device = next(iter(models.values())).device
        return Measurement(
            models, task.images, task.probes, task.dtypes, task.size, BatchSize(task.batch_size),
            workers=worker_count(task.workers, len(task.images), device), in_worker=self.in_worker,
        )  # fmt: skip

    def differences(self, label: str, image: ImageSource, probes: Mapping[str, Probe]) -> Differences:
        """See `Engine`."""
        return bfloat16_differences(self.models[label], image, probes)
