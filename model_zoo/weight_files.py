"""Weights in a file, read without running anything in it and with bounds on what reading may cost."""

import argparse
import io
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open
from torch import Tensor

from model_zoo import pickles
from model_zoo.reference import ModelError

State = dict[str, Tensor]

# torch remarks on pickles of other protocols before it reads or refuses them.
warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)

LARGEST_FILE = 8 * 2**30  # bytes
LARGEST_HEADER = 2**24  # bytes of a safetensors header or of the pickle in a PyTorch file
MOST_TENSORS = 20_000  # the largest models of timm have some 3,000
WRAPPERS = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model", "network", "module", "student")
LEGACY_PICKLES = 5  # of a PyTorch file that is no zip: magic number, version, system, weights, names of the storages
NAMED = 3  # names in a message
LONGEST_NAME = 80  # characters of a name in a message


def read(path: Path) -> State:
    """The tensors of a safetensors or PyTorch file, by name, floating point ones as float32.

    Raises:
        ModelError: Too large, damaged, or not plain tensors.
    """
    check_size(path, path.stat().st_size)
    if path.suffix.lower() == ".safetensors":
        state = _safetensors(path)
        _check_tensors(path, state)
    else:
        state = _pickled(path)
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def check_size(path: Path, size: int, largest: int | None = None) -> None:
    """Refuse what holds more bytes than weights can take.

    Raises:
        ModelError: ``size`` is more than ``largest``, or than any checkpoint may have.
    """
    largest = LARGEST_FILE if largest is None else min(largest, LARGEST_FILE)
    if size > largest:
        raise ModelError(
            f"{path.name} holds {size / 2**30:,.2f} GiB, more than {largest / 2**30:.2f}: give a smaller checkpoint."
        )


def check_count(path: Path, count: int) -> None:
    """Refuse a file of more parts than any model has.

    Raises:
        ModelError: There are too many.
    """
    if count > MOST_TENSORS:
        raise ModelError(f"{path.name} holds {count:,} tensors, more than {MOST_TENSORS:,}: give a model's weights.")


def named(names: Iterable[str]) -> str:
    """The first of the names for a message, and how many more there are."""
    every = list(names)
    shown = [re.sub(r"[^ -~]", "?", name[:LONGEST_NAME]) + ("..." if name[LONGEST_NAME:] else "") for name in every]
    more = len(every) - NAMED
    return ", ".join(shown[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _safetensors(path: Path) -> State:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    size = path.stat().st_size
    if LARGEST_HEADER < header < size:
        raise ModelError(f"{path.name} has a header of {header / 2**20:.0f} MiB: give a file of one model's weights.")
    try:
        with plain_name(path) as name, safe_open(name, framework="pt") as file:
            names = file.keys()
            check_count(path, len(names))
            return {name: file.get_tensor(name) for name in names}
    except ModelError:
        raise
    except Exception as error:  # whatever its reader makes of foreign bytes
        raise ModelError(f"{path.name} is not a whole safetensors file: download it again.") from error


@contextmanager
def plain_name(path: Path) -> Iterator[str]:
    """A name under which readers open a file that know names in UTF-8 alone."""
    name = str(path)
    if name == name.encode(errors="replace").decode():
        yield name
        return
    with path.open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def _check_tensors(path: Path, state: State) -> None:
    """Refuse tensors that claim more than the file can hold, before anything is computed with them."""
    check_count(path, len(state))
    odd = [key for key, value in state.items() if value.layout != torch.strided or value.device.type != "cpu"]
    if odd:
        raise ModelError(f"{path.name} holds tensors without plain values ({named(odd)}): save dense weights.")
    check_size(path, sum(math.prod(value.shape) * max(value.element_size(), 4) for value in state.values()))


def _pickled(path: Path) -> State:
    """The weights of a PyTorch file; of a zip nothing else is read, such as the state of an optimizer."""
    checkpoint, sizes = _unpickle(path)
    state = _tensors(checkpoint, path)
    _check_tensors(path, state)
    if sizes and not sizes.issuperset(value.untyped_storage().nbytes() for value in state.values()):
        raise ModelError(f"{path.name} is not a whole PyTorch file of plain tensors: save it again.")
    return state


def _unpickle(path: Path) -> tuple[Any, frozenset[int]]:
    """What a PyTorch file holds, and where that is looked at in its place the sizes of its parts, in bytes."""
    try:
        sizes = _check_pickles(path)
        # The published training checkpoints keep their arguments beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]), plain_name(path) as name:
            return torch.load(name, map_location="cpu", weights_only=True, mmap=bool(sizes)), sizes
    except ModelError:
        raise
    except pickles.PickleError as error:
        raise ModelError(
            f"{path.name} is not a file of plain tensors, {error}: save the model's state_dict()."
        ) from error
    except pickle.UnpicklingError as error:
        if path.stat().st_size and "Weights only load failed" in str(error) and "GLOBAL" in str(error):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            holds = f" but {found[1]}" if found else ""
            raise ModelError(
                f"{path.name} holds not only tensors{holds}, and loading that could run code: save its state_dict()."
            ) from error
        raise ModelError(f"{path.name} is not a file of plain tensors: save the model's state_dict().") from error
    except Exception as error:  # whatever torch makes of foreign bytes
        raise ModelError(f"{path.name} is not a whole PyTorch file of plain tensors: save it again.") from error


def _check_pickles(path: Path) -> frozenset[int]:
    """See what the pickles of a PyTorch file would do, in either of its formats.

    Returns:
        sizes of the parts of a zip that can be read in their place; nothing where they are packed, or it is no zip.

    Raises:
        ModelError: The zip that holds them unpacks to more than the file.
        pickles.PickleError: A pickle that is not worth loading.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            _check_legacy(file)
            return frozenset()
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_count(path, len(members) // 2)  # parts of the format's own, and the buffers of an optimizer
        # torch writes its zips uncompressed, so what is inside is never more than the file.
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ModelError(f"{path.name} unpacks to more than its size, as no PyTorch file does: save it again.")
        pickled = [member for member in members if member.filename.lower().endswith("data.pkl")]
        for member in pickled:
            if len(pickled) > 1 or member.file_size > LARGEST_HEADER:
                size = sum(member.file_size for member in pickled)
                raise pickles.PickleError(f"it has {len(pickled)} pickles of {size / 2**20:.0f} MiB")
            pickles.check(io.BytesIO(archive.read(member)))
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    return frozenset() if packed else frozenset(member.file_size for member in members) | {0}


def _check_legacy(file: IO[bytes]) -> None:
    for _ in range(LEGACY_PICKLES):
        start = file.tell()
        if not file.read(1):
            break
        file.seek(start)
        pickles.check(file)


def _tensors(checkpoint: Any, path: Path) -> State:
    """The weights inside the wrappers that training scripts put around them."""
    opened: set[int] = set()
    while isinstance(checkpoint, Mapping) and id(checkpoint) not in opened:
        opened.add(id(checkpoint))
        inner = next((checkpoint[w] for w in WRAPPERS if isinstance(checkpoint.get(w), Mapping)), None)
        if inner is None:
            break
        checkpoint = inner
    if isinstance(checkpoint, Mapping):
        tensors = {
            key: value for key, value in checkpoint.items() if isinstance(key, str) and isinstance(value, Tensor)
        }
        if tensors:
            return tensors
    raise ModelError(f"{path.name} holds no weights by name: save the model's state_dict().")
