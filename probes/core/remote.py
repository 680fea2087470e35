"""One pass of models over a few images, run by a worker of a Ray cluster while somebody here waits, and may stop it."""

import atexit
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from PIL import Image

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from model_zoo.input_size import ImageSize
from model_zoo.loading import Zoo
from model_zoo.reference import ModelReference
from probes.core import cluster, runner
from probes.core.base import Probe
from probes.core.cluster import ClusterError
from probes.core.runner import Progress, Results

TRIES = 2
INTERVAL = 0.2
"""Seconds between two looks at how far a pass is."""
ENDING = 60.0
"""Seconds that a pass which was stopped may take to end its batch, before its worker is ended."""


class Stopped(Exception):  # noqa: N818 - it is not an error
    """Raised inside a pass that nobody waits for any more."""


class Worker:
    """Passes in a process of the cluster; its models stay in memory under a budget.

    Args:
        budget_bytes: what loaded models may take.
        device: where they lie.
        threads: of a forward pass on a CPU.
    """

    def __init__(self, budget_bytes: int, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.zoo = Zoo(budget_bytes, device)
        self.done, self.total, self.stopped = 0, 0, False

    def run(
        self,
        models: Mapping[str, tuple[ModelReference, ImageSize | None]],
        images: Sequence[ImageSource],
        probes: Mapping[str, Probe],
    ) -> Results:
        """See `probes.core.runner.run`."""
        self.done, self.total, self.stopped = 0, len(models) * len(images), False
        with ExitStack() as stack:
            adapters = {
                label: stack.enter_context(self.zoo.lease(reference, image_size=size, on_progress=self._load))
                for label, (reference, size) in models.items()
            }
            return runner.run(adapters, images, probes, on_progress=self._step)

    def progress(self) -> tuple[int, int]:
        """Images×models done and in all."""
        return self.done, self.total

    def stop(self) -> None:
        """End the pass after the batch that is under way."""
        self.stopped = True

    def _load(self, stage: str, done: int, total: int | None) -> None:
        if self.stopped:
            raise Stopped

    def _step(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if self.stopped:
            raise Stopped


class Passes:
    """Workers of a cluster, each with one pass at a time; whoever comes when all are busy waits.

    Args:
        most: workers.
        budget_bytes: what loaded models may take in each.
    """

    def __init__(self, most: int, budget_bytes: int) -> None:
        self.most, self.budget_bytes = most, budget_bytes
        self._free: SimpleQueue[Any] = SimpleQueue()
        self._lock = threading.Lock()
        self._make: Callable[[], Any] | None = None

    def run(
        self,
        models: Mapping[str, Adapter],
        images: Sequence[ImageSource],
        probes: Mapping[str, Probe],
        *,
        on_progress: Progress,
    ) -> Results:
        """`probes.core.runner.run` in a worker.

        Images go there as pixels, models by name; one that was trained in this process stays here.

        Raises:
            ClusterError: there is no cluster to be had, or the worker was lost twice.
        """
        references = {label: adapter.reference for label, adapter in models.items()}
        if any(reference is None or reference.weights == "trained" for reference in references.values()):
            return runner.run(models, images, probes, on_progress=on_progress)
        named = {label: (references[label], adapter.image_size) for label, adapter in models.items()}
        asked = named, [held(image) for image in images], {name: _held(probe) for name, probe in probes.items()}
        make = self._connected()
        for _ in range(TRIES):
            worker = self._free.get()
            try:
                return _followed(worker, asked, on_progress)
            except _Lost:
                worker = make()
            finally:
                self._free.put(worker)
        raise ClusterError("The worker was lost twice, perhaps for want of memory: compare fewer models.")

    def _connected(self) -> Callable[[], Any]:
        """Makes a worker; the cluster is joined once, and left when this process ends."""
        with self._lock:
            if self._make is None:
                stack = ExitStack()
                stack.enter_context(cluster.connected())
                atexit.register(stack.close)
                share = cluster.share(self.most, "auto")
                threads = max(1, cluster.processors() // share.count)

                import ray

                actor = ray.remote(Worker).options(num_cpus=share.cpus, num_gpus=share.gpus, max_concurrency=2)
                self._make = partial(actor.remote, self.budget_bytes, share.device, threads)
                for _ in range(share.count):
                    self._free.put(self._make())
            return self._make


class _Lost(Exception):  # noqa: N818 - it is not shown
    """The worker ended."""


def _followed(worker: Any, asked: tuple[Any, ...], on_progress: Progress) -> Results:
    """Start a pass, say how far it is, and stop it where that raises."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    running = worker.run.remote(*asked)
    how_far = 0, len(asked[0]) * len(asked[1])
    try:
        while not ray.wait([running], timeout=INTERVAL)[0]:
            look = worker.progress.remote()
            if ray.wait([look], timeout=INTERVAL)[0]:
                how_far = ray.get(look)
            on_progress(*how_far)
        found: Results = ray.get(running)
        return found
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise _Lost from error
    except BaseException:
        worker.stop.remote()
        ray.wait([running], timeout=ENDING)
        raise


def held(image: ImageSource) -> ImageSource:
    """An image with its pixels in memory, which can go to another process."""
    mask = None if image.mask is None else partial(np.copy, image.mask())
    return ImageSource(image.name, partial(Image.Image.copy, image.open()), mask)


def _held(probe: Probe) -> Probe:
    of = getattr(probe, "of", None)
    return replace(probe, of=held(of)) if isinstance(of, ImageSource) else probe  # type: ignore[type-var]
