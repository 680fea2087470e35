"""Shards measured by the workers of a Ray cluster; kept, merged and resumed as those of one process."""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from model_zoo.reference import ModelReference
from probes.core import cluster
from probes.core.base import Probe
from probes.core.cluster import ClusterError, Share
from probes.core.precision import Chosen, Dtype
from probes.core.runs import identity
from probes.core.runs.batch_size import BatchSize
from probes.core.runs.engine import Differences, Task
from probes.core.runs.loader import FEW, MOST_WORKERS
from probes.core.runs.measure import Shard
from probes.core.runs.ray_worker import About, Measured, Worker

ray = cluster.required()

from ray.exceptions import RayError, RayTaskError  # noqa: E402 - after Ray's settings, which it reads once

TRIES = 3
"""How often a shard is begun whose worker ends."""
PATIENCE = 900.0
"""Seconds until a worker must have its models, if nobody measures in the meantime."""
STRETCH = 8
"""A worker beside a GPU begins processes that open images anew for each shard."""
AHEAD = 2
"""Shards a worker that may be under way or wait for those before them."""

Place = tuple[int, int]
"""Where a shard begins: its first image's number among those that can be read, and its place among all."""


@contextmanager
def on_ray(arguments: argparse.Namespace, images: int, say: Callable[[str], None]) -> Iterator["OnRay"]:
    """Workers on a cluster, for as long as a run lasts.

    Raises:
        ClusterError: there is no cluster to be had.
    """
    with cluster.connected(arguments.ray_workers, arguments.device):
        share = cluster.share(arguments.ray_workers, arguments.device)
        each = "a GPU" if share.gpus == 1 else f"{share.gpus:.2g} GPU" if share.gpus else "a thread"
        say(f"{share.count} Ray worker{'s' * (share.count != 1)}, {each} each")
        engine = OnRay(arguments, share, images)
        try:
            yield engine
        finally:
            engine.end()


@dataclass(frozen=True)
class _Call:
    """What a worker is doing: a shard by its place, with the sections to come; or None, loading its models."""

    worker: Any
    place: Place | None = None
    sections: Any = None


class OnRay:
    """The engine of a run whose images are measured by workers of a cluster.

    A worker that ends is replaced, and its shard measured again.

    Args:
        arguments: of the command line.
        share: what every worker has of the cluster.
        images: how many there are.
    """

    device = "cpu"

    def __init__(self, arguments: argparse.Namespace, share: Share, images: int) -> None:
        self.arguments, self.share, self.images = arguments, share, images
        self.actor = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus)(Worker)
        self.stretch = STRETCH if share.gpus else 1
        self.program = identity.program(arguments.probe)
        self.workers = [self._worker() for _ in range(share.count)]
        self.idle: list[Any] = []
        self.running: dict[Any, _Call] = {}
        self.losses: Counter[Place | None] = Counter()
        self.models: tuple[Any, ...] = ()
        self.task: Any = None
        self.weights: dict[str, str] = {}
        self.about: About | None = None

    def end(self) -> None:
        """Give the cluster's room back."""
        for worker in self.workers:
            ray.kill(worker)

    def room(self) -> float:
        """See `Engine`."""
        return float(self._ask("room"))

    def release(self) -> None:
        """See `Engine`; each worker does so when it is given others."""

    def begin(self, references: Sequence[ModelReference], models: Mapping[str, Adapter]) -> None:
        """See `Engine`."""
        asked = self.arguments
        self.weights = {label: adapter.digest for label, adapter in models.items()}
        self.models = list(references), asked.image_size, asked.dtype, self.images, list(asked.probe), self.program
        self.about, self.task, self.idle, self.running = None, None, [], {}
        for worker in self.workers:
            self._load(worker)
        while self.about is None:
            self.wait()

    def device_name(self) -> str:
        """See `Engine`."""
        return self._known.device

    def dtypes(self, asked: Dtype, images: int) -> dict[str, Chosen]:
        """See `Engine`."""
        return self._known.dtypes

    def fitting(self, labels: Sequence[str], probes: Mapping[str, Probe]) -> int:
        """See `Engine`."""
        return int(self._ask("fitting", labels, probes))

    def measure(self, task: Task) -> "RayShards":
        """See `Engine`."""
        decoding = min(self.share.cpus, MOST_WORKERS) if self.share.gpus and self.images >= FEW else 0
        task = replace(task, workers=decoding if task.workers is None else task.workers)
        self.task = ray.put(task)
        for worker in self.workers:
            worker.prepare.remote(self.task)
        return RayShards(self, task)

    def differences(self, label: str, image: ImageSource, probes: Mapping[str, Probe]) -> Differences:
        """See `Engine`."""
        found: Differences = self._ask("differences", label, image, probes)
        return found

    def give(self, place: Place) -> None:
        """Have an idle worker measure a shard."""
        worker = self.idle.pop(0)
        measured, sections = worker.measure.options(num_returns=2).remote(*place)
        self.running[measured] = _Call(worker, place, sections)

    def wait(self) -> list[tuple[Place, Measured, Any]]:
        """Wait until something has come to an end; the shards among it, with the sections to come.

        Raises:
            ClusterError: workers are lost again and again, or none begins.
        """
        working = any(call.place is not None for call in self.running.values())
        ready, _ = ray.wait([*self.running], timeout=None if working else PATIENCE)
        if not ready:
            raise ClusterError(
                f"No Ray worker has begun for {PATIENCE / 60:.0f} minutes: stop what else runs on the cluster."
            )
        found: list[tuple[Place, Measured, Any]] = []
        for ended in ready:
            call = self.running.pop(ended)
            try:
                value = result(ended)
            except RayError as error:
                self.lost(call.place, error, call.worker)
                continue
            if isinstance(value, About):
                self._check(value)
            elif call.place is not None:
                found.append((call.place, value, call.sections))
            self.idle.append(call.worker)
        return found

    def lost(self, place: Place | None, error: RayError, worker: Any = None) -> None:
        """Count a lost shard, and replace the worker that was lost with it.

        Raises:
            ClusterError: it was lost before, too often.
        """
        self.losses[place] += 1
        if self.losses[place] == TRIES:
            if place is None:
                raise ClusterError(
                    f"{TRIES} Ray workers ended before they had their models; each needs this program, its packages "
                    f"and memory for the models. {_last_line(error)}"
                )
            raise ClusterError(
                f"The worker that measures the images from number {place[1]} on was lost {TRIES} times, perhaps for "
                "want of memory; what was measured so far is kept: go on with --resume and fewer --ray-workers."
            )
        if worker is not None:
            self.workers.remove(worker)
            self.workers.append(self._worker())
            self._load(self.workers[-1])

    def _worker(self) -> Any:
        threads = self.share.cpus if self.share.gpus else 1
        return self.actor.remote(home(), self.share.device, self.share.neighbours, threads)

    def _load(self, worker: Any) -> None:
        self.running[worker.begin.remote(*self.models)] = _Call(worker)
        if self.task is not None:
            worker.prepare.remote(self.task)

    def _check(self, about: About) -> None:
        """See that a worker has the models of this process, on what the others have."""
        for label, digest in self.weights.items():
            if about.weights[label] != digest:
                raise ClusterError(f"The weights of {label} on {about.host} are others than here: copy the file there.")
        if self.about is not None and about.device != self.about.device:
            raise ClusterError(
                f"The cluster has workers on {self.about.device} and on {about.device}, which round differently: "
                "use one kind, or --device cpu."
            )
        self.about = self.about or about

    @property
    def _known(self) -> About:
        assert self.about is not None
        return self.about

    def _ask(self, method: str, *arguments: Any) -> Any:
        """What one worker says, the first that does."""
        asked = [getattr(worker, method).remote(*arguments) for worker in self.idle[:1] or self.workers]
        ready, _ = ray.wait(asked, timeout=PATIENCE)
        if not ready:
            raise ClusterError("The Ray cluster has no room for a worker; stop what else runs there.")
        try:
            return result(ready[0])
        except RayError as error:
            raise ClusterError(f"A Ray worker ended. {_last_line(error)}") from error


class RayShards:
    """The shards of a run in order, measured by all workers at once.

    Where a shard begins depends on how many images before it can be read. It is begun as if all could, except those
    that are known not to; what turns out to begin elsewhere is measured again.

    Args:
        engine: with its models.
        task: what is measured.
    """

    def __init__(self, engine: OnRay, task: Task) -> None:
        self.engine, self.task, self.batch = engine, task, BatchSize(task.batch_size)
        self.unreadable: set[int] = set()
        self.measured: dict[Place, tuple[Measured, Any]] = {}

    def shards(
        self,
        after: Shard | None = None,
        on_image: Callable[[int], None] = lambda done: None,
        on_unreadable: Callable[[int, str], None] = lambda place, error: None,
    ) -> Iterator[Shard]:
        """See `probes.core.runs.measure.Measurement.shards`."""
        number, first, start = (after.number + 1, after.first + after.count, after.stop) if after else (0, 0, 0)
        while start < len(self.task.images):
            self._hand_out((first, start))
            if (first, start) not in self.measured:
                for place, measured, sections in self.engine.wait():
                    self._take(place, measured, sections)
                continue
            measured, sections = self.measured.pop((first, start))
            try:
                shard = replace(measured.shard, number=number, sections=result(sections))
            except RayError as error:  # its machine is gone
                self.engine.lost((first, start), error)
                continue
            for entry in shard.entries:
                if entry.skipped:
                    on_unreadable(entry.place, entry.skipped)
            number, first, start = number + 1, first + shard.count, shard.stop
            if start < len(self.task.images):
                self._hand_out((first, start))
            on_image(start)
            yield shard

    def _hand_out(self, following: Place) -> None:
        """Keep the workers busy with what comes next."""
        under_way = {call.place for call in self.engine.running.values()} | self.measured.keys()
        for place in self._expected(following, AHEAD * len(self.engine.workers)):
            if not self.engine.idle:
                break
            if place not in under_way:
                self.engine.give(place)

    def _expected(self, following: Place, count: int) -> Iterator[Place]:
        """Where the next shards begin, as far as it is known which images can be read."""
        first, start = following
        for _ in range(count):
            if start >= len(self.task.images):
                return
            yield first, start
            found = 0
            while found < self.task.size and start < len(self.task.images):
                found += start not in self.unreadable
                start += 1
            first += found

    def _take(self, place: Place, measured: Measured, sections: Any) -> None:
        for absent in measured.absent:
            source = self.task.images[absent]
            if source.path is not None and source.path.exists():
                raise ClusterError(
                    f"{source.path.absolute()} is not there on {measured.host}: images have to lie in a folder that "
                    "all machines of the cluster see under the same path."
                )
        self.unreadable |= {entry.place for entry in measured.shard.entries if entry.skipped}
        self.batch.now = min(self.batch.now, measured.batch_size)
        self.measured[place] = measured, sections


def home() -> Path:
    """Where relative paths begin, here as for the workers."""
    return Path.cwd()


def result(reference: Any) -> Any:
    """What a call came to; an error of ours as it was raised there.

    Raises:
        RayError: the worker was lost.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error


def _last_line(error: RayError) -> str:
    return str(error).strip().splitlines()[-1].strip()
