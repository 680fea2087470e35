"""The loss around the weights: a plane through them along two random, filter-normalised directions."""

import hashlib
import zlib
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from model_zoo.adapter import ModelSpec
from probes.core import objectives
from probes.core.base import Probe
from probes.core.capture import Batch
from probes.core.kept_rows import KeptRows
from probes.core.precision import full_precision
from probes.core.runs import identity

MOST_STEPS = 101
MOST_BYTES = {"cpu": 4 * 2**30, "cuda": 32 * 2**30}
"""Of both directions and the moved weights."""


@dataclass
class _State:
    spec: ModelSpec
    reason: str = ""
    total: np.ndarray | float = 0.0  # (beta, alpha), sum over images
    images: int = 0


@dataclass(frozen=True)
class LossLandscape(Probe):
    r"""The model's own loss on a plane through its weights.

    .. math::
        L(\alpha, \beta) = \frac1n \sum_i \ell_i(\theta + \alpha\,\delta + \beta\,\eta), \qquad
        \delta_f \leftarrow \frac{\delta_f}{\lVert\delta_f\rVert} \lVert\theta_f\rVert

    with :math:`\delta, \eta` normal numbers, every filter f (a row of a matrix, an output channel of a convolution) of
    each as long as the filter of the weights. Weights of one dimension (biases, norms, layer scales) and tables of
    positions and tokens stay as they are. The loss :math:`\ell` is cross-entropy with the image's label, or for a
    masked autoencoder whose decoder is kept the reconstruction error under one mask.

    Args:
        steps: points along each direction, odd so that the weights themselves are one.
        span: how far the plane reaches on either side, in lengths of the weights.
        seed: of the directions, and of the mask.

    Returns:
        ``loss`` (beta, alpha): mean over images; nats, or the squared error of a masked autoencoder. NaN where it is
        not finite, which ``finite`` says. The attribute ``centre`` is the loss of the weights themselves.

    Note:
        Two directions of millions: what curves along others is not seen. Another seed is another plane. A flat
        surface does not say that a model generalises; surfaces of models are only comparable for one loss on the same
        images, and cross-entropy without the label smoothing and augmentation of the training is not what was
        minimised.

    Raises:
        ValueError: a parameter out of range.

    Reference:
        Li et al. 2018, arXiv:1712.09913; of vision transformers Park & Kim 2022, arXiv:2202.06709.
    """

    steps: int = 21
    span: float = 1.0
    seed: int = 0
    title: ClassVar[str] = "Loss landscape"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})

    def __post_init__(self) -> None:
        if not 3 <= self.steps <= MOST_STEPS or self.steps % 2 == 0:
            raise ValueError(f"steps is {self.steps}; it must be odd, from 3 to {MOST_STEPS}.")
        if not 0 < self.span <= 10:
            raise ValueError(f"span is {self.span}; it must be above 0 and at most 10.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {2**32 - 1}.")

    @property
    def autocasts(self) -> bool:
        """It runs in the model's own type."""
        return False

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models whose loss cannot be told of images."""
        return objectives.undefined(spec)

    def init(self, spec: ModelSpec) -> _State:
        """Nothing seen."""
        return _State(spec)

    def update(self, state: _State, seen: Batch) -> _State:
        """Add a batch's losses on the whole plane, row by row; without labels nothing is computed."""
        if state.reason:
            return state
        classes = objectives.labels(seen) if objectives.objective(state.spec) == "cross-entropy" else None
        loss = objectives.loss_of(seen.adapter, classes, self.seed)
        if loss is None:
            state.reason = objectives.NO_LABELS
            return state
        weights = objectives.filters(loss)
        count = sum(tensor.numel() for tensor in weights.values())
        needed = 3 * count * next(iter(weights.values())).element_size()
        if needed > MOST_BYTES[seen.adapter.device.type]:
            state.reason = f"its {count / 1e6:.0f} million weights would take {needed / 2**30:.0f} GB of moved copies"
            return state
        first, second = (direction(weights, self.seed, axis) for axis in (0, 1))
        rows = KeptRows(self._key(seen, loss), self.steps, self.steps)
        evaluate = objectives.evaluated(loss)
        with seen.adapter.lock, torch.no_grad(), full_precision(seen.adapter):
            for beta in self._axis()[len(rows.rows) :]:
                values = []
                for alpha in self._axis():
                    # Without a name the moved weights are gone before the next ones are made.
                    losses = evaluate(moved(weights, (alpha, first), (beta, second)), seen.inputs)
                    values.append(float(losses.double().sum()))
                rows.add(np.array(values))
                seen.report(len(rows.rows) / self.steps)
        state.total, state.images = state.total + rows.whole(), state.images + len(seen.inputs)
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Losses over the images of both."""
        return _State(a.spec, a.reason or b.reason, a.total + b.total, a.images + b.images)

    def compute(self, state: _State) -> xr.Dataset:
        """The mean, or why there is none."""
        if state.reason or not state.images:
            return xr.Dataset(attrs={"undefined": state.reason or objectives.NO_LABELS})
        mean = np.asarray(state.total) / state.images
        finite, middle = np.isfinite(mean), self.steps // 2
        kind = objectives.objective(state.spec)
        units = "nats" if kind == "cross-entropy" else "squared error of hidden patches"
        return xr.Dataset(
            {
                "loss": (("beta", "alpha"), np.where(finite, mean, np.nan), {"units": units}),
                "finite": (("beta", "alpha"), finite, {"units": "yes or no"}),
            },
            coords={"beta": self._axis(), "alpha": self._axis()},
            attrs={"objective": kind, "centre": float(mean[middle, middle]), "n": state.images, "seed": self.seed},
        )

    def _axis(self) -> np.ndarray:
        return np.linspace(-self.span, self.span, self.steps)

    def _key(self, seen: Batch, loss: nn.Module) -> str:
        """Names a batch's part of a landscape by everything that it depends on."""
        stands_on = f"{self} {seen.inputs.shape} {seen.inputs.device.type} {_program()}"
        digest = hashlib.sha256(stands_on.encode())
        more = [value for value in vars(loss).values() if isinstance(value, Tensor)]  # labels, or the mask
        for tensor in (seen.inputs, *more, *loss.state_dict().values()):
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


@cache
def _program() -> str:
    """What the numbers come from beside the inputs: the code, and the packages' versions."""
    return f"{identity.code(('loss-landscape',))} {identity.versions()}"


def direction(weights: dict[str, Tensor], seed: int, axis: int) -> dict[str, Tensor]:
    """Normal numbers in the weights' shapes, every filter as long as that of the weights.

    What a tensor becomes depends on the seed, the axis and its name alone.
    """
    found = {}
    for name, weight in weights.items():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{axis}:{name}".encode()))
        drawn = torch.randn(weight.shape, generator=generator).to(weight).flatten(1)
        lengths = weight.flatten(1).norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
        found[name] = (drawn * lengths).view_as(weight)
    return found


def moved(weights: dict[str, Tensor], *steps: tuple[float, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The weights with so much of each direction added."""
    return {name: sum((far * toward[name] for far, toward in steps), weight) for name, weight in weights.items()}
