"""How many images go through a model at once, when nobody says: what the memory that is free can hold."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

from model_zoo.adapter import Adapter
from model_zoo.memory import machine_bytes

MOST = {"cpu": 16, "cuda": 128}
"""Beyond these a forward pass of a ViT gets no faster."""
SHARE = 0.5
"""Part of the free memory that one batch may take."""
ACTIVATIONS = 24
"""Vectors a token that live at once in a block: residual, norm, query, key, value, the MLP's four-fold twice, and what
probes make of them."""


class BatchSize:
    """A batch size that is halved when memory runs out.

    Attributes:
        now: images in a forward pass.
    """

    def __init__(self, now: int) -> None:
        self.now = now

    def halve(self) -> bool:
        """Go on with half of it; False where it is one already."""
        if self.now == 1:
            return False
        self.now //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True


def fitting(models: Iterable[Adapter], neighbours: int = 1) -> int:
    """The largest power of two that fits for every model, where so many processes share the memory."""
    return min((_fitting(adapter, neighbours) for adapter in models), default=1)


def _fitting(adapter: Adapter, neighbours: int) -> int:
    device = adapter.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_bytes()
    room = max(1, int(SHARE * free / neighbours / image_bytes(adapter)))
    return min(MOST[device.type], 1 << room.bit_length() - 1)


def image_bytes(adapter: Adapter) -> int:
    """An estimate from above of what one image takes on its way through a model, float32.

    One layer's attention in all heads, one fused matrix of every layer, and `ACTIVATIONS` vectors of the embedding's
    width a token; a convolutional network is taken at 64 of its inputs.
    """
    spec = adapter.spec
    pixels = 3 * spec.input_size[0] * spec.input_size[1]
    if not spec.layers:
        return 4 * 64 * pixels
    tokens = max(layer.keys for layer in spec.layers)
    width = int(getattr(adapter.module, "embed_dim", 0) or getattr(adapter.module, "num_features", 0) or 768)
    matrices = max(layer.heads for layer in spec.layers) + len(spec.layers)
    return 4 * (2 * pixels + ACTIVATIONS * tokens * width + matrices * tokens**2)


def free_bytes() -> int:
    """Memory that this process can still have, bytes: the machine's free memory, within its control group's limit."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), machine_bytes())
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    with suppress(OSError, ValueError):  # no limit
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return max(free, 1)
