"""Values on their way from the device to the host, together and once a batch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Then = Callable[[np.ndarray], None]
Send = Callable[[Tensor, Then], None]


def at_once(values: Tensor, then: Then) -> None:
    """Hand values over now; on a GPU the host waits for them."""
    then(values.cpu().numpy())


class Leaving:
    """What probes want on the host in one forward pass.

    A host that reads a number of a GPU in the middle of a pass waits until everything before it has been computed, and
    the GPU then waits for the host's next call. So on a GPU values are collected, and leave it in one copy when the
    whole pass has been launched. On a CPU there is nothing to wait for: they are handed over at once.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Then]] = []

    def send(self, values: Tensor, then: Then) -> None:
        """Call ``then`` with the values as an array, at the latest when the pass is over."""
        if values.device.type == "cpu":
            then(values.numpy())
        else:
            self._waiting.append((values, then))

    def arrive(self) -> None:
        """Hand over what has been collected, in the order in which it was sent."""
        waiting, self._waiting = self._waiting, []
        for dtype in {values.dtype: None for values, _ in waiting}:
            same = [(values, then) for values, then in waiting if values.dtype == dtype]
            host = _to_host(torch.cat([values.flatten() for values, _ in same]))
            sizes = np.cumsum([values.numel() for values, _ in same])[:-1]
            for (values, then), part in zip(same, np.split(host, sizes), strict=True):
                then(part.reshape(values.shape).copy())


def _to_host(values: Tensor) -> np.ndarray:
    there = values.to("cpu", non_blocking=True)  # into pinned memory
    torch.cuda.current_stream(values.device).synchronize()
    return there.numpy()
