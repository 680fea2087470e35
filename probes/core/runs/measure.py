"""Folding probes over images shard by shard: a shard is measured by itself, and is all that is kept of its images."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import gcd
from typing import Any

import torch

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from model_zoo.memory import is_out_of_memory
from probes.core.base import PairProbe, Probe
from probes.core.capture import Batch, same_device
from probes.core.precision import Chosen, autocast
from probes.core.runner import Fold
from probes.core.runs.batch_size import BatchSize
from probes.core.runs.identity import FileIdentity
from probes.core.runs.loader import Loader, Opened, preprocessing
from probes.core.runs.reference import show

SMALLEST = 64
LARGEST = 4096


@dataclass(frozen=True)
class Entry:
    """An image of a shard: its place and name, the file, and why it was left out, empty where it was measured."""

    place: int
    name: str
    file: FileIdentity | None
    skipped: str = ""


@dataclass
class Shard:
    """Consecutive images, measured by themselves.

    Attributes:
        number: of the shard, from 0.
        first: number of its first image among those that can be read.
        start, stop: places it covers.
        entries: its images in order, those that cannot be read too.
        sections: ``state/PROBE/LABEL``, the folded state; ``result/PROBE/LABEL``, the dataset of a probe whose results
            are by image; ``pair/PROBE/LABEL_A+LABEL_B``, the state of a comparison.
    """

    number: int
    first: int
    start: int
    stop: int
    entries: list[Entry] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Images that were measured."""
        return sum(not entry.skipped for entry in self.entries)

    def next(self) -> "Shard":
        """The one that begins where it ends, with nothing in it."""
        return Shard(self.number + 1, self.first + self.count, self.stop, self.stop)


def shard_size(probes: Mapping[str, Probe], batch_size: int) -> int:
    """Images of a shard: enough for a batch, and whole minibatches of every probe that has such."""
    together = 1
    for probe in probes.values():
        minibatch = int(getattr(probe, "minibatch", 1))
        common = together * minibatch // gcd(together, minibatch)
        together = common if common <= LARGEST else max(together, minibatch)
    return together * max(1, -(-max(SMALLEST, batch_size) // together))


def in_shards(probes: Mapping[str, Probe]) -> dict[str, Probe]:
    """The probes that see images."""
    return {name: probe for name, probe in probes.items() if probe.reads != {"weights"}}


@dataclass
class Measurement:
    """What is measured on what.

    Attributes:
        models: label to model; all go over an image together, so that it is opened once.
        images: the images.
        probes: name to probe, those that see images.
        dtypes: label to the type of its forward passes.
        size: images of a shard.
        batch: images of a forward pass.
        workers: decoding processes.
        in_worker: called in each of them as it begins.
    """

    models: Mapping[str, Adapter]
    images: Sequence[ImageSource]
    probes: Mapping[str, Probe]
    dtypes: Mapping[str, Chosen]
    size: int
    batch: BatchSize
    workers: int = 0
    in_worker: Callable[[], object] = lambda: None

    def shards(
        self,
        after: Shard | None = None,
        on_image: Callable[[int], None] = lambda done: None,
        on_unreadable: Callable[[int, str], None] = lambda place, error: None,
    ) -> Iterator[Shard]:
        """Measure one shard after another.

        A shard is folded from nothing. Where memory runs out in the middle of one, it is begun again with half the
        batch size, so that no image counts twice.

        Args:
            after: the last shard that is there already.
            on_image: called with the images that are done.
            on_unreadable: called with the place and the error of an image that is left out; it may raise to stop.
        """
        loader = self.loader()
        begin = after.next() if after else Shard(0, 0, 0, 0)
        opened = loader.opened(begin.start)
        while begin.start < len(self.images):
            shard = None
            try:
                shard = self._shard(begin, opened, on_image, on_unreadable)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or not self.batch.halve():
                    raise
            if shard is None:  # outside of the handler, whose traceback holds on to the activations
                begin = Shard(begin.number, begin.first, begin.start, begin.start)
                opened.close()
                gc.collect()
                opened = loader.opened(begin.start)
                continue
            yield shard
            begin = shard.next()
        opened.close()

    def loader(self) -> Loader:
        """What opens the images."""
        return Loader(self.models, self.images, self.workers, self.in_worker)

    def _shard(
        self,
        shard: Shard,
        opened: Iterator[Opened],
        on_image: Callable[[int], None],
        on_unreadable: Callable[[int, str], None],
    ) -> Shard:
        folding = Folding(self, self.models, shard.first)
        waiting: list[Opened] = []
        for one in self.enter(shard, opened, on_unreadable):
            waiting.append(one)
            if len(waiting) == self.batch.now or shard.count == self.size:
                folding.take(waiting)
                waiting = []
                on_image(shard.stop)
        if waiting:
            folding.take(waiting)
        on_image(shard.stop)
        if shard.count:
            shard.sections = folding.sections()
        return shard

    def enter(
        self, shard: Shard, opened: Iterator[Opened], on_unreadable: Callable[[int, str], None]
    ) -> Iterator[Opened]:
        """The images of a shard that can be read, until it is full; all of them are noted in it."""
        for one in opened:
            shard.entries.append(Entry(one.place, self.images[one.place].name, one.file, one.error or ""))
            shard.stop = one.place + 1
            if one.error is not None:
                on_unreadable(one.place, one.error)
                continue
            yield one
            if shard.count == self.size:
                return


class Folding:
    """All probes of all models over one shard.

    Args:
        asked: what is measured.
        models: its models, or twins of them.
        first: number of the shard's first image.
    """

    def __init__(self, asked: Measurement, models: Mapping[str, Adapter], first: int) -> None:
        self.asked, self.models, self.next = asked, models, first
        self.folds = {label: Fold(adapter, asked.probes) for label, adapter in models.items()}
        for label, fold in self.folds.items():
            show(fold, asked.images, asked.dtypes[label])
        self.pairs: dict[tuple[str, str, str], Any] = {}

    def take(self, opened: Sequence[Opened]) -> None:
        """Run every model on a batch."""
        images = range(self.next, self.next + len(opened))
        self.next = images.stop
        stacked: dict[str, torch.Tensor] = {}
        for label, adapter in self.models.items():
            if not self.folds[label].needs_images:
                continue
            name = preprocessing(adapter)
            if name not in stacked:
                stacked[name] = same_device(adapter, torch.stack([one.inputs[name] for one in opened]))
            pictures = [one.picture for one in opened if one.picture is not None]
            sources = [self.asked.images[one.place] for one in opened]
            masks, labels = [source.mask for source in sources], [source.label for source in sources]
            with torch.inference_mode(), autocast(adapter, self.asked.dtypes[label]):
                self.folds[label].take(Batch(adapter, images, stacked[name], pictures, masks, labels))
        for name, probe in self.asked.probes.items():
            if isinstance(probe, PairProbe):
                self._compare(name, probe)

    def _compare(self, name: str, probe: PairProbe) -> None:
        states = {label: state for label, _, state in self._states(name)}
        for a, b in combinations(states, 2):
            pair = self.pairs.get((name, a, b))
            pair = probe.init_pair(states[a], states[b]) if pair is None else pair
            self.pairs[name, a, b] = probe.update_pair(pair, states[a], states[b])

    def _states(self, name: str | None = None) -> Iterator[tuple[str, Any, Any]]:
        for label, fold in self.folds.items():
            for reader in fold.readers:
                if name in (None, reader.name):
                    yield label, reader, reader.state

    def sections(self) -> dict[str, Any]:
        """What is kept of the shard."""
        kept: dict[str, Any] = {}
        for label, reader, state in self._states():
            if reader.probe.per_image:
                kept[f"result/{reader.name}/{label}"] = reader.probe.compute(state)
            else:
                kept[f"state/{reader.name}/{label}"] = state
        return kept | {f"pair/{name}/{a}+{b}": pair for (name, a, b), pair in self.pairs.items()}
