"""Which floating-point type a run uses, and why."""

import time
from contextlib import AbstractContextManager
from functools import cache
from typing import Literal

import torch

from model_zoo.adapter import Adapter

Dtype = Literal["auto", "float32", "bfloat16"]
Chosen = Literal["float32", "bfloat16"]
MANY_IMAGES = 64
WORTH_IT = 1.3


def choose(dtype: Dtype, adapter: Adapter, images: int) -> Chosen:
    """Settle ``auto``.

    On a GPU with bfloat16 it is bfloat16. On a CPU it is float32 for fewer than 64 images, where exactness costs
    seconds; beyond that bfloat16 if a matrix product of a transformer's shape is at least 1.3 times faster with it on
    this machine, measured once.
    """
    if dtype != "auto":
        return dtype
    if adapter.device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if images >= MANY_IMAGES and cpu_gain() >= WORTH_IT else "float32"


def autocast(adapter: Adapter, chosen: Chosen) -> AbstractContextManager[object]:
    """The context a forward pass runs in."""
    return torch.autocast(adapter.device.type, torch.bfloat16, enabled=chosen == "bfloat16")


def full_precision(adapter: Adapter) -> AbstractContextManager[object]:
    """Keeps a run's autocast away from gradients and from the probes' own arithmetic: all is float32 at least."""
    return torch.autocast(adapter.device.type, enabled=False)


@cache
def cpu_gain() -> float:
    """How many times faster this CPU multiplies in bfloat16 than in float32: tokens × width by width × 4 width."""
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(1576, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype)
        a @ b
        start = time.perf_counter()
        for _ in range(5):
            a @ b
        times[dtype] = time.perf_counter() - start
    return times[torch.float32] / times[torch.bfloat16]
