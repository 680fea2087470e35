"""What a worker of a Ray cluster does: models in its memory, and one shard after another of the images.

Nothing here knows Ray; `probes.core.runs.on_ray` makes actors of it.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from model_zoo.images import ImageSource
from model_zoo.input_size import ImageSize
from model_zoo.loading import load
from model_zoo.reference import ModelReference
from probes.core.base import Probe
from probes.core.cluster import ClusterError
from probes.core.precision import Chosen, Dtype
from probes.core.runs import identity
from probes.core.runs.engine import Differences, Here, Task
from probes.core.runs.measure import Measurement, Shard


@dataclass(frozen=True)
class About:
    """A worker with its models.

    Attributes:
        host: the machine's name.
        process: its id there.
        device: where forward passes run.
        weights: digest of every model's.
        dtypes: type of every model's forward passes.
    """

    host: str
    process: int
    device: str
    weights: dict[str, str]
    dtypes: dict[str, Chosen]


@dataclass(frozen=True)
class Measured:
    """A shard without its sections, which come by themselves.

    Attributes:
        shard: its place and its images.
        batch_size: images of its last forward passes.
        host: the machine's name.
        absent: places of the images whose file is not there on this machine.
    """

    shard: Shard
    batch_size: int
    host: str
    absent: tuple[int, ...]


class Worker:
    """One worker.

    Args:
        home: folder that relative paths begin in.
        device: of the models.
        neighbours: how many workers share the memory.
        threads: of a forward pass on a CPU.
    """

    def __init__(self, home: Path, device: str, neighbours: int, threads: int) -> None:
        with suppress(OSError):  # then a relative path is not found, which is said
            os.chdir(home)
        torch.set_num_threads(threads)
        self.here, self.host = Here(device, neighbours=neighbours), socket.gethostname()
        self.measurement: Measurement | None = None

    def room(self) -> float:
        """Bytes that the weights of models which are in memory together may take."""
        return self.here.room()

    def begin(
        self,
        references: Sequence[ModelReference],
        size: ImageSize | None,
        asked: Dtype,
        images: int,
        probes: Sequence[str],
        program: dict[str, str],
    ) -> About:
        """Load models in place of those that were there."""
        for name, here in identity.program(probes).items():
            if here != program[name]:
                of = "this program" if name == "code" else name
                version = "" if name == "code" else f", {here} where the run was begun with {program[name]}"
                raise ClusterError(f"The worker on {self.host} has another version of {of}{version}: use one.")
        self.measurement = None
        self.here.release()
        models = {one.label: load(one, image_size=size, device=self.here.device) for one in references}
        self.here.begin(references, models)
        return About(
            self.host,
            os.getpid(),
            self.here.device_name(),
            {label: adapter.digest for label, adapter in models.items()},
            self.here.dtypes(asked, images),
        )

    def fitting(self, labels: Sequence[str], probes: Mapping[str, Probe]) -> int:
        """Images of a forward pass that fit into its memory."""
        return self.here.fitting(labels, probes)

    def prepare(self, task: Task) -> None:
        """Have the images and the probes ready."""
        self.measurement = self.here.measurement(task)

    def measure(self, first: int, start: int) -> tuple[Measured, dict[str, Any]]:
        """The shard that begins with the image at a place, which is the first-th of those that can be read."""
        assert self.measurement is not None
        shards = self.measurement.shards(after=Shard(-1, first, start, start))
        shard = next(shards)
        shards.close()  # type: ignore[attr-defined]  # it is a generator
        images = self.measurement.images
        lost = [one.place for one in shard.entries if one.skipped and not _there(images[one.place])]
        return Measured(
            replace(shard, sections={}), self.measurement.batch.now, self.host, tuple(lost)
        ), shard.sections  # fmt: skip

    def differences(self, label: str, image: ImageSource, probes: Mapping[str, Probe]) -> Differences:
        """What bfloat16 changes."""
        return self.here.differences(label, image, probes)


def _there(image: ImageSource) -> bool:
    return image.path is None or image.path.exists()
