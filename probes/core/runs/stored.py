"""States and datasets in one file each shard: JSON for the structure, raw arrays beside it, nothing pickled.

A file is an npz of two entries a section: the structure and the bytes of all its arrays. Reading a section reads these
two alone; the zip's checksums tell a damaged file.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import xarray as xr

from model_zoo.adapter import ModelSpec

ALIGNED = 64


def save(file: BinaryIO, sections: Mapping[str, Any]) -> None:
    """Write sections of states, datasets and plain values.

    Raises:
        TypeError: something that is neither numbers, text, arrays, containers of those nor a dataclass of the probes.
    """
    entries: dict[str, np.ndarray] = {}
    for name, value in sections.items():
        arrays = _Arrays()
        text = json.dumps(_encode(value, arrays))
        entries[f"{name}.json"] = np.frombuffer(text.encode(), np.uint8)
        entries[f"{name}.data"] = arrays.joined()
    np.savez(file, allow_pickle=False, **entries)


def read(path: Path, section: str, spec: ModelSpec | None = None) -> Any:
    """One section of a file.

    Args:
        path: the file.
        section: its name.
        spec: stands where the state held its model's.

    Raises:
        KeyError: there is no such section.
        OSError, ValueError: the file is damaged.
    """
    with np.load(path, allow_pickle=False) as file:
        text, data = file[f"{section}.json"].tobytes(), file[f"{section}.data"]
    return _decode(json.loads(text), data, spec)


def sections(path: Path) -> set[str]:
    """Names of the sections of a file."""
    with np.load(path, allow_pickle=False) as file:
        return {name.rpartition(".")[0] for name in file.files}


class _Arrays:
    """Bytes of many arrays, one after the other."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.end = 0

    def add(self, values: np.ndarray) -> list[Any]:
        if values.dtype.hasobject:
            raise TypeError(f"an array of {values.dtype} cannot be stored without pickling")
        data = np.ascontiguousarray(values).tobytes()
        place, padding = self.end, -len(data) % ALIGNED
        self.parts += [data, bytes(padding)]
        self.end += len(data) + padding
        return [values.dtype.str, list(values.shape), place]

    def joined(self) -> np.ndarray:
        return np.frombuffer(b"".join(self.parts), np.uint8)


def _encode(value: Any, arrays: _Arrays) -> Any:
    match value:
        case None | bool() | str():
            return value
        case np.generic():
            return {"scalar": arrays.add(np.asarray(value))}
        case int() | float():
            return value
        case np.ndarray():
            return {"array": arrays.add(value)}
        case torch.Tensor():
            return {"tensor": arrays.add(value.detach().cpu().numpy())}
        case range():
            return {"range": [value.start, value.stop, value.step]}
        case list():
            return [_encode(one, arrays) for one in value]
        case tuple():
            return {"tuple": [_encode(one, arrays) for one in value]}
        case dict():
            return {"dict": [[_encode(key, arrays), _encode(one, arrays)] for key, one in value.items()]}
        case ModelSpec():
            return {"spec": value.name}
        case xr.Dataset():
            return {"dataset": _encode_dataset(value, arrays)}
    kind = type(value)
    if is_dataclass(value) and kind.__module__.startswith("probes."):
        held = {field.name: _encode(getattr(value, field.name), arrays) for field in fields(value)}
        return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": held}
    raise TypeError(f"a {kind.__module__}.{kind.__qualname__} cannot be stored")


def _encode_dataset(dataset: xr.Dataset, arrays: _Arrays) -> dict[str, Any]:
    variables = [
        [str(name), name in dataset.coords, list(v.dims), arrays.add(np.asarray(v.values)), _encode(v.attrs, arrays)]
        for name, v in dataset.variables.items()
    ]
    return {"variables": variables, "attrs": _encode(dataset.attrs, arrays)}


def _decode(value: Any, data: np.ndarray, spec: ModelSpec | None) -> Any:
    if isinstance(value, list):
        return [_decode(one, data, spec) for one in value]
    if not isinstance(value, dict):
        return value
    if "class" in value:
        kind = _class(value["class"])
        return kind(**{name: _decode(one, data, spec) for name, one in value["fields"].items()})
    ((tag, held),) = value.items()
    match tag:
        case "scalar":
            return _array(held, data)[()]
        case "array":
            return _array(held, data)
        case "tensor":
            return torch.from_numpy(_array(held, data))
        case "range":
            return range(*held)
        case "tuple":
            return tuple(_decode(one, data, spec) for one in held)
        case "dict":
            return {_decode(key, data, spec): _decode(one, data, spec) for key, one in held}
        case "spec":
            return spec
        case "dataset":
            return _decode_dataset(held, data)
    raise ValueError(f"{tag!r} is nothing that is stored here")


def _decode_dataset(held: dict[str, Any], data: np.ndarray) -> xr.Dataset:
    variables: dict[bool, dict[str, Any]] = {True: {}, False: {}}
    for name, is_coordinate, dims, place, attrs in held["variables"]:
        variables[is_coordinate][name] = (dims, _array(place, data), _decode(attrs, data, None))
    return xr.Dataset(variables[False], coords=variables[True], attrs=_decode(held["attrs"], data, None))


def _array(place: Iterable[Any], data: np.ndarray) -> np.ndarray:
    kind, shape, start = place
    dtype = np.dtype(kind)
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(data, dtype, count, start).reshape(shape).copy() if count else np.zeros(shape, dtype)


def _class(name: str) -> Any:
    """A dataclass of the probes by its module and name; nothing else is ever made of a file."""
    module, _, qualified = name.partition(":")
    found: Any = import_module(module) if module.startswith("probes.") else None
    for part in qualified.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and is_dataclass(found)):
        raise ValueError(f"{name!r} is no state of a probe")
    return found
