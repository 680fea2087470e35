"""Sums of the unbiased HSIC over minibatches, from U-centred Gram matrices."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probes.core.moments import Moments

CONSTANT = 1e-12
"""Below this part of the squared length, what is left after centring is rounding: all images look the same there."""


@dataclass
class Sums:
    """Sums over minibatches: the three HSICs, and the moments of each minibatch's own CKA."""

    minibatches: int = 0
    images: int = 0
    cross: Any = 0.0  # (a, b)
    own_a: Any = 0.0
    own_b: Any = 0.0
    single: Moments = field(default_factory=Moments)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray) -> "Sums":
        """One minibatch: U-centred Gram matrices (point, n, n) of both sides."""
        n = a.shape[-1]
        left, right = a.reshape(len(a), -1) / np.sqrt(n * (n - 3)), b.reshape(len(b), -1) / np.sqrt(n * (n - 3))
        cross, own_a, own_b = left @ right.T, (left**2).sum(1), (right**2).sum(1)
        ratio = ratio_of(cross, own_a, own_b)
        return cls(1, n, cross, own_a, own_b, Moments.of(ratio[None], np.isfinite(ratio)[None]))


def u_centred_gram(held: dict[int, Tensor]) -> np.ndarray:
    """U-centred Gram matrix (n, n) of the features, images in order; zero where all images are alike."""
    return u_centred(gram(held).cpu().numpy())


def gram(held: dict[int, Tensor]) -> Tensor:
    """Gram matrix (n, n) of the centred features, images in order, and in one more row the features' squared length.

    HSIC₁(K, L) is the sum of the products of two U-centred Gram matrices over n(n−3). Features are centred first: that
    changes nothing in exact arithmetic, and keeps a large common part from drowning the differences.
    """
    x = torch.stack([held[image] for image in sorted(held)])
    with torch.autocast(x.device.type, enabled=False):
        centred = x - x.mean(0)
        length = x.square().sum().expand(1, len(x))
        return torch.cat([centred @ centred.T, length]).double()


def u_centred(values: np.ndarray) -> np.ndarray:
    """What `gram` gives, U-centred: (n, n)."""
    centred, length = values[:-1].copy(), values[-1, 0]
    n = len(centred)
    if np.trace(centred) <= CONSTANT * length:
        return np.zeros_like(centred)
    np.fill_diagonal(centred, 0)
    rows = centred.sum(0)
    centred += rows.sum() / ((n - 1) * (n - 2)) - (rows[:, None] + rows[None]) / (n - 2)
    np.fill_diagonal(centred, 0)
    return centred


def ratio_of(cross: np.ndarray, own_a: np.ndarray, own_b: np.ndarray) -> np.ndarray:
    """CKA (a, b) from HSIC(K, L), HSIC(K, K) and HSIC(L, L); NaN where a layer gives all images the same."""
    scale = np.sqrt(np.outer(own_a, own_b))
    return np.divide(cross, scale, out=np.full_like(scale, np.nan), where=scale > 0)
