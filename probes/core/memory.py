"""What images take on their way through a model, bytes in float32, and how many of them fit."""

from math import ceil

import torch

from model_zoo.adapter import Adapter
from model_zoo.memory import free_bytes

SHARE = 0.5
"""Part of the free memory that what runs at once may take."""
ACTIVATIONS = 24
"""Vectors a token that live at once in a block: residual, norm, query, key, value, the MLP's four-fold twice, and what
probes make of them."""


def at_once(adapter: Adapter, most: int) -> int:
    """Images of a probe's own pass: the largest power of two that fits into memory, or ``most`` if that is less."""
    room = max(1, int(SHARE * free_on(adapter.device) / image_bytes(adapter)))
    return min(most, 1 << room.bit_length() - 1)


def free_on(device: torch.device) -> int:
    """Bytes that are free where a model runs, on a GPU with those that PyTorch holds ready."""
    if device.type != "cuda":
        return free_bytes()
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def image_bytes(adapter: Adapter) -> int:
    """An estimate from above of what one image takes on its way through a model.

    One layer's attention in all heads, one fused matrix of every layer, and `ACTIVATIONS` vectors of the embedding's
    width a token; a convolutional network is taken at 64 of its inputs.
    """
    spec = adapter.spec
    pixels = 3 * spec.input_size[0] * spec.input_size[1]
    if not spec.layers:
        return 4 * 64 * pixels
    tokens = max(layer.keys for layer in spec.layers)
    matrices = max(layer.heads for layer in spec.layers) + len(spec.layers)
    return 4 * (2 * pixels + ACTIVATIONS * tokens * _width(adapter) + matrices * tokens**2)


def token_shape(adapter: Adapter, point: str) -> tuple[int, int]:
    """Tokens and channels of one image at a canonical point, as timm says of its stage, else of the last."""
    tap, spec = adapter.layout.taps[point], adapter.spec
    stages = list(getattr(adapter.module, "feature_info", ()))
    if not stages:
        return tap.prefix + spec.grid[0] * spec.grid[1], _width(adapter)
    own = (stage for stage in stages if f"{tap.module}.".startswith(f"{stage['module']}."))
    stage = next(own, stages[-1])
    height, width = (ceil(side / stage["reduction"]) for side in spec.input_size)
    return tap.prefix + height * width, int(stage["num_chs"])


def _width(adapter: Adapter) -> int:
    return int(getattr(adapter.module, "embed_dim", 0) or getattr(adapter.module, "num_features", 0) or 768)
