"""How many images go through a model at once, when nobody says: what the memory that is free can hold."""

from collections.abc import Callable, Iterable, Mapping

import torch

from model_zoo.adapter import Adapter
from probes.core.base import Probe
from probes.core.memory import SHARE, free_on, image_bytes

MOST = {"cpu": 16, "cuda": 128}
"""Beyond these a forward pass of a ViT gets no faster."""


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


def fitting(models: Iterable[Adapter], neighbours: int = 1, held: Callable[[int], int] = lambda batch: 0) -> int:
    """The largest power of two that fits for every model, at least 1.

    Args:
        models: of which one at a time runs, all on one device.
        neighbours: how many processes or threads share the memory.
        held: bytes that are taken besides, where so many images run at once.
    """
    adapters = list(models)
    device = adapters[0].device
    free, largest = free_on(device) / neighbours, max(map(image_bytes, adapters))
    sizes = [1 << power for power in range(MOST[device.type].bit_length())]
    return max((size for size in sizes if size * largest <= SHARE * (free - held(size))), default=1)


def held_bytes(models: Mapping[str, Adapter], probes: Mapping[str, Probe], images: int, batch: int) -> dict[str, int]:
    """What each probe holds of a shard at most, of all models together; see `Probe.held_bytes`."""
    return {
        name: sum(probe.held_bytes(a, images, batch) for a in models.values() if probe.undefined(a.spec) is None)
        for name, probe in probes.items()
    }


def refuse_to_hold(held: Mapping[str, int], free: float) -> None:
    """Refuse what cannot fit whatever the batch size.

    Raises:
        ValueError: probes hold more bytes of a shard than are ``free``.
    """
    if (needed := sum(held.values())) > free:
        most = max(held, key=lambda name: held[name])
        raise ValueError(
            f"Between forward passes the probes hold {needed / 1e9:.1f} GB, {most} the most, and {free / 1e9:.1f} GB "
            "of memory are free: choose a smaller --image-size, fewer models or smaller minibatches."
        )
