"""Heads switched off: the last layer's attention and the answer to an image, with and without them."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr

from model_zoo.adapter import ModelSpec
from probes.core import lesions, saliency
from probes.core.base import Probe
from probes.core.capture import Batch
from probes.core.lesions import Lesion, answers, left_out
from probes.core.precision import full_precision
from probes.core.targets import Target

STATES = ("intact", "lesioned")
MOST_RANKS = 100


@dataclass
class _State:
    spec: ModelSpec
    found: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)  # image -> name -> values


@dataclass(frozen=True)
class HeadsOff(Probe):
    r"""What becomes of an image's attention and answer when some heads are switched off together.

    .. math:: z_h \leftarrow 0 \;\text{for the heads that are off, before } \operatorname{proj}([z_1 \dots z_H])

    Args:
        off: the heads, as ``LAYER:HEAD`` from 0 with commas between, e.g. ``2:1,3:0``; none when empty.
        ranks: classes kept for each image.

    Returns:
        ``attention`` (image, state, y, x): of the last attention layer, CLS row (mean over patch queries where there is
        no CLS), mean over heads, fraction of attention; ``state`` is ``intact`` or ``lesioned``. ``cosine`` (image): of
        the two embeddings, 1 where nothing changed. ``top_class`` (image, rank) and ``probability`` (image, state,
        rank): the intact model's first classes, in its order, and their probability in each state; ``answer`` (image,
        state): the first class of each. A model without a classifier has no classes, one without a map of its last
        layer no attention.

    Note:
        Heads of the last layer change the answer and not that layer's attention, which comes before they are left out.
        The network was not trained without them.

    Raises:
        ValueError: heads that are not written so.

    Reference:
        Michel et al. 2019, arXiv:1905.10650.
    """

    off: str = ""
    ranks: int = 5
    title: ClassVar[str] = "Heads switched off"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})
    per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        read_heads(self.off)
        if not 1 <= self.ranks <= MOST_RANKS:
            raise ValueError(f"ranks is {self.ranks!r}; it must be from 1 to {MOST_RANKS}.")

    @property
    def autocasts(self) -> bool:
        """It runs in the model's own type."""
        return False

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models without heads that can be left out, and heads that a model does not have."""
        there = lesions.heads(spec)
        if not there:
            return "this model has no attention head whose output can be left out alone"
        for lesion in read_heads(self.off):
            if lesion not in there:
                return f"this model has no head {lesion.head + 1} in layer {lesion.block + 1} that can be switched off"
        return None

    def init(self, spec: ModelSpec) -> _State:
        """Nothing seen."""
        return _State(spec)

    def update(self, state: _State, seen: Batch) -> _State:
        """Run a batch with the heads and without."""
        adapter, found = seen.adapter, []
        maps = saliency.undefined(state.spec, "mean") is None
        for off in ((), read_heads(self.off)):
            with torch.no_grad(), full_precision(adapter), left_out(adapter, [off]):
                attention = saliency.maps_of(seen, "mean", Target())[:, 0] if maps else None
                found.append((attention, answers(adapter, seen.inputs)))
        (before, intact), (after, changed) = found
        values = {"cosine": F.cosine_similarity(intact.embedding.double(), changed.embedding.double(), dim=-1)}
        if intact.probabilities is not None and changed.probabilities is not None:
            both = torch.stack([intact.probabilities, changed.probabilities], 1).double()
            top = both[:, 0].topk(min(self.ranks, both.shape[-1])).indices
            values |= {"top_class": top, "answer": both.argmax(-1)}
            values["probability"] = both.gather(-1, top[:, None].expand(-1, 2, -1))
        arrays = {name: value.cpu().numpy() for name, value in values.items()}
        if before is not None and after is not None:
            arrays["attention"] = np.stack([before, after], 1)
        for place, image in enumerate(seen.images):
            state.found[image] = {name: array[place] for name, array in arrays.items()}
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Images of both."""
        return _State(a.spec, a.found | b.found)

    def compute(self, state: _State) -> xr.Dataset:
        """Stack what was found."""
        images, labels = sorted(state.found), state.spec.labels
        names = sorted({name for found in state.found.values() for name in found})
        stacked = {name: np.stack([state.found[image][name] for image in images]) for name in names}
        variables = {name: (DIMENSIONS[name], values, {"units": UNITS[name]}) for name, values in stacked.items()}
        classes = {int(c) for name in ("top_class", "answer") if name in stacked for c in np.unique(stacked[name])}
        called = [f"{c} {labels[c]}" for c in sorted(classes) if labels]
        coords = {"image": images, "state": list(STATES)}
        return xr.Dataset(variables, coords, {"off": self.off, "class_names": called, "n": len(images)})


DIMENSIONS = {
    "attention": ("image", "state", "y", "x"),
    "cosine": ("image",),
    "top_class": ("image", "rank"),
    "answer": ("image", "state"),
    "probability": ("image", "state", "rank"),
}
UNITS = {
    "attention": "fraction of attention",
    "cosine": "cosine to the intact embedding",
    "top_class": "index of the class",
    "answer": "index of the class",
    "probability": "probability",
}


def read_heads(text: str) -> list[Lesion]:
    """The heads that a text names.

    Raises:
        ValueError: it is not written ``LAYER:HEAD`` from 0, with commas between.
    """
    found = []
    for one in filter(None, text.split(",")):
        layer, _, head = one.partition(":")
        if not all(number.isascii() and number.isdigit() and len(number) <= 4 for number in (layer, head)):
            raise ValueError(f"off is {text[:40]!r}; it must be LAYER:HEAD from 0 with commas between, as 2:1,3:0.")
        found.append(Lesion(int(layer), "head", int(head)))
    return found
