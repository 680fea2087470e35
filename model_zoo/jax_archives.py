"""Google's NumPy archives of vision transformers, checked before they are unpacked and read by timm's own reader."""

import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import timm
import torch
from torch import nn

from model_zoo.reference import ModelError
from model_zoo.weight_files import check_count, check_size, named

SPARE = 2**28  # bytes beyond four times the model: positions of a larger grid, a classifier of more classes
REPRESENTATION = "pre_logits/"
ROOTS = ("opt/target/", "params/img/", "params/", "")  # under which timm's reader looks, the first that is there


def create(name: str, path: Path, blank: Any, **options: Any) -> tuple[nn.Module, bool]:
    """A timm vision transformer with the weights of an archive.

    Args:
        name: timm's name of the architecture.
        path: The ``.npz`` file.
        blank: The model without memory for its weights; an archive of far more than they take is not unpacked.
        options: For ``timm.create_model``.

    Returns:
        The model, and whether a classifier was left out because it reads a representation layer.

    Raises:
        ModelError: The archive cannot be read, is no plain arrays, or does not fit.
    """
    if not hasattr(blank, "load_pretrained"):
        raise ModelError(f"timm reads .npz files into plain vision transformers only, not {name}: use another file.")
    needed = sum(value.numel() * value.element_size() for value in blank.parameters())
    try:
        headers = _headers(path, 4 * needed + SPARE)
    except ModelError:
        raise
    except Exception as error:  # whatever zip and NumPy make of foreign bytes
        raise ModelError(f"{path.name} is not a whole .npz archive of plain arrays: download it again.") from error
    root = next(root for root in ROOTS if f"{root}embedding/kernel" in headers or not root)
    own = {key: headers[key] for key in headers if key.startswith(root)}
    odd = [key for key, (_, kind) in own.items() if kind.kind != "f"]
    if odd:
        raise ModelError(f"{path.name} holds other values than real numbers ({named(odd)}): give the model's weights.")
    ignored = {key for key in own if key.startswith(root + REPRESENTATION)}
    kernel, bias = (own.get(f"{root}head/{part}") for part in ("kernel", "bias"))
    without_head = bool(ignored and bias)
    if without_head:
        ignored |= {key for key in own if key.startswith(f"{root}head/")}
    classes = bias[0][0] if bias and len(bias[0]) == 1 and not without_head else 0
    if classes and (kernel is None or kernel[0] != (blank.num_features, classes)):
        raise ModelError(f"{path.name} does not fit {name}: its head is not of {blank.num_features} features.")
    model = timm.create_model(name, num_classes=classes, **options)
    read = _read(model, name, path)
    unknown = sorted(own.keys() - read - ignored)
    # timm's reader passes over what it does not find; what is still not a number was not in the file.
    untouched = [key for key, value in model.named_parameters() if value.numel() and bool(value.isnan().all())]
    if untouched or unknown:
        lacks = [f"it lacks {named(untouched)}"] if untouched else []
        has = [f"it has the unknown {named(unknown)}"] if unknown else []
        raise ModelError(f"{path.name} does not fit {name}: {'; '.join(lacks + has)}.")
    return model, without_head


def _headers(path: Path, largest: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every array, by name, without unpacking more than its header."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_count(path, len(members))
        check_size(path, sum(member.file_size for member in members), largest)
        headers = {}
        for member in members:
            with archive.open(member) as file:
                shape, kind, start = _header(file)
            if kind.hasobject or math.prod(shape) * kind.itemsize != member.file_size - start:
                raise ValueError(member.filename)
            headers[member.filename.removesuffix(".npy")] = shape, kind
    return headers


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type, and where the values start."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, kind = readers[version](file)
    return shape, kind, file.tell()


def _read(model: Any, name: str, path: Path) -> set[str]:
    """Have timm's reader fill the model, all NaN before, and return the names of the arrays that it opened."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    try:
        with _Watched(path) as file:  # timm would leave a file open that does not fit
            model.load_pretrained(file)
            with zipfile.ZipFile(path) as archive:
                opened = [member for member in archive.infolist() if member.header_offset in file.headers]
    except Exception as error:  # whatever timm makes of arrays that do not fit
        raise ModelError(f"{path.name} does not fit {name}: {_reason(error)}.") from error
    return {member.filename.removesuffix(".npy") for member in opened}


class _Watched(io.FileIO):
    """A zip file that remembers where the headers are that were read: a member is opened by reading its header."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.headers: set[int] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        if size == zipfile.sizeFileHeader:  # type: ignore[attr-defined]
            self.headers.add(self.tell())
        return super().read(-1 if size is None else size)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {named([str(error.args[0]).split(' ')[0]])}"
    lines: Sequence[str] = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
