"""The input size of a timm model: rounded to its patch grid, and changed by timm's own means."""

from functools import lru_cache
from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from model_zoo.reference import ModelError

ImageSize = int | tuple[int, int]

LARGEST_SIDE = 4096  # pixels


def check(image_size: ImageSize) -> tuple[int, int]:
    """Height and width that were asked for.

    Raises:
        ModelError: A size out of range.
    """
    sides = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= LARGEST_SIDE for side in sides):
        raise ModelError(f"Expected an image size of 1 to {LARGEST_SIDE} pixels a side, got {image_size}.")
    return sides


def rounded(module: nn.Module, image_size: ImageSize) -> tuple[int, int]:
    """Height and width on the model's patch grid that come nearest to what was asked for.

    Raises:
        ModelError: A size out of range.
    """
    step = _step(module)
    height, width = (max(1, int(side / step + 0.5)) * step for side in check(image_size))
    return height, width


def own(module: Any) -> tuple[int, int]:
    """Height and width that the module is ready for: what it was built for or set to, else what it was trained on."""
    size = getattr(getattr(module, "patch_embed", None), "img_size", None)
    height, width = size or module.pretrained_cfg.get("input_size", (3, 224, 224))[1:]
    return height, width


def is_built_for_one(module: Any) -> bool:
    """Whether timm builds the model for an input size, and its filter fits a checkpoint's positions to it.

    Not so for convolutional networks, which take any size, and for families whose grid shrinks from stage to stage
    (Swin): their windows grow with the grid only in ``set_input_size``.
    """
    has_size = hasattr(module, "set_input_size") or module.pretrained_cfg.get("fixed_input_size", False)
    return bool(has_size) and len(set(_strides(module))) == 1


def resize(module: Any, image_size: ImageSize) -> tuple[nn.Module, ImageSize]:
    """A model made ready for another input size by timm's own means, and the size rounded to its patch grid.

    Convolutional networks take any size as they are. Swin's windows grow with the grid, as in timm.

    Raises:
        ModelError: A size out of range, or a model that cannot take it.
    """
    height, width = rounded(module, image_size)
    answer = height if isinstance(image_size, int) else (height, width)
    if (height, width) == own(module):
        return module, answer
    name = module.pretrained_cfg["architecture"]
    try:
        if hasattr(module, "set_input_size"):
            module.set_input_size(img_size=(height, width))
            return module, answer
        if not module.pretrained_cfg.get("fixed_input_size", False):
            return module, answer
        return _rebuilt(module, name, (height, width)), answer
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError, KeyError) as error:
        size = "x".join(map(str, own(module)))
        raise ModelError(f"{name} cannot take {height}x{width} pixels: leave its own {size}.") from error


def try_out(module: Any, size: tuple[int, int]) -> None:
    """One pass of a family without ``set_input_size``: some accept a size when built and fail in the pass."""
    if not hasattr(module, "set_input_size"):
        with torch.inference_mode():
            module.eval()(torch.zeros(1, 3, *size))


def _strides(module: Any) -> list[int]:
    return [info["reduction"] for info in getattr(module, "feature_info", ()) or () if info.get("reduction")]


def _step(module: Any) -> int:
    """What the sides of an input are multiples of: the patch, or the whole stride where the grid shrinks."""
    return int(max(_strides(module), default=0)) or 32


def _rebuilt(module: Any, name: str, size: tuple[int, int]) -> nn.Module:
    """The same weights in a model built for another size, for families without ``set_input_size`` (CaiT)."""
    built: Any = timm.create_model(name, img_size=size, num_classes=module.num_classes)
    old_grid, new_grid = module.patch_embed.grid_size, built.patch_embed.grid_size
    state = module.state_dict()
    for key, value in built.state_dict().items():
        if state[key].shape == value.shape:
            continue
        if not key.endswith("pos_embed"):
            raise ValueError(f"{key} depends on the input size")
        prefix = state[key].shape[1] - old_grid[0] * old_grid[1]
        state[key] = resample_abs_pos_embed(
            state[key], new_size=new_grid, old_size=old_grid, num_prefix_tokens=prefix
        ).to(value.dtype)
    built.load_state_dict(state)
    try_out(built, size)
    built.pretrained_cfg = module.pretrained_cfg | {"input_size": (3, *size)}
    return built


@lru_cache(maxsize=256)
def step_of(timm_name: str) -> int:
    """What the sides of a timm model's input are multiples of, found on a model without weights."""
    with torch.device("meta"):
        return _step(timm.create_model(timm_name))
