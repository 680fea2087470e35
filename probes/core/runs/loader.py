"""Images opened and prepared ahead of the models, in processes of their own, in order and a bounded number at once."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model_zoo import decoding
from model_zoo.adapter import Adapter
from model_zoo.decoding import ImageError
from model_zoo.images import ImageSource
from probes.core.capture import Picture
from probes.core.runs.identity import FileIdentity, identify, untouched

CHUNK = 4
"""Images that a process hands over at once."""
FEW = 48
"""So few images are opened in this process: to begin others would take longer."""
MOST_WORKERS = 16
ATTEMPTS = 3


class WorkerError(RuntimeError):
    """A decoding process ended; the message is one sentence for a person."""


@dataclass(frozen=True)
class Opened:
    """One image on its way to the models.

    Attributes:
        place: its place among the images.
        file: the file it was read from, None for what is drawn or could not be read at all.
        picture: the original's size, None where it cannot be opened.
        error: why it cannot be opened.
        inputs: the model's input for every preprocessing.
    """

    place: int
    file: FileIdentity | None
    picture: Picture | None
    error: str | None
    inputs: Mapping[str, Tensor]


def preprocessing(adapter: Adapter) -> str:
    """A name that models share whose inputs are the same."""
    kind = type(adapter)
    return f"{kind.__module__}.{kind.__qualname__} {adapter.image_size} {sorted(adapter.config.items())}"


def worker_count(asked: int | None, images: int, device: torch.device) -> int:
    """Decoding processes: what is asked for, none for few images, else a share of the cores.

    A GPU leaves the cores to decoding. On a CPU they are the model's; a quarter of them keeps it fed.
    """
    if asked is not None:
        return min(asked, os.cpu_count() or 1)
    if images < FEW or sys.platform != "linux":
        return 0
    cores = len(os.sched_getaffinity(0))
    return min(MOST_WORKERS, cores if device.type == "cuda" else max(1, cores // 4))


class Loader:
    """The images of a run for a set of models.

    Args:
        models: each image is opened once and made into the input of every one.
        images: the images.
        workers: decoding processes; 0 for this one.
        in_worker: called in each of them as it begins.
    """

    def __init__(
        self,
        models: Mapping[str, Adapter],
        images: Sequence[ImageSource],
        workers: int,
        in_worker: Callable[[], object] = lambda: None,
    ) -> None:
        prepare = {preprocessing(adapter): adapter for adapter in models.values()}
        for adapter in prepare.values():
            _ = adapter.transform  # made before processes are forked
        self.chunks = _Chunks(images, {name: adapter.preprocess for name, adapter in prepare.items()})
        self.workers, self.in_worker = workers, in_worker

    def opened(self, start: int = 0) -> Generator[Opened, None, None]:
        """The images from a place on, in order.

        Raises:
            WorkerError: a decoding process was ended from outside.
        """
        places = range(start, len(self.chunks.images), CHUNK)
        chunks = [range(first, min(first + CHUNK, len(self.chunks.images))) for first in places]
        settings: dict[str, Any] = {"batch_size": None, "sampler": chunks, "num_workers": self.workers}
        if self.workers:
            context = multiprocessing.get_context("fork")
            settings |= {"multiprocessing_context": context, "prefetch_factor": 2}
            settings["worker_init_fn"] = _Begin(self.in_worker, context.Lock())
        try:
            for metas, inputs in DataLoader(self.chunks, **settings):
                row = 0
                for place, file, size, error in metas:
                    if size is None:
                        yield Opened(place, file, None, error, {})
                        continue
                    yield Opened(place, file, Picture(size), None, {name: x[row] for name, x in inputs.items()})
                    row += 1
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise WorkerError(
                "A process that opens images was ended from outside, perhaps for want of memory; "
                "go on with --resume and fewer --workers."
            ) from None


class _Begin:
    """What a decoding process does first."""

    def __init__(self, in_worker: Callable[[], object], lock: Any) -> None:
        self.in_worker, self.lock = in_worker, lock

    def __call__(self, worker: int) -> None:
        decoding.one_large_at_a_time(self.lock)
        self.in_worker()


class _Chunks(Dataset):
    """Chunks of images by their places; what comes back is made of tuples and tensors, for it crosses processes."""

    def __init__(self, images: Sequence[ImageSource], prepare: Mapping[str, Callable[[Image.Image], Tensor]]) -> None:
        self.images, self.prepare = images, prepare

    def __getitem__(self, places: Any) -> tuple[list[tuple[Any, ...]], dict[str, Tensor]]:
        metas: list[tuple[Any, ...]] = []
        inputs: dict[str, list[Tensor]] = {name: [] for name in self.prepare}
        for place in places:
            file, picture, error = _open(self.images[place])
            if picture is None:
                metas.append((place, file, None, error))
                continue
            for name, prepare in self.prepare.items():
                inputs[name].append(prepare(picture))
            metas.append((place, file, picture.size, None))
        return metas, {name: torch.stack(rows) for name, rows in inputs.items() if rows}


def _open(source: ImageSource) -> tuple[FileIdentity | None, Image.Image | None, str | None]:
    """The file that a picture was read from, the picture, and why there is none."""
    file = None
    try:
        for _ in range(ATTEMPTS):
            if source.path is not None and source.path.stat().st_size <= decoding.MAX_BYTES:
                file = identify(source.path)
            picture = source.open()
            if file is None or untouched(file):
                return file, picture, None
        return file, None, f"{source.name} is written to while it is read; measure it when it is finished."
    except ImageError as error:
        return file, None, str(error)
    except OSError as error:
        return file, None, f"{source.name} cannot be read: {error.strerror or error}."
