"""One forward pass per model and batch, shared by every probe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model_zoo.adapter import Adapter
from model_zoo.decoding import ImageError
from model_zoo.images import ImageSource
from probes.core.attention import Attention, AttentionRows
from probes.core.base import PairProbe, Probe
from probes.core.capture import Batch, Picture, Tokens, Weights, forward, ready_to_copy, same_device
from probes.core.precision import Dtype, autocast, choose

Results = dict[str, dict[str, xr.Dataset]]
Progress = Callable[[float, int], None]
Unreadable = Callable[[int, ImageError], None]


def run(
    models: Mapping[str, Adapter],
    images: Sequence[ImageSource],
    probes: Mapping[str, Probe],
    *,
    batch_size: int = 8,
    dtype: Dtype = "auto",
    on_progress: Progress | None = None,
    on_unreadable: Unreadable | None = None,
) -> Results:
    """Fold every probe over the images, for every model.

    Batches are the outer loop and models the inner one, so that each image is opened once; the next batch is opened
    while this one runs. Memory does not grow with the number of images beyond what the results hold, and one opened
    image at a time is in it.

    Args:
        models: label to model.
        images: the images; opened when needed.
        probes: name to probe.
        batch_size: images in a forward pass.
        dtype: of forward passes: ``float32``, ``bfloat16`` (autocast) or ``auto``, see `probes.core.precision.choose`.
            Gradients are taken in float32. Every result's attribute ``dtype`` says which it was.
        on_progress: called with images×models done and in all; it may raise to cancel. Long work of a batch counts as a
            part of its images.
        on_unreadable: called with the place and the error of an image that cannot be opened, which is left out: the
            others are numbered without it, and the results' attribute ``unreadable`` names it. None raises the error.

    Returns:
        ``result[probe][label]``, and ``result[probe][label_a+label_b]`` for every two models of a probe that compares
        models; a Dataset without variables and with ``attrs["undefined"]`` where a probe is not defined for a model.

    Raises:
        ImageError: an image cannot be opened and ``on_unreadable`` is None, or none can.
    """
    if not images and any(probe.reads - {"weights"} for probe in probes.values()):
        raise ValueError("There is no image to measure; give at least one.")
    folds = {label: Fold(adapter, probes) for label, adapter in models.items()}
    chosen = {label: choose(dtype, adapter, len(images)) for label, adapter in models.items()}
    wanted = {label: adapter for label, adapter in models.items() if folds[label].needs_images}
    pairs = [_Pair(n, p, (a, b), folds) for n, p in probes.items() if p.pairs for a, b in combinations(models, 2)]
    total, done = len(images) * len(wanted), 0
    names: list[str] = []
    unreadable: list[str] = []
    first: ImageError | None = None
    for ready in _batches(wanted, images, batch_size) if wanted else ():
        for place, error in ready.errors.items():
            if on_unreadable is None:
                raise error
            on_unreadable(place, error)
            first = first or error
            unreadable.append(images[place].name)
        batch = range(len(names), len(names) + len(ready.sources))
        names += [source.name for source in ready.sources]
        for label, adapter in wanted.items():
            if batch:
                with torch.inference_mode(), autocast(adapter, chosen[label]):
                    folds[label].take(ready.of(label, adapter, batch, _within(on_progress, done, len(batch), total)))
            done += len(ready.sources) + len(ready.errors)
            if on_progress:
                on_progress(done, total)
        for pair in pairs if batch else ():
            pair.update()
    if unreadable and not names:
        raise ImageError(f"None of the {len(images)} images can be read. {first}")
    results: Results = {name: {} for name in probes}
    for label, fold in folds.items():
        for name, dataset in fold.compute().items():
            if "image" in dataset.dims:
                dataset = dataset.assign_coords(image_name=("image", [names[i] for i in dataset["image"].values]))
            reference = models[label].reference
            dtype = chosen[label] if probes[name].autocasts else "float32"
            dataset.attrs |= {"model": reference.source if reference else label, "dtype": dtype}
            if unreadable and probes[name].reads != {"weights"}:
                dataset.attrs["unreadable"] = unreadable
            results[name][label] = dataset
    for pair in pairs:
        compared = pair.compute(results[pair.name])
        if unreadable:
            compared.attrs["unreadable"] = unreadable
        results[pair.name]["+".join(pair.labels)] = compared
    return results


def bfloat16_differences(
    adapter: Adapter, image: ImageSource, probes: Mapping[str, Probe]
) -> dict[str, dict[str, float]]:
    """Largest absolute difference that bfloat16 makes, per probe and variable, measured on one image."""
    first = {"model": adapter}
    low = run(first, [image], probes, dtype="bfloat16")
    high = run(first, [image], probes, dtype="float32")
    return {
        name: {
            str(variable): float(np.nanmax(np.abs(low[name]["model"][variable] - values)))
            for variable, values in high[name]["model"].data_vars.items()
            if values.dtype.kind == "f" and np.isfinite(values).any()
        }
        for name in probes
    }


def _within(on_progress: Progress | None, done: int, images: int, total: int) -> Callable[[float], None]:
    """What tells of a share of a batch as a part of the run."""
    if on_progress is None:
        return lambda share: None
    return lambda share: on_progress(done + share * images, total)


@dataclass(frozen=True)
class _Ready:
    """Images opened for a batch, their inputs for every model, and the errors of those that cannot be, by place."""

    sources: list[ImageSource]
    originals: list[Picture]
    inputs: dict[str, Tensor]
    errors: dict[int, ImageError]

    def of(self, label: str, adapter: Adapter, images: range, report: Callable[[float], None]) -> Batch:
        masks = [source.mask for source in self.sources]
        labels = [source.label for source in self.sources]
        inputs = same_device(adapter, self.inputs[label])
        return Batch(adapter, images, inputs, self.originals, masks, labels, report)


def _batches(models: Mapping[str, Adapter], images: Sequence[ImageSource], size: int) -> Iterator[_Ready]:
    """Batches in the order of the images; one is prepared ahead."""

    def prepare(batch: range) -> _Ready:
        opened: list[tuple[ImageSource, Picture, dict[str, Tensor]]] = []
        errors: dict[int, ImageError] = {}
        for place in batch:
            try:
                opened.append((images[place], *_prepared(images[place], models)))
            except ImageError as error:
                errors[place] = error
        inputs = {
            label: ready_to_copy(adapter, torch.stack([made[label] for _, _, made in opened]))
            for label, adapter in models.items()
            if opened
        }
        return _Ready([source for source, _, _ in opened], [picture for _, picture, _ in opened], inputs, errors)

    ranges = [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    with ThreadPoolExecutor(1, thread_name_prefix="images") as pool:
        ahead = pool.submit(prepare, ranges[0])
        for following in [*ranges[1:], None]:
            ready = ahead.result()
            if following is not None:
                ahead = pool.submit(prepare, following)
            yield ready


def _prepared(source: ImageSource, models: Mapping[str, Adapter]) -> tuple[Picture, dict[str, Tensor]]:
    """Open an image and make every model's input of it; of the image itself, which may be large, nothing stays."""
    original = source.open()
    return Picture(original.size), {label: adapter.preprocess(original) for label, adapter in models.items()}


@dataclass
class _Reader:
    """A probe that is defined for the model, and its state so far."""

    name: str
    probe: Probe
    state: Any

    def update(self, seen: Any) -> None:
        self.state = self.probe.update(self.state, seen)


class _Pair:
    """One probe that compares two models."""

    def __init__(self, name: str, probe: Probe, labels: tuple[str, str], folds: Mapping[str, "Fold"]) -> None:
        self.name, self.probe, self.labels = name, probe, labels
        self.readers = [reader for label in labels for reader in folds[label].readers if reader.name == name]
        self.state: Any = None

    def update(self) -> None:
        if isinstance(self.probe, PairProbe) and len(self.readers) == 2:
            a, b = (reader.state for reader in self.readers)
            self.state = self.probe.update_pair(self.state or self.probe.init_pair(a, b), a, b)

    def compute(self, alone: Mapping[str, xr.Dataset]) -> xr.Dataset:
        if not isinstance(self.probe, PairProbe) or self.state is None:
            reasons = (alone[label].attrs.get("undefined") for label in self.labels)
            return xr.Dataset(attrs={"undefined": next(filter(None, reasons), "there was no image to compare with")})
        result = self.probe.compute_pair(self.state, *(reader.state for reader in self.readers))
        first, second = (alone[label].attrs for label in self.labels)
        result.attrs |= {"model_a": first["model"], "model_b": second["model"]}
        return result.assign_attrs(dtype_a=first["dtype"], dtype_b=second["dtype"])


class Fold:
    """All probes of one model."""

    def __init__(self, adapter: Adapter, probes: Mapping[str, Probe]) -> None:
        self.adapter, spec = adapter, adapter.spec
        self.undefined = {n: reason for n, p in probes.items() if (reason := p.undefined(spec)) is not None}
        self.readers = [_Reader(n, p, p.init(spec)) for n, p in probes.items() if n not in self.undefined]
        for reader in self._reading("weights"):
            reader.update(Weights(adapter))
        self.needs_images = any(reader.probe.reads - {"weights"} for reader in self.readers)
        self.taps = {reader.name: frozenset(reader.probe.taps(spec)) for reader in self._reading("tokens")}
        self.points = {p: None for r in self._reading("tokens") for p in r.probe.taps(spec)}

    def _reading(self, kind: str) -> list[_Reader]:
        return [reader for reader in self.readers if kind in reader.probe.reads]

    def take(self, batch: Batch) -> None:
        """Run the model once on a batch and update every probe."""
        attentive, tokens = self._reading("attention"), self._reading("tokens")
        if attentive or tokens:
            forward(
                self.adapter,
                batch.inputs,
                batch.images,
                on_attention=(lambda seen: self._attention(attentive, seen)) if attentive else None,
                on_tokens=lambda seen: self._tokens(tokens, seen),
                points=self.points,
                geometries=batch.geometries,
            )
        for reader in self._reading("batch"):
            reader.update(batch)

    def _attention(self, readers: list[_Reader], attention: Attention) -> None:
        """Hand out one layer: full blocks once for all that want every row, single rows to those that want few."""
        spec, layer = self.adapter.spec, attention.index
        wanted = {reader.name: reader.probe.queries(spec, layer) for reader in readers}
        everything = [r for r in readers if wanted[r.name] == slice(None)]
        if everything:
            for block in attention.blocks():
                for reader in everything:
                    reader.update(block)
        rows: dict[tuple[int, ...], AttentionRows] = {}
        for reader in readers:
            queries = wanted[reader.name]
            if queries is None or reader in everything:
                continue
            index = tuple(range(attention.layer.queries)[queries] if isinstance(queries, slice) else queries)
            if index not in rows:
                rows[index] = attention.rows(index)
            reader.update(rows[index])

    def _tokens(self, readers: list[_Reader], tokens: Tokens) -> None:
        for reader in readers:
            if tokens.point in self.taps[reader.name]:
                reader.update(tokens)

    def compute(self) -> dict[str, xr.Dataset]:
        """Results of all probes, of the undefined ones their reason."""
        results = {name: xr.Dataset(attrs={"undefined": reason}) for name, reason in self.undefined.items()}
        return results | {reader.name: reader.probe.compute(reader.state) for reader in self.readers}
