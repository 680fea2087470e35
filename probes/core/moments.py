"""Mean and spread over images, merged without the cancellation that sums of squares have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_zoo.adapter import ModelSpec
from probes.core.stacking import stack


@dataclass(frozen=True)
class Moments:
    r"""Count, mean and sum of squared deviations of arrays, element by element.

    .. math::
        \delta = \mu_b - \mu_a, \quad \mu = \mu_a + \delta \frac{n_b}{n}, \quad
        S = S_a + S_b + \delta^2 \frac{n_a n_b}{n}, \quad n = n_a + n_b

    Nothing large is subtracted from something large, so the spread keeps its digits however far from zero the values
    lie. Zero values of the fields are the moments of nothing, and of every shape.

    Attributes:
        count: how many values.
        mean: their mean, 0 where there are none.
        squares: sum of their squared deviations from it.

    Reference:
        Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115.
    """

    count: Any = 0.0
    mean: Any = 0.0
    squares: Any = 0.0

    @classmethod
    def of(cls, values: np.ndarray, known: np.ndarray | None = None) -> "Moments":
        """Moments along the first axis.

        Args:
            values: (images, ...).
            known: which values count, of the same shape; all where it is None.
        """
        values = np.asarray(values, dtype=np.float64)
        known = np.ones(values.shape, dtype=bool) if known is None else known
        count = known.sum(0).astype(np.float64)
        mean = np.where(known, values, 0).sum(0) / np.maximum(count, 1)
        return cls(count, mean, np.where(known, (values - mean) ** 2, 0).sum(0))

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of the values of both."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        delta = other.mean - self.mean
        squares = self.squares + other.squares + delta**2 * self.count * share
        return Moments(count, self.mean + delta * share, squares)

    def deviation(self) -> np.ndarray:
        """Standard deviation of the values (n − 1 in the denominator); NaN for fewer than two."""
        freedom = np.where(self.count > 1, self.count - 1, np.nan)
        return np.sqrt(self.squares / freedom)

    def standard_error(self) -> np.ndarray:
        """Standard error of the mean; NaN for fewer than two values."""
        return self.deviation() / np.sqrt(np.maximum(self.count, 1))


def merge(a: Mapping[int, Moments], b: Mapping[int, Moments]) -> dict[int, Moments]:
    """Moments of every layer over the images of both."""
    return {layer: a.get(layer, Moments()) + b.get(layer, Moments()) for layer in {*a, *b}}


def images(moments: Mapping[int, Moments]) -> int:
    """How many images there were."""
    return max((int(np.max(m.count)) for m in moments.values()), default=0)


def by_layer(spec: ModelSpec, moments: Mapping[int, Moments], variables: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and their standard errors, each (variable, layer, head).

    Args:
        spec: the model.
        moments: of (variable, head), by layer; NaN stands where a layer has none or fewer heads than the largest.
        variables: how many.
    """
    room = variables, max(layer.heads for layer in spec.layers)
    means = {(layer,): m.mean for layer, m in moments.items()}
    errors = {(layer,): m.standard_error() for layer, m in moments.items()}
    mean, error = (stack(parts, (range(len(spec.layers)),), room, dtype=np.float64) for parts in (means, errors))
    return mean.swapaxes(0, 1), error.swapaxes(0, 1)
