"""Weights in a file: read without running anything in it, unwrapped, and fitted to a timm model.

Read are safetensors, PyTorch files of plain tensors, and the NumPy archives that Google publishes its vision
transformers in. The published layouts of DINO, DeiT, MAE and others come in wrappers and under prefixes, which are
taken off here; what differs inside is translated by timm's own filters.
"""

import argparse
import contextlib
import io
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model_zoo.reference import ModelError

State = dict[str, Tensor]

# torch remarks on pickles of other protocols before it reads or refuses them.
warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)

LARGEST_FILE = 8 * 2**30  # bytes
WRAPPERS = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model", "network", "module", "student")
PREFIX = re.compile(r"(?:module|_orig_mod|backbone|encoder|base_encoder|teacher|student|model|network)\.")
NAMED = 3  # keys that a message names


def create(name: str, path: Path) -> nn.Module:
    """A timm model with the weights of a file, at its native input size and in float32.

    The classifier has as many classes as the file's, and is left out where the file has none.

    Raises:
        ModelError: The file cannot be read, is no plain weights, or does not fit; the message names the first keys.
    """
    if path.suffix.lower() == ".npz":
        return _create_from_npz(name, path)
    return create_from_state(name, read(path), path.name)


def create_from_state(name: str, state: State, source: str) -> nn.Module:
    """A timm model with the given weights; ``source`` is what a message calls them."""
    with contextlib.redirect_stdout(io.StringIO()):  # some of timm's filters print
        return _create_from_state(name, state, source)


def _create_from_state(name: str, state: State, source: str) -> nn.Module:
    with torch.device("meta"):
        model = timm.create_model(name)
    state = {key: value for key, value in _without_prefix(state, model.state_dict()).items() if not _is_decoder(key)}
    classes = _classes(model, state)
    overlay = {"state_dict": state, "num_classes": classes}
    try:
        built: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes)
    except (RuntimeError, KeyError, ValueError, AssertionError, IndexError) as error:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=classes)
        raise ModelError(f"{source} does not fit {name}: {_difference(model, _filtered(model, state))}.") from error
    built.pretrained_cfg.pop("state_dict", None)  # timm keeps the weights it was given
    return built


def read(path: Path) -> State:
    """The tensors of a safetensors or PyTorch file, by name, floating point ones as float32.

    Raises:
        ModelError: Too large, damaged, or not plain tensors.
    """
    _check_size(path, path.stat().st_size)
    if path.suffix.lower() == ".safetensors":
        try:
            state = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path.name} is not a whole safetensors file: download it again.") from error
    else:
        state = _tensors(_unpickle(path), path)
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _check_size(path: Path, size: int) -> None:
    if size > LARGEST_FILE:
        raise ModelError(
            f"{path.name} holds {size / 2**30:.1f} GiB, more than {LARGEST_FILE >> 30}: give a smaller checkpoint."
        )


def _unpickle(path: Path) -> Any:
    try:
        # The published training checkpoints keep their arguments beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if path.stat().st_size and "Weights only load failed" in str(error) and "GLOBAL" in str(error):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            holds = f" but {found[1]}" if found else ""
            raise ModelError(
                f"{path.name} holds not only tensors{holds}, and loading that could run code: save its state_dict()."
            ) from error
        raise ModelError(f"{path.name} is not a file of plain tensors: save the model's state_dict().") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{path.name} is not a whole PyTorch file of plain tensors: save it again.") from error


def _tensors(checkpoint: Any, path: Path) -> State:
    """The weights inside the wrappers that training scripts put around them."""
    while isinstance(checkpoint, Mapping):
        inner = next((checkpoint[w] for w in WRAPPERS if isinstance(checkpoint.get(w), Mapping)), None)
        if inner is None:
            break
        checkpoint = inner
    if isinstance(checkpoint, Mapping):
        tensors = {str(key): value for key, value in checkpoint.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise ModelError(f"{path.name} holds no weights by name: save the model's state_dict().")


def _without_prefix(state: State, expected: Collection[str]) -> State:
    """The state under the prefix under which most names are the model's own."""
    prefixes = {""}
    for key in state:
        end = 0
        while match := PREFIX.match(key, end):
            end = match.end()
            prefixes.add(key[:end])

    def inside(prefix: str) -> State:
        return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}

    def fitness(prefix: str) -> tuple[int, bool, int]:
        return len(inside(prefix).keys() & set(expected)), "teacher" in prefix, -len(prefix)

    return inside(max(prefixes, key=fitness))


def _is_decoder(key: str) -> bool:
    """Whether a name belongs to the decoder of a masked autoencoder, which no map or embedding needs."""
    return key.startswith("decoder_")


def _classes(model: Any, state: State) -> int:
    """Classes of the checkpoint's classifier, 0 where it has none."""
    config = model.pretrained_cfg
    classifier = config.get("classifier") or ()
    filtered = _filtered(model, state)
    if not filtered.keys() & model.state_dict().keys():
        return int(config["num_classes"])  # an unknown layout; the comparison of the keys says more
    for layer in (classifier,) if isinstance(classifier, str) else classifier:
        weight = filtered.get(f"{layer}.weight")
        if weight is not None and weight.ndim >= 2:
            return weight.shape[0]
    return 0


def _filtered(model: Any, state: State) -> State:
    """The state in timm's names, where the family's filter can make sense of it."""
    module = sys.modules[timm.model_entrypoint(model.pretrained_cfg["architecture"]).__module__]
    translate: Callable[..., State] | None = getattr(module, "checkpoint_filter_fn", None)
    if translate is None:
        return state
    try:
        return translate(dict(state), model)
    except Exception:
        return state


def _difference(model: nn.Module, state: State) -> str:
    """What sets a checkpoint apart from a model, by the first names."""
    expected = model.state_dict()
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    shapes = [
        f"{key} is {_shape(state[key])} instead of {_shape(value)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    parts = (("it lacks ", missing), ("it has the unknown ", unknown), ("", shapes))
    said = "; ".join(start + _named(keys) for start, keys in parts if keys)
    return said or "its values cannot be taken over"


def _named(keys: list[str]) -> str:
    more = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _create_from_npz(name: str, path: Path) -> nn.Module:
    """A timm vision transformer from one of Google's JAX archives, by timm's own reader."""
    _check_npz(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            heads = [archive[key].shape[-1] for key in archive.files if re.fullmatch(r"(.*/)?head/bias", key)]
            names = archive.files
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path.name} is not a whole .npz archive of plain arrays: download it again.") from error
    model = timm.create_model(name, num_classes=heads[0] if heads else 0)
    reader = getattr(model, "load_pretrained", None)
    if reader is None:
        raise ModelError(f"timm reads .npz files into plain vision transformers only, not {name}: use another file.")
    # timm's reader passes over what it does not find; what is still not a number afterwards was not in the file.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    try:
        with path.open("rb") as file:  # timm would leave a file open that does not fit
            reader(file)
    except (KeyError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path.name} does not fit {name}: {_npz_reason(error)}.") from error
    untouched = [key for key, parameter in model.named_parameters() if bool(parameter.isnan().any())]
    blocks = {int(found[1]) for key in names if (found := re.search(r"encoderblock_(\d+)/", key))}
    surplus = sorted(blocks - set(range(len(getattr(model, "blocks", ())))))
    if untouched or surplus:
        lacks = [f"it lacks {_named(untouched)}"] if untouched else []
        has = [f"it has the unknown {_named([f'encoderblock_{i}' for i in surplus])}"] if surplus else []
        raise ModelError(f"{path.name} does not fit {name}: {'; '.join(lacks + has)}.")
    return model


def _check_npz(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(member.file_size for member in archive.infolist()))
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{path.name} is not a whole .npz archive: download it again.") from error


def _npz_reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {str(error.args[0]).split(' ')[0]}"
    return str(error).splitlines()[0].rstrip(".")
