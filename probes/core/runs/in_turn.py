"""Which models of a run are in memory together."""

from collections.abc import Callable, Sequence

import torch

from model_zoo.loading import expected_bytes, resolve_device
from model_zoo.memory import free_bytes
from model_zoo.reference import ModelReference

SHARE = 0.4
"""Part of the free memory that weights may take."""


def room(device: str) -> float:
    """Bytes that weights may take on this machine."""
    return SHARE * (torch.cuda.mem_get_info()[0] if resolve_device(device).type == "cuda" else free_bytes())


def sets(references: Sequence[ModelReference], room: Callable[[], float], together: bool) -> list[list[str]]:
    """Labels of the models in order, as many at a time as fit; all where they are compared with each other."""
    if together:
        return [[reference.label for reference in references]]
    most = room()
    found: list[list[str]] = []
    taken = 0.0
    for reference in references:
        size = expected_bytes(reference)
        if not found or taken + size > most:
            found.append([])
            taken = 0.0
        found[-1].append(reference.label)
        taken += size
    return found
