"""What weights take and what a machine has, in bytes, and how running out of it looks."""

import os
from functools import lru_cache

import timm
import torch

from model_zoo.reference import ModelError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that no memory is left; for the host's, torch raises a plain ``RuntimeError``."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def machine_bytes() -> int:
    """Memory of this machine, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@lru_cache(maxsize=1024)
def weight_bytes(timm_name: str) -> int:
    """Memory of a timm model's weights in float32, counted on a model that has none."""
    with torch.device("meta"):
        return 4 * sum(value.numel() for value in timm.create_model(timm_name).parameters())


def refuse_too_large(label: str, needed: int, most: int) -> None:
    """Refuse weights that the memory for them cannot hold.

    Raises:
        ModelError: ``needed`` bytes are more than ``most``.
    """
    if needed > most:
        raise ModelError(
            f"{label} has {needed / 4e6:,.0f} million parameters, which take {needed / 1e9:.1f} GB, and there are "
            f"{most / 1e9:.1f} GB for models: choose a smaller one."
        )
