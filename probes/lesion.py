"""Lesions: what changes when one head, or one branch of a block, is left out."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from model_zoo.adapter import ModelSpec
from probes.core import lesions
from probes.core.base import Probe
from probes.core.capture import Batch
from probes.core.lesions import AT_ONCE, Lesion, Passes, effects
from probes.core.memory import at_once
from probes.core.moments import Moments
from probes.core.precision import full_precision
from probes.core.stacking import stack
from probes.core.targets import class_index

EFFECTS = {
    "confidence": "change of the probability of the intact prediction",
    "cosine": "cosine to the intact embedding",
    "top1": "change of the share of right answers",
}


@dataclass
class _State:
    spec: ModelSpec
    changes: Moments = field(default_factory=Moments)  # (lesion, effect)
    intact: Moments = field(default_factory=Moments)  # confidence, right answers


@dataclass(frozen=True)
class LesionStudy(Probe):
    r"""What each head and each block contributes: the change when it alone is left out.

    .. math::
        x_{l} = x_{l-1} + [\text{attention kept}]\,a_l(x_{l-1}) + \dots, \qquad
        \Delta p = p_{\text{lesioned}}(\hat y) - p(\hat y), \qquad \hat y = \arg\max_c p(c)

    A head is left out by zeros in its place in the input of the attention's output projection, whose bias stays;
    attention or MLP of a block by zeros where it would be added to the residual stream. A residual convolution has one
    branch, which is left out whole; its shortcut stays. Everything after runs on what is left, with norms that adapt to
    it.

    Args:
        heads: leave out single heads.
        branches: leave out single branches.

    Returns:
        Means over images, with standard errors ``..._sem``: ``head_cosine`` (layer, head) and ``part_cosine`` (layer,
        part), the cosine between the embeddings with and without the lesion, −1 to 1, 1 where nothing changes. For a
        classifier also ``..._confidence``: the change of the probability of the class that the intact model predicts,
        −1 to 1, 0 where nothing changes. Where labels are known also ``..._top1``: the change of the share of right
        answers. NaN where a layer has no such head or part. The attributes ``confidence`` and ``top1`` are the intact
        model's. The embedding is CLS or the mean over patches, as the model's card says.

    Note:
        Small does not mean useless: another part may do the same, and only one is left out at a time. Large does not
        mean that the answer is made there: a later part may need this one's output as it was in training. Lesioned
        networks leave what they were trained on; nothing is trained again.

    Reference:
        Park & Kim 2022, arXiv:2202.06709; heads as in Michel et al. 2019, arXiv:1905.10650.
    """

    heads: bool = True
    branches: bool = True
    title: ClassVar[str] = "Lesions"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})

    def __post_init__(self) -> None:
        if not (self.heads or self.branches):
            raise ValueError("heads and branches are both false; at least one must be left out.")

    @property
    def autocasts(self) -> bool:
        """It runs in the model's own type: one head changes less than bfloat16 rounds away."""
        return False

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models whose blocks are not known, and heads alone of a model that has none to leave out."""
        nothing = lesions.undefined(spec)
        return nothing or (None if self._wanted(spec) else "no output of a head of this model can be left out alone")

    def init(self, spec: ModelSpec) -> _State:
        """Nothing left out yet."""
        return _State(spec)

    def update(self, state: _State, seen: Batch) -> _State:
        """Leave out every part over a batch."""
        labels = torch.tensor(class_numbers(seen), device=seen.inputs.device)
        wanted = self._wanted(state.spec)
        with seen.adapter.lock, torch.no_grad(), full_precision(seen.adapter):
            passes = Passes(seen.adapter, seen.inputs)
            found = []
            copies = max(at_once(seen.adapter, AT_ONCE) // len(seen.inputs), 1)
            for group in _groups(wanted, copies):
                answers = passes.without([[lesion] for lesion in group])
                found.append(effects(passes.intact, answers, labels))
                seen.report(sum(map(len, found)) / len(wanted))
        changes = torch.cat(found).transpose(0, 1).cpu().numpy()  # (images, lesions, effects)
        state.changes += Moments.of(changes, np.isfinite(changes))
        if passes.intact.probabilities is not None:
            confidence, predicted = passes.intact.probabilities.double().max(-1)
            right = torch.where(labels >= 0, (predicted == labels).double(), torch.nan)
            before = torch.stack([confidence, right], -1).cpu().numpy()
            state.intact += Moments.of(before, np.isfinite(before))
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Moments over the images of both."""
        return _State(a.spec, a.changes + b.changes, a.intact + b.intact)

    def compute(self, state: _State) -> xr.Dataset:
        """Lay the effects out over layers, heads and parts."""
        blocks, wanted = state.spec.blocks, self._wanted(state.spec)
        changes, shape = state.changes, (len(wanted), len(EFFECTS))
        seen = np.broadcast_to(changes.count, shape)
        figures = {"": np.broadcast_to(changes.mean, shape), "_sem": np.broadcast_to(changes.standard_error(), shape)}
        parts = list(dict.fromkeys(part for block in blocks for part, _ in block.branches))
        axes: dict[str, list[Any]] = {"head": list(range(max(block.heads for block in blocks))), "part": parts}
        variables = {}
        for dimension, axis in axes.items():
            places = {
                (lesion.block, lesion.head if lesion.part == "head" else lesion.part): place
                for place, lesion in enumerate(wanted)
                if (lesion.part == "head") == (dimension == "head")
            }
            for column, (effect, units) in enumerate(EFFECTS.items()):
                if not seen[[*places.values()], column].any():
                    continue
                for ending, figure in figures.items():
                    found = {key: figure[place, column] for key, place in places.items()}
                    laid = stack(found, (range(len(blocks)), axis), (), dtype=np.float64)
                    variables[f"{dimension}_{effect}{ending}"] = (("layer", dimension), laid, {"units": units})
        coords = {
            "layer": np.arange(len(blocks)),
            "layer_name": ("layer", [block.name for block in blocks]),
            "head_count": ("layer", [block.heads for block in blocks]),
            **{name: axis for name, axis in axes.items() if any(name in dims for dims, *_ in variables.values())},
        }
        known, before = (np.broadcast_to(x, 2) for x in (state.intact.count, state.intact.mean))
        intact = {name: float(m) for name, n, m in zip(("confidence", "top1"), known, before, strict=True) if n}
        n = int(np.max(changes.count, initial=0))
        return xr.Dataset(variables, coords, {"n": n, "labelled": int(known[1]), **intact})

    def _wanted(self, spec: ModelSpec) -> list[Lesion]:
        """What is left out, block by block."""
        both = (lesions.heads(spec) if self.heads else []) + (lesions.parts(spec) if self.branches else [])
        return sorted(both, key=lambda lesion: lesion.block)


def class_numbers(batch: Batch) -> list[int]:
    """The class of every image as the classifier counts; −1 where it is not known, or none of the model's."""
    names = [label() if label else "" for label in batch.labels] or [""] * len(batch.inputs)
    found = [class_index(batch.adapter.spec, name) if name else None for name in names]
    return [-1 if number is None else number for number in found]


def _groups(wanted: list[Lesion], size: int) -> list[list[Lesion]]:
    """Lesions of one block each, so many at once."""
    groups: list[list[Lesion]] = []
    for lesion in wanted:
        if groups and groups[-1][0].block == lesion.block and len(groups[-1]) < size:
            groups[-1].append(lesion)
        else:
            groups.append([lesion])
    return groups
