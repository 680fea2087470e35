"""Figures on labelled images: each goes through the model once, and what is kept of it lies on disk.

A shard of images is measured and written at a time, by the machinery of :mod:`probes.core.runs`, so an evaluation that
is killed goes on. The figures are then taken from the shards, one after the other, as often as need be.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import probes
from model_zoo.adapter import Adapter, ModelSpec
from model_zoo.decoding import ImageError
from model_zoo.features import QUERIES, K, extract, fit_linear, nearest_classes
from model_zoo.images import ImageSource
from model_zoo.labels import LabelError
from probes.core.base import Probe
from probes.core.capture import Batch
from probes.core.evaluation.classes import classifier_outputs
from probes.core.evaluation.figures import Measured, Share, among_first
from probes.core.runs import identity, manifest, shards, stored
from probes.core.runs.batch_size import BatchSize, fitting
from probes.core.runs.folder import RUN, RunFolder, claimed
from probes.core.runs.loader import worker_count
from probes.core.runs.measure import Measurement
from probes.core.runs.progress import Progress

SHARD = 256
"""Images of a shard: what is measured again after a kill, and what is in memory at once."""
FIGURES = ("top1", "knn", "linear")
NAME = "evaluation"


@dataclass(frozen=True)
class Labelled:
    """Images and the name of each one's class."""

    images: Sequence[ImageSource] = ()
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Attributes:
        figures: of ``top1`` (with top-5), ``knn`` and ``linear``.
        bank: images that k-NN and linear probe stand on; of none, every second of each class among the measured ones
            that can be read, from the first, and the two are measured on the others.
        classes: a table of what the classifier's outputs are called, see :func:`classifier_outputs`.
        kind: ``cls`` or ``mean`` features; None takes the model's own, ``spec.features``.
        neighbours: k of k-NN.
        workers, batch_size: as for a run; None for what fits.
    """

    figures: Sequence[str] = FIGURES
    bank: Labelled = field(default_factory=Labelled)
    classes: Path | None = None
    kind: str | None = None
    neighbours: int = K
    workers: int | None = None
    batch_size: int | None = None


class ResumeError(ValueError):
    """An evaluation that was broken off was another; the message is one sentence for a person."""


def evaluate_images(
    adapter: Adapter,
    images: Sequence[ImageSource],
    names: Sequence[str],
    settings: Settings = Settings(),
    *,
    folder: RunFolder | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """What applies to labelled images: top-1 and top-5 of a model with a classifier, k-NN and linear probe.

    k-NN and linear probe need two classes, and without a bank of their own four images a class. Images that cannot be
    read are left out.

    Args:
        adapter: the model.
        images: the images.
        names: the class of each.
        settings: what is measured.
        folder: where features are kept until the end; None for a temporary one.
        resume: go on with what is in the folder.
        progress: told how far it is.

    Raises:
        ImageError: none can be read, or the bank lacks a class.
        LabelError: the classes are not the classifier's.
        ResumeError: what is in the folder was measured on something else.
    """
    answers = "top1" in settings.figures and adapter.spec.classes > 0
    if not answers and set(settings.figures) == {"top1"}:
        raise LabelError("The model has no classifier, so there is no top-1: ask for --figures knn linear.")
    # Where the classifier's outputs are known, images and bank may name a class in different ways.
    outputs = classifier_outputs(adapter, names, settings.classes) if answers else {}
    of_bank = (
        classifier_outputs(adapter, settings.bank.names, settings.classes) if outputs and settings.bank.names else {}
    )
    classes: list[Any] = [of_bank.get(name, name) for name in settings.bank.names]
    classes += [outputs.get(name, name) for name in names]
    order = {one: number for number, one in enumerate(sorted(set(classes)))}
    labels = torch.tensor([order[one] for one in classes], dtype=torch.int32)
    numbers = torch.tensor([outputs.get(name, -1) for name in names], dtype=torch.int32)
    first = len(settings.bank.images)
    held = set(classes[:first])
    if first and (missing := {name for name, one in zip(names, classes[first:], strict=True) if one not in held}):
        raise ImageError(
            f"The bank has no image of {len(missing)} classes that the images have, such as {min(missing)!r}: "
            "give a --bank with all of them, or leave it out."
        )
    with _place(folder) as place:
        whole = [*settings.bank.images, *images]
        parts = _measured(adapter, whole, settings, answers, place, resume, progress or Progress())
        store = _Store(parts, first, labels)
        if not store.count:
            raise ImageError(f"None of the {len(images)} images can be read. {store.error}")
        return _figures(store, labels, numbers, len(order), settings, answers, [one.name for one in whole])


def _figures(
    store: "_Store",
    labels: Tensor,
    numbers: Tensor,
    classes: int,
    settings: Settings,
    answers: bool,
    names: Sequence[str],
) -> Measured:
    top1, top5, knn, linear = Share(), Share(), Share(), Share()
    seen: set[int] = set()
    for part in store.parts:
        rows = part.places >= store.first
        places = torch.from_numpy(part.places[rows])
        seen |= set(labels[places].tolist())
        if answers:
            among = torch.from_numpy(part.read().order[rows])
            top1.add(among_first(among, numbers[places - store.first], 1))
            top5.add(among_first(among, numbers[places - store.first], 5))
    bank = None
    enough = len(seen) > 1 and (store.first > 0 or store.count >= 4 * len(seen))
    if enough and {"knn", "linear"} & set(settings.figures) and store.bank_size:
        bank = store.bank_size

        def known() -> Iterator[tuple[Tensor, Tensor]]:
            return store.blocks(labels, bank=True)

        if "knn" in settings.figures:
            for features, wanted in store.blocks(labels, bank=False):
                for some, right in zip(features.split(QUERIES), wanted.split(QUERIES), strict=True):
                    knn.add(nearest_classes(known(), some, classes, settings.neighbours) == right)
        if "linear" in settings.figures:
            probe = fit_linear(known)
            for features, wanted in store.blocks(labels, bank=False):
                linear.add(probe(features) == wanted)
    return Measured(
        n=store.count,
        top1=top1.value,
        top5=top5.value,
        knn=knn.value,
        linear=linear.value,
        features=store.parts[0].read().kind,
        bank=bank,
        unreadable=[names[place] for place in store.skipped] or None,
    )


@dataclass
class _Codes:
    """What is kept of a shard's images.

    Attributes:
        kind: of the features.
        features: (images, channels) a batch.
        order: (images, up to 5) a batch, the classifier's first answers; empty where they are not asked for.
    """

    kind: str = ""
    features: list[np.ndarray] = field(default_factory=list)
    order: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class _Coding(Probe):
    """Features and first answers of every image, in order."""

    kind: str | None
    answers: bool
    title: ClassVar[str] = "Features"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})

    def init(self, spec: ModelSpec) -> _Codes:
        """Nothing yet."""
        return _Codes()

    def update(self, state: _Codes, seen: Batch) -> _Codes:
        """Take in a batch."""
        code = extract(seen.adapter.module, seen.inputs, logits=self.answers)
        state.kind = self.kind or (seen.adapter.spec.features if "cls" in code else "mean")
        state.features.append(code[state.kind].cpu().numpy().copy())
        if self.answers:
            logits = code["logits"]
            state.order.append(logits.topk(min(5, logits.shape[1])).indices.int().cpu().numpy())
        return state

    def merge(self, a: _Codes, b: _Codes) -> _Codes:
        """The images of a, then those of b."""
        return _Codes(a.kind or b.kind, a.features + b.features, a.order + b.order)

    def compute(self, state: _Codes) -> xr.Dataset:
        """The features."""
        return xr.Dataset({"features": (("image", "feature"), np.concatenate(state.features))})


@dataclass(frozen=True)
class _Read:
    kind: str
    features: np.ndarray
    order: np.ndarray


@dataclass(frozen=True)
class _Part:
    """A shard on disk: its file, the place of each image that can be read, and the places of the others."""

    path: Path
    places: np.ndarray
    skipped: tuple[int, ...]
    error: str

    def read(self) -> _Read:
        codes = stored.read(self.path, f"state/{NAME}/model")
        order = np.concatenate(codes.order) if codes.order else np.zeros((len(self.places), 0))
        return _Read(codes.kind, np.concatenate(codes.features), order)


class _Store:
    """Features on disk; of them a shard and a block are in memory at a time.

    Attributes:
        parts: shards that hold images.
        first: place of the first measured image, after those of a bank.
        count: measured images that can be read.
        bank: places of the bank's images that can be read.
        bank_size: how many they are.
        skipped: places of the images that cannot.
    """

    def __init__(self, parts: Sequence[_Part], first: int, labels: Tensor) -> None:
        self.parts = [part for part in parts if len(part.places)]
        self.first = first
        self.count = sum(int((part.places >= first).sum()) for part in parts)
        places = np.concatenate([part.places for part in parts]) if parts else np.zeros(0, np.int64)
        bank = places < first if first else every_second(labels[torch.from_numpy(places)].numpy())
        self.bank = places[bank]  # in order
        self.bank_size = len(self.bank)
        self.skipped = [place for part in parts for place in part.skipped]
        self.error = next((part.error for part in parts if part.error), "")

    def blocks(self, labels: Tensor, *, bank: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and classes of the bank, or of what is measured with it, a good ``QUERIES`` at a time."""
        features: list[Tensor] = []
        classes: list[Tensor] = []
        for part in self.parts:
            rows = np.isin(part.places, self.bank, invert=not bank)
            if rows.any():
                features.append(torch.from_numpy(part.read().features[rows]))
                classes.append(labels[torch.from_numpy(part.places[rows])].long())
            if sum(map(len, classes)) >= QUERIES:
                yield torch.cat(features), torch.cat(classes)
                features, classes = [], []
        if classes:
            yield torch.cat(features), torch.cat(classes)


@contextmanager
def _place(folder: RunFolder | None) -> Iterator[RunFolder]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="evaluate-") as place, claimed(Path(place) / "figures") as claim:
        yield claim


def _measured(
    adapter: Adapter,
    images: Sequence[ImageSource],
    settings: Settings,
    answers: bool,
    folder: RunFolder,
    resume: bool,
    progress: Progress,
) -> list[_Part]:
    """Run the model over the images that are not there yet; the shards of all."""
    asked = {
        "the model": adapter.reference.source if adapter.reference else adapter.spec.name,
        "the images": hashlib.sha256("\0".join(image.name for image in images).encode()).hexdigest(),
        "the bank": len(settings.bank.images),
        "--features": settings.kind,
        "--figures": answers,
        "the code of this program": identity.code(probes.available()),
        "the versions of packages": identity.versions(),
    }
    _begin(folder, asked, resume, progress)
    coding = _Coding(settings.kind, answers)
    device = adapter.device
    kept = shards.found(folder, 0)
    before = kept[-1] if kept else None
    provenance = shards.Provenance(
        manifest.key(asked), {"model": adapter.digest}, {"model": "float32"}, str(device), SHARD
    )
    for one in kept:
        if one.provenance != provenance:
            raise ResumeError(_cannot("the weights or the device are not those that were measured"))
    if (name := manifest.changed(shards.entries(kept), images)) is not None:
        raise ResumeError(_cannot(f"the image {name} is not what was measured"))
    parts = [_part(one) for one in kept]
    if before is not None:
        progress.say(f"{before.shard.stop} of {len(images)} images are there already")
    last = before.shard if before is not None else None
    del kept  # it holds digests of all files
    batch = BatchSize(settings.batch_size or (before.batch_size if before else fitting([adapter])))
    measurement = Measurement(
        {"model": adapter}, images, {NAME: coding}, {"model": "float32"}, SHARD, batch,
        workers=worker_count(settings.workers, len(images), device), in_worker=lambda: os.close(folder.descriptor),
    )  # fmt: skip
    measured = measurement.shards(last, lambda place: progress.step(place, len(images)))
    parts.extend(_part(shards.write(folder, 0, shard, provenance, batch.now)) for shard in measured)
    progress.end()
    return parts


def _begin(folder: RunFolder, asked: Mapping[str, Any], resume: bool, progress: Progress) -> None:
    """Go on where an evaluation was broken off, or clear what it left."""
    old = folder.read_json(RUN)
    if resume and old is not None:
        for what, now in asked.items():
            if old.get(what) != now:
                raise ResumeError(_cannot(f"{what} changed"))
        return
    if any(folder.path.glob("*.npz")):
        progress.say("What an evaluation that was broken off had measured is discarded; --resume would have kept it.")
    folder.empty()
    folder.write_json(RUN, dict(asked))


def _part(kept: shards.Kept) -> _Part:
    """What is remembered of a shard, without the digests of its files."""
    entries = kept.shard.entries
    places = np.array([entry.place for entry in entries if not entry.skipped], np.int64)
    skipped = tuple(entry.place for entry in entries if entry.skipped)
    error = next((entry.skipped for entry in entries if entry.skipped), "")
    return _Part(kept.path, places, skipped, error)


def every_second(labels: np.ndarray) -> np.ndarray:
    """Which images are the first, third, fifth … of their class: boolean (images,)."""
    order = np.argsort(labels, kind="stable")
    _, begins, counts = np.unique(labels[order], return_index=True, return_counts=True)
    second = np.zeros(len(labels), dtype=bool)
    second[order] = (np.arange(len(labels)) - np.repeat(begins, counts)) % 2 == 0
    return second


def _cannot(why: str) -> str:
    return f"--resume cannot go on with what was broken off: {why}. Ask for the same, or leave --resume out."
