"""From shards to results: states are merged and computed once, results by image stay on disk and are streamed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from model_zoo.adapter import Adapter
from model_zoo.memory import free_bytes
from probes.core.base import PairProbe, Probe
from probes.core.output import Pieces
from probes.core.precision import Chosen
from probes.core.runner import Fold
from probes.core.runs import stored
from probes.core.runs.measure import in_shards


@dataclass(frozen=True)
class Shards:
    """The shards of a set of models, on disk.

    Attributes:
        paths: their files in order, without those in which no image could be read.
        names: of the images that were measured, by number.
        unreadable: names of those that were not.
    """

    paths: Sequence[Path]
    names: Sequence[str]
    unreadable: Sequence[str]


def results(
    models: Mapping[str, Adapter], probes: Mapping[str, Probe], dtypes: Mapping[str, Chosen], shards: Shards
) -> dict[str, dict[str, xr.Dataset | Pieces]]:
    """``result[probe][label]`` and, of probes that compare models, ``result[probe][label_a+label_b]``."""
    found: dict[str, dict[str, xr.Dataset | Pieces]] = {name: {} for name in probes}
    with_state: set[tuple[str, str]] = set()
    seen = in_shards(probes)
    for label, adapter in models.items():
        alone = Fold(adapter, {name: probe for name, probe in probes.items() if name not in seen})
        undefined = {n: reason for n, p in probes.items() if (reason := p.undefined(adapter.spec)) is not None}
        computed = alone.compute()
        for name, probe in probes.items():
            result: xr.Dataset | Pieces
            if name in undefined:
                result = xr.Dataset(attrs={"undefined": undefined[name]})
            elif name not in seen:
                result = computed[name]
            elif probe.per_image:
                result = _pieces(f"result/{name}/{label}", shards)
            else:
                with_state.add((name, label))
                result = _named(probe.compute(_merged(probe, f"state/{name}/{label}", adapter, shards)), shards)
            source = adapter.reference.source if adapter.reference else label
            attributes = _parameters(probe) | {"model": source, "weights_sha256": [adapter.digest]}
            attributes["dtype"] = dtypes[label] if probe.autocasts else "float32"
            if shards.unreadable and name in seen:
                attributes["unreadable"] = list(shards.unreadable)
            found[name][label] = with_attributes(result, attributes)
    for name, probe in probes.items():
        for a, b in combinations(models, 2):
            if probe.pairs:
                found[name][f"{a}+{b}"] = _pair(name, probe, (a, b), models, with_state, found[name], shards)
    return found


def refuse_too_many(models: Mapping[str, Adapter], probes: Mapping[str, Probe], images: int, size: int) -> None:
    """Refuse so many images that what a probe holds of all of them at the end does not fit into the free memory.

    Args:
        models: label to model.
        probes: name to probe, those that see images.
        images: all of the run.
        size: images of a shard.

    Raises:
        ValueError: a state of one model over all images takes more than there is.
    """
    free = free_bytes()
    for name, probe in probes.items():
        for adapter in models.values():
            if probe.per_image or probe.undefined(adapter.spec) is not None:
                continue
            whole, part = (probe.held_bytes(adapter, count, 1) for count in (images, min(size, images)))
            if whole > part and whole > free:
                raise ValueError(
                    f"{name} holds features of all {images:,} images at the end, which take {whole / 1e9:.1f} GB, and "
                    f"{free / 1e9:.1f} GB of memory are free: choose at most {free * images // whole:,} images with "
                    "--limit, or a smaller --image-size."
                )


def with_attributes(result: xr.Dataset | Pieces, attributes: Mapping[str, Any]) -> xr.Dataset | Pieces:
    """The same with more attributes."""
    if isinstance(result, Pieces):
        return result.map(lambda dataset: dataset.assign_attrs(attributes))
    return result.assign_attrs(attributes)


def _parameters(probe: Probe) -> dict[str, Any]:
    from dataclasses import asdict

    return {"parameters": json.dumps(asdict(probe))}  # type: ignore[call-overload]


def _merged(probe: Probe, section: str, adapter: Adapter, shards: Shards) -> Any:
    """The state over all shards, one read after the other."""
    state: Any = None
    for path in shards.paths:
        part = stored.read(path, section, adapter.spec)
        state = part if state is None else probe.merge(state, part)
    return state


def _pair(
    name: str,
    probe: Probe,
    labels: tuple[str, str],
    models: Mapping[str, Adapter],
    with_state: Set[tuple[str, str]],
    alone: Mapping[str, xr.Dataset | Pieces],
    shards: Shards,
) -> xr.Dataset:
    a, b = labels
    section = f"pair/{name}/{a}+{b}"
    attributes = _parameters(probe) | {"weights_sha256": [models[label].digest for label in labels]}
    if shards.unreadable:
        attributes["unreadable"] = list(shards.unreadable)
    if not isinstance(probe, PairProbe) or any((name, label) not in with_state for label in labels):
        reasons = (alone[label].attrs.get("undefined") for label in labels)
        undefined = next(filter(None, reasons), "there was no image to compare with")
        return xr.Dataset(attrs={"undefined": undefined} | attributes)
    pair, left, right = None, None, None
    for path in shards.paths:  # in step with the states, for a merge may complete what two shards shared
        x, y = (stored.read(path, f"state/{name}/{label}", models[label].spec) for label in labels)
        left, right = (x, y) if left is None else (probe.merge(left, x), probe.merge(right, y))
        part = stored.read(path, section)
        pair = part if pair is None else probe.update_pair(probe.merge_pair(pair, part), left, right)
    result = probe.compute_pair(pair, left, right)
    first, second = (alone[label].attrs for label in labels)
    attributes |= {"model_a": first["model"], "model_b": second["model"]}
    return result.assign_attrs(attributes, dtype_a=first["dtype"], dtype_b=second["dtype"])


def _named(dataset: xr.Dataset, shards: Shards) -> xr.Dataset:
    if "image" not in dataset.dims:
        return dataset
    return dataset.assign_coords(image_name=("image", [shards.names[i] for i in dataset["image"].values]))


def _pieces(section: str, shards: Shards) -> xr.Dataset | Pieces:
    """A result by image, a piece each shard, with the attributes that one over all images would have."""
    parts: list[dict[str, Any]] = []
    widths: dict[str, np.dtype] = {}
    undefined: xr.Dataset | None = None
    for path in shards.paths:
        dataset = stored.read(path, section)
        parts.append(dataset.attrs)
        undefined = dataset if "undefined" in dataset.attrs else undefined
        for name, variable in _named(dataset, shards).variables.items():
            if variable.dtype.kind == "U":
                widths[str(name)] = max(widths.get(str(name), variable.dtype), variable.dtype, key=_width)
    if undefined is not None:
        return undefined
    attributes = {name: _joined(name, [part[name] for part in parts if name in part]) for name in parts[0]}

    def read() -> Iterator[xr.Dataset]:
        for path in shards.paths:
            dataset = _named(stored.read(path, section), shards)
            for name, kind in widths.items():  # text of one width, so that pieces go into one array
                dataset[name] = dataset[name].astype(kind)
            yield dataset.assign_attrs(attributes)

    return Pieces(read, len(shards.names), attributes)


def _width(kind: np.dtype) -> int:
    return kind.itemsize


def _joined(name: str, values: Sequence[Any]) -> Any:
    """One attribute of all images from those of the shards: counts add up, lists of what occurred become one list."""
    if all(value == values[0] for value in values) and name != "n":
        return values[0]
    if name == "n":
        return sum(values)
    if all(isinstance(value, list) for value in values):
        return sorted({one for value in values for one in value}, key=_number_first)
    raise ValueError(f"the attribute {name!r} differs between images, so it cannot be one of all of them")


def _number_first(text: Any) -> tuple[int, str]:
    number = re.match(r"\d+", str(text))
    return int(number[0]) if number else -1, str(text)
