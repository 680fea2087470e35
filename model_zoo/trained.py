"""Models that were trained in this process, held in memory: the MODEL strings ``trained:ID``.

A moment of such a training is ``trained:ID@step-00022``. They are gone with the process, and the oldest when there are
too many; nothing is written.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # naming a model imports nothing heavy
    from torch import Tensor

MOST = 32
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Trained:
    """One model's weights.

    Attributes:
        label: what a figure calls it.
        timm_name: the registered architecture.
        state: its weights by name, on the CPU.
        step: optimiser steps behind the weights.
        batch_size: images a step.
        size: side of the images that it was trained on, pixels.
        snapshots: weights after earlier steps.
    """

    label: str
    timm_name: str
    state: "Mapping[str, Tensor]"
    step: int = 0
    batch_size: int = 0
    size: int = 0
    snapshots: "Mapping[int, Mapping[str, Tensor]]" = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory of the weights and of those of all snapshots."""
        return sum(int(value.nbytes) for state in (self.state, *self.snapshots.values()) for value in state.values())

    def at(self, step: int) -> "Trained | None":
        """The model as it was after a step; None where its weights were not kept."""
        if step not in self.snapshots:
            return None
        return replace(self, label=f"{self.label}, step {step}", state=self.snapshots[step], step=step, snapshots={})


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
    """The model, or with ``@step-00022`` a moment of its training; None when it is not held."""
    name, at, moment = identity.partition("@")
    with _lock:
        held = _held.get(name)
    if held is None or not at:
        return held
    step = moment.removeprefix("step-")
    return held.at(int(step)) if moment.startswith("step-") and step.isascii() and step.isdigit() else None
