"""Models that were trained in this process, held in memory: the MODEL strings ``trained:ID``.

They are gone with the process, and the oldest when there are too many; nothing is written.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # naming a model imports nothing heavy
    from torch import Tensor

MOST = 32
MOST_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Trained:
    """One model's weights.

    Attributes:
        label: what a figure calls it.
        timm_name: the registered architecture.
        state: its weights by name, on the CPU.
    """

    label: str
    timm_name: str
    state: "Mapping[str, Tensor]"

    @property
    def bytes(self) -> int:
        """Memory of the weights."""
        return sum(int(value.nbytes) for value in self.state.values())


_held: OrderedDict[str, Trained] = OrderedDict()
_lock = threading.Lock()


def keep(identity: str, model: Trained) -> None:
    """Hold a model under ``trained:IDENTITY``; the oldest make room.

    Raises:
        ValueError: it alone is larger than all may be together.
    """
    if model.bytes > MOST_BYTES:
        raise ValueError(f"The model takes {model.bytes} bytes; at most {MOST_BYTES} are held.")
    with _lock:
        _held[identity] = model
        _held.move_to_end(identity)
        while len(_held) > MOST or sum(held.bytes for held in _held.values()) > MOST_BYTES:
            _held.popitem(last=False)


def get(identity: str) -> Trained | None:
    """The model, None when it is not held."""
    with _lock:
        return _held.get(identity)
