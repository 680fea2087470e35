"""The curvature of the loss at the weights: leading eigenvalues and the spectral density of its Hessian."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model_zoo.adapter import Adapter, ModelSpec
from probes.core import objectives
from probes.core.base import Probe
from probes.core.capture import Batch
from probes.core.precision import full_precision
from probes.core.stacking import stack

MOST_BYTES = 4 * 2**30


@dataclass
class _State:
    spec: ModelSpec
    reason: str = ""
    waiting: dict[int, tuple[Tensor, Tensor | None]] = field(default_factory=dict)  # image -> input, class
    found: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # mini-batch -> values, weights
    weights: int = 0


@dataclass(frozen=True)
class HessianSpectrum(Probe):
    r"""Eigenvalues of the loss's Hessian with respect to the weights, mini-batch by mini-batch.

    .. math:: H = \nabla^2_\theta \frac1B \sum_i \ell_i(\theta), \qquad
        T_m = V_m^\top H V_m, \qquad \rho(t) \approx \sum_k (e_1^\top u_k)^2\, \delta(t - \lambda_k)

    Lanczos from a random vector of length 1 gives :math:`T_m` after m products of H with a vector, each from two
    backward passes of the untouched model; :math:`\lambda_k, u_k` are its eigenvalues and vectors. The largest converge
    first to those of H; all together, weighed, are the quadrature of its density. Over the same weights as
    loss-landscape: no biases, norms, tables of positions and tokens.

    Args:
        products: m, products with the Hessian for each mini-batch.
        batch: images of a mini-batch, in the order of the run; what is left over at the end is not used.
        seed: of the random vector, and of a masked autoencoder's mask.

    Returns:
        ``eigenvalue`` (batch, rank): of T, from the largest down, in units of the loss; those at either end stand for
        eigenvalues of H, those between for none in particular. ``weight`` (batch, rank): their share of the density, 0
        to 1, sum 1. ``leading`` (batch): the largest. The attribute ``weights`` is the size of H, ``n`` the images
        used.

    Note:
        A negative eigenvalue says that the weights are no minimum for these images. What is sharp depends on how the
        weights are scaled, which norms undo: compare models with care. One random vector a mini-batch; after few
        products the smallest weights are rough.

    Raises:
        ValueError: a parameter out of range.

    Reference:
        Park & Kim 2022, arXiv:2202.06709, Fig. 4; Lanczos quadrature as in Ghorbani et al. 2019, arXiv:1901.10159.
    """

    products: int = 20
    batch: int = 8
    seed: int = 0
    title: ClassVar[str] = "Hessian spectrum"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})

    def __post_init__(self) -> None:
        if not 2 <= self.products <= 200:
            raise ValueError(f"products is {self.products}; it must be from 2 to 200.")
        if not 1 <= self.batch <= 256:
            raise ValueError(f"batch is {self.batch}; it must be from 1 to 256.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {2**32 - 1}.")

    @property
    def autocasts(self) -> bool:
        """Gradients are taken in the model's own type."""
        return False

    @property
    def minibatch(self) -> int:
        """Images that are measured together: a run's shards hold whole ones."""
        return self.batch

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models whose loss cannot be told of images."""
        return objectives.undefined(spec)

    def init(self, spec: ModelSpec) -> _State:
        """Nothing seen."""
        return _State(spec)

    def update(self, state: _State, seen: Batch) -> _State:
        """Measure every mini-batch whose images are all there; without labels nothing is computed."""
        if state.reason:
            return state
        classes = objectives.labels(seen) if objectives.objective(state.spec) == "cross-entropy" else None
        loss = objectives.loss_of(seen.adapter, classes, self.seed)
        if loss is None:
            state.reason = objectives.NO_LABELS
            return state
        tensors = objectives.filters(loss)
        state.weights = sum(tensor.numel() for tensor in tensors.values())
        needed = state.weights * self.products * next(iter(tensors.values())).element_size()
        if needed > MOST_BYTES:
            millions, gigabytes = state.weights / 1e6, needed / 2**30
            state.reason = f"its {millions:.0f} million weights would take {gigabytes:.0f} GB of vectors"
            return state
        for place, image in enumerate(seen.images):
            state.waiting[image] = seen.inputs[place], None if classes is None else classes[place]
        for number in sorted({image // self.batch for image in state.waiting}):
            images = range(number * self.batch, (number + 1) * self.batch)
            if all(image in state.waiting for image in images):
                inputs, known = zip(*(state.waiting.pop(image) for image in images), strict=True)
                of_all = None if known[0] is None else torch.stack(known)
                state.found[number] = self._measure(seen.adapter, torch.stack(inputs), of_all, seen.report)
        return state

    def _measure(
        self, adapter: Adapter, inputs: Tensor, classes: Tensor | None, report: Callable[[float], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of T, from the largest down, and their weights."""
        with adapter.lock, torch.inference_mode(False), torch.enable_grad(), full_precision(adapter):
            inputs = inputs.clone()
            loss = objectives.loss_of(adapter, None if classes is None else classes.clone(), self.seed)
            assert loss is not None
            weights = {name: tensor.clone().requires_grad_() for name, tensor in objectives.filters(loss).items()}
            evaluate = objectives.evaluated(loss)
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
                tensors = list(weights.values())
                slope = torch.autograd.grad(evaluate(weights, inputs).mean(), tensors, create_graph=True)

                def product(vector: Tensor) -> Tensor:
                    parts = vector.split([tensor.numel() for tensor in tensors])
                    shaped = [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]
                    found = torch.autograd.grad(slope, tensors, shaped, retain_graph=True)
                    return torch.cat([one.flatten() for one in found])

                start = torch.randn(
                    sum(tensor.numel() for tensor in tensors), generator=torch.Generator().manual_seed(self.seed)
                )
                small = lanczos(product, start.to(tensors[0]), self.products, report)
        values, vectors = np.linalg.eigh(small)
        return values[::-1], vectors[0, ::-1] ** 2

    def merge(self, a: _State, b: _State) -> _State:
        """Mini-batches of both."""
        both = _State(a.spec, a.reason or b.reason, a.waiting | b.waiting, a.found | b.found)
        both.weights = max(a.weights, b.weights)
        return both

    def compute(self, state: _State) -> xr.Dataset:
        """Lay the eigenvalues out over mini-batches."""
        if state.reason or not state.found:
            few = f"there are fewer than {self.batch} images, the size of a mini-batch"
            return xr.Dataset(attrs={"undefined": state.reason or few})
        numbers = sorted(state.found)
        room = (max(len(values) for values, _ in state.found.values()),)
        values, weights = (
            stack({(n,): pair[k] for n, pair in state.found.items()}, (numbers,), room, dtype=np.float64)
            for k in (0, 1)
        )
        units = {"units": "loss"}
        return xr.Dataset(
            {
                "eigenvalue": (("batch", "rank"), values, units),
                "weight": (("batch", "rank"), weights, {"units": "share of the density"}),
                "leading": ("batch", values[:, 0], units),
            },
            coords={"batch": numbers, "rank": np.arange(room[0])},
            attrs={
                "objective": objectives.objective(state.spec),
                "n": len(numbers) * self.batch,
                "weights": state.weights,
                "seed": self.seed,
            },
        )


def lanczos(
    product: Callable[[Tensor], Tensor], start: Tensor, steps: int, report: Callable[[float], None] = lambda share: None
) -> np.ndarray:
    """The tridiagonal matrix of a symmetric operator, (steps, steps) or smaller where its space is exhausted.

    Every vector is made orthogonal to all before it, twice, as rounding undoes what the recurrence promises.

    Args:
        product: the operator on a vector.
        start: the first vector; it is divided by its length.
        steps: products at most.
        report: told the share of the products that is done; it may raise.
    """
    vectors, diagonal, beside = [start / start.norm()], [], []
    for step in range(min(steps, len(start))):
        moved = product(vectors[-1])
        diagonal.append(float(moved @ vectors[-1]))
        for _ in range(2):
            for vector in vectors:
                moved = moved - (moved @ vector) * vector
        length = float(moved.norm())
        report((step + 1) / steps)
        if step + 1 == steps or length <= 1e-7 * max(map(abs, diagonal)):
            break
        beside.append(length)
        vectors.append(moved / length)
    count = len(diagonal)
    return np.diag(diagonal) + np.diag(beside[: count - 1], 1) + np.diag(beside[: count - 1], -1)
