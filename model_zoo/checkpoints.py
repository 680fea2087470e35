"""Weights in a file, unwrapped and fitted to a timm model.

Read are safetensors, PyTorch files of plain tensors, and the NumPy archives that Google publishes its vision
transformers in. The published layouts of DINO, DeiT, MAE and others come in wrappers and under prefixes, which are
taken off here; what differs inside is translated by timm's own filters.
"""

import contextlib
import io
import logging
import math
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from model_zoo import input_size, jax_archives
from model_zoo.memory import is_out_of_memory
from model_zoo.reference import ModelError
from model_zoo.weight_files import State, named, read

_log = logging.getLogger(__name__)

PREFIX = re.compile(r"(?:module|_orig_mod|backbone|encoder|base_encoder|teacher|student|model|network)\.")
DEEPEST = 4  # prefixes one after another
PATCH_KERNELS = ("patch_embed.proj.weight", "visual.conv1.weight")
LARGEST_TABLE = 2**28  # values of a table of positions


def create(name: str, path: Path, image_size: input_size.ImageSize | None = None) -> nn.Module:
    """A timm model with the weights of a file, in float32.

    The classifier has as many classes as the file's, and is left out where the file has none, or where it reads a
    representation layer (``pre_logits`` of the older checkpoints on ImageNet-21k) that timm no longer builds; the log
    says so.

    Args:
        name: timm's name of the architecture.
        path: The file.
        image_size: Size to build the model for, rounded to its patch grid, where timm builds it for one: positions of
            that size are taken as they are, others interpolated once. None builds it for the architecture's native
            size, whatever size the file was saved at, since not every layout tells.

    Raises:
        ModelError: The file cannot be read, is no plain weights, or does not fit; the message names the first keys.
    """
    if path.suffix.lower() == ".npz":
        return _at_size(name, image_size, lambda **options: _create_from_npz(name, path, **options))
    return create_from_state(name, read(path), path.name, image_size)


def create_from_state(
    name: str, state: State, source: str, image_size: input_size.ImageSize | None = None
) -> nn.Module:
    """A timm model with the given weights, as ``create`` does; ``source`` is what a message calls them."""
    with contextlib.redirect_stdout(io.StringIO()):  # some of timm's filters print
        return _at_size(name, image_size, lambda **options: _create_from_state(name, state, source, **options))


def _at_size(name: str, image_size: input_size.ImageSize | None, build: Callable[..., nn.Module]) -> nn.Module:
    """The model built for the size where that can be, else for its native one, which is then left to be resized."""
    blank = _blank(name)
    if image_size is None or not input_size.is_built_for_one(blank):
        return build()
    size = input_size.rounded(blank, image_size)
    if size == input_size.own(blank):
        return build()
    if hasattr(blank, "set_input_size"):
        return build(img_size=size)
    try:
        model = build(img_size=size)
        input_size.try_out(model, size)
        return model
    except (ModelError, RuntimeError, AssertionError, ValueError, TypeError, IndexError, KeyError):
        return build()


def _blank(name: str, **options: Any) -> nn.Module:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return timm.create_model(name, **options)


def _create_from_state(name: str, state: State, source: str, **options: Any) -> nn.Module:
    model = _blank(name, **options)
    state = {key: value for key, value in _without_prefix(state, model.state_dict()).items() if not _is_decoder(key)}
    if not state:
        raise ModelError(f"{source} holds no weights of an encoder: give the checkpoint of the whole model.")
    _check_shapes(name, model, state, source)
    filtered = _filtered(model, state)
    dropped = [key for key in state if "pre_logits" in key and key not in filtered]
    if dropped:
        tell_without_classifier(source)
        without = (*dropped, *(f"{head}." for head in _classifiers(model)))
        state, filtered = (
            {key: value for key, value in some.items() if not key.startswith(without)} for some in (state, filtered)
        )
    state = _with_positions(model, state, filtered)
    _check_kinds(model, filtered, source)
    classes = _classes(model, filtered)
    overlay = {"state_dict": state, "num_classes": classes}
    try:
        built: Any = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **options
        )
    except Exception as error:  # whatever timm's filters make of foreign weights
        if is_out_of_memory(error):
            raise
        model = _blank(name, num_classes=classes, **options)
        raise ModelError(f"{source} does not fit {name}: {_difference(model, _filtered(model, state))}.") from error
    built.pretrained_cfg.pop("state_dict", None)  # timm keeps the weights it was given
    check_finite(built, source)
    return built


def check_finite(model: nn.Module, source: str) -> None:
    """Refuse weights with which every result would be NaN.

    Raises:
        ModelError: A weight is NaN or infinite.
    """
    odd = [key for key, value in model.state_dict().items() if not bool(value.isfinite().all())]
    if odd:
        raise ModelError(f"{source} holds NaN or infinite weights ({named(odd)}): give an intact checkpoint.")


def _check_kinds(model: nn.Module, state: State, source: str) -> None:
    """Refuse complex, integer and quantised values where weights are real numbers; torch would convert them."""
    expected = model.state_dict()
    odd = [
        f"{key} is {str(value.dtype).removeprefix('torch.')}"
        for key, value in state.items()
        if key in expected and expected[key].is_floating_point() and not value.is_floating_point()
    ]
    if odd:
        raise ModelError(f"{source} holds other weights than real numbers ({named(odd)}): save them as floats.")


def _check_shapes(name: str, model: nn.Module, state: State, source: str) -> None:
    """Refuse what timm's filters would resample without a word, or for hours: patches and positions of other models."""
    expected = model.state_dict()
    kernel = expected.get(PATCH_KERNELS[0])
    for key in PATCH_KERNELS:
        value = state.get(key)
        if kernel is None or value is None or value.ndim != 4 or kernel.ndim != 4:
            continue
        if value.shape[2:] != kernel.shape[2:]:
            raise ModelError(
                f"{source} does not fit {name}: its patches have {_shape(value[0, 0])} pixels instead of "
                f"{_shape(kernel[0, 0])}."
            )
    for key, value in state.items():
        own = expected.get(key)
        if own is None or not key.endswith(("pos_embed", "relative_position_bias_table")):
            continue
        # (1, positions, channels) and (positions, heads): only the number of positions may differ.
        wrong = value.ndim != own.ndim or (own.ndim in (2, 3) and value.shape[-1] != own.shape[-1])
        if wrong or value.numel() > LARGEST_TABLE:
            raise ModelError(
                f"{source} does not fit {name}: {named([key])} is {_shape(value)} instead of {_shape(own)}."
            )


def tell_without_classifier(source: str) -> None:
    """Say in the log that classes are left out."""
    _log.warning(
        "%s: its classifier reads a representation layer (pre_logits) that timm no longer builds; the model is loaded "
        "without a classifier.",
        source,
    )


def _with_positions(model: Any, state: State, filtered: State) -> State:
    """The state with its position embedding on the model's grid where the family's filter leaves that out (CaiT)."""
    own, value = model.state_dict().get("pos_embed"), filtered.get("pos_embed")
    if own is None or value is None or value is not state.get("pos_embed") or value.ndim != 3 or own.ndim != 3:
        return state
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if grid is None or value.shape[1] == own.shape[1] or value.shape[::2] != own.shape[::2]:
        return state
    prefix = own.shape[1] - math.prod(grid)
    old = math.isqrt(max(value.shape[1] - prefix, 0))
    if prefix < 0 or not old or old * old != value.shape[1] - prefix or not value.is_floating_point():
        return state
    return state | {"pos_embed": resample_abs_pos_embed(value, new_size=list(grid), num_prefix_tokens=prefix)}


def _without_prefix(state: State, expected: Collection[str]) -> State:
    """The state under the prefix under which most names are the model's own."""
    own = set(expected)
    found: dict[str, int] = {"": 0}
    for key in state:
        end = 0
        for _ in range(DEEPEST + 1):
            found[key[:end]] = found.get(key[:end], 0) + (key[end:] in own)
            match = PREFIX.match(key, end)
            if not match:
                break
            end = match.end()
    prefix = max(found, key=lambda prefix: (found[prefix], "teacher" in prefix, -len(prefix)))
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _is_decoder(key: str) -> bool:
    """Whether a name belongs to the decoder of a masked autoencoder, which no map or embedding needs."""
    return key.startswith("decoder_")


def _classifiers(model: Any) -> tuple[str, ...]:
    classifier = model.pretrained_cfg.get("classifier") or ()
    return (classifier,) if isinstance(classifier, str) else tuple(classifier)


def _classes(model: Any, filtered: State) -> int:
    """Classes of the checkpoint's classifier, 0 where it has none."""
    if not filtered.keys() & model.state_dict().keys():
        return int(model.pretrained_cfg["num_classes"])  # an unknown layout; the comparison of the keys says more
    expected = model.state_dict()
    for layer in _classifiers(model):
        weight, own = (some.get(f"{layer}.weight") for some in (filtered, expected))
        if weight is not None and own is not None and weight.ndim >= 2:
            # One of other features is for the comparison to name, not to build a model for.
            return weight.shape[0] if weight.shape[1:] == own.shape[1:] else own.shape[0]
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
    said = "; ".join(start + named(keys) for start, keys in parts if keys)
    return said or "its values cannot be taken over"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _create_from_npz(name: str, path: Path, **options: Any) -> nn.Module:
    model, without_head = jax_archives.create(name, path, _blank(name, **options), **options)
    check_finite(model, path.name)
    if without_head:
        tell_without_classifier(path.name)
    return model
