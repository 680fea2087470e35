"""Shards folded side by side on the cores of a CPU, each by a thread with modules of its own.

A forward pass of a few images uses several cores badly: between its products lie hundreds of short steps that one core
does alone. Two threads that each have a core to themselves are never idle at the same time.
"""

import gc
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch

from model_zoo.adapter import Adapter
from model_zoo.memory import is_out_of_memory
from probes.core.base import Probe
from probes.core.memory import SHARE, free_on, image_bytes
from probes.core.runs.batch_size import held_bytes
from probes.core.runs.loader import Opened
from probes.core.runs.measure import Folding, Measurement, Shard

MOST = 4
MOST_BYTES = 256 * 2**20
"""Inputs of one shard; one more than there are lanes is in memory."""
WATCHES = frozenset({"attention", "tokens", "weights"})
"""What a probe may read whose passes another one need not wait for: it does not run the model itself."""
OFTEN = 0.2
"""Seconds between two looks at how far the lanes are."""


def lanes(
    models: Mapping[str, Adapter], probes: Mapping[str, Probe], size: int, batch: int = 1, neighbours: int = 1
) -> int:
    """How many shards are folded side by side, at most `MOST` and what fits into memory; 1 where that is not possible.

    Args:
        models: label to model.
        probes: name to probe.
        size: images of a shard.
        batch: images of a forward pass.
        neighbours: processes that share the memory.
    """
    adapters = list(models.values())
    shard = sum(size * 12 * adapter.input_size[0] * adapter.input_size[1] for adapter in adapters)
    free = all(probe.reads <= WATCHES for probe in probes.values())
    if shard > MOST_BYTES or not free or any(adapter.device.type != "cpu" for adapter in adapters):
        return 1
    each = sum(held_bytes(models, probes, size, batch).values()) + batch * max(map(image_bytes, adapters)) / SHARE
    return max(1, min(torch.get_num_threads(), MOST, int(free_on(adapters[0].device) / neighbours / each)))


@dataclass
class _Running:
    """A shard that is being folded: its images, the models that do it, and what comes of it."""

    shard: Shard
    opened: list[Opened]
    models: Mapping[str, Adapter]
    sections: "Future[dict[str, Any]]"


class SideBySide:
    """A measurement whose shards are folded by several threads; they come in order, the same as one after the other.

    Args:
        measurement: what is measured.
        count: threads.

    Attributes:
        batch: images of a forward pass.
    """

    def __init__(self, measurement: Measurement, count: int) -> None:
        self.measurement, self.count, self.batch = measurement, count, measurement.batch
        self._stop = Event()
        self._counts: dict[int, int] = {}  # images that are done, by number of the shard

    def shards(
        self,
        after: Shard | None = None,
        on_image: Callable[[int], None] = lambda done: None,
        on_unreadable: Callable[[int, str], None] = lambda place, error: None,
    ) -> Iterator[Shard]:
        """Measure one shard after another, see `Measurement.shards`; the next one is opened while others are folded."""
        asked = self.measurement
        begin = after.next() if after else Shard(0, 0, 0, 0)
        self._stop.clear()
        if len(asked.images) <= asked.size:  # whatever is left of more is folded as the rest of it was
            yield from asked.shards(after, on_image, on_unreadable)
            return
        threads = torch.get_num_threads()
        free = [asked.models, *({k: v.twin() for k, v in asked.models.items()} for _ in range(self.count - 1))]
        running: deque[_Running] = deque()
        opened = asked.loader().opened(begin.start)
        own = max(threads // self.count, 1)
        self._counts = {-1: begin.start}
        with ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(own,)) as pool:
            try:
                following = self._open(begin, opened, on_unreadable)
                while following or running:
                    if following and free:
                        shard, images = following
                        models = free.pop()
                        running.append(_Running(shard, images, models, pool.submit(self._fold, shard, images, models)))
                        following = self._open(shard.next(), opened, on_unreadable)
                        continue
                    first = running.popleft()
                    while not self._succeeded(first, on_image):
                        first.sections = pool.submit(self._fold, first.shard, first.opened, first.models)
                        gc.collect()  # the activations of what failed
                    free.append(first.models)
                    shard = first.shard
                    del first  # and with it the inputs
                    yield shard
            finally:
                self._stop.set()
                opened.close()
                torch.set_num_threads(threads)  # that of threads to come

    def _open(
        self, shard: Shard, opened: Iterator[Opened], on_unreadable: Callable[[int, str], None]
    ) -> tuple[Shard, list[Opened]] | None:
        """A shard's images; None where there are no more."""
        if shard.start == len(self.measurement.images):
            return None
        return shard, list(self.measurement.enter(shard, opened, on_unreadable))

    def _fold(self, shard: Shard, opened: list[Opened], models: Mapping[str, Adapter]) -> dict[str, Any]:
        folding, size = Folding(self.measurement, models, shard.first), self.batch.now
        for start in range(0, len(opened), size):
            if self._stop.is_set():
                break
            folding.take(opened[start : start + size])
            self._counts[shard.number] = min(start + size, len(opened))
        return folding.sections() if opened else {}

    def _succeeded(self, one: _Running, on_image: Callable[[int], None]) -> bool:
        """Wait for a shard; False where memory ran out and smaller batches are left to try."""
        while not wait([one.sections], OFTEN).done:
            on_image(sum(self._counts.copy().values()))
        try:
            one.shard.sections = one.sections.result()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or not self.batch.halve():
                raise
            return False
        on_image(sum(self._counts.copy().values()))
        return True
