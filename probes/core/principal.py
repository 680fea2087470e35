"""Principal components of features, and the colours that are made of the first three."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

LOW, HIGH = 1, 99
COMPONENTS = 3


@dataclass(frozen=True)
class Basis:
    """The first principal components of some rows; those that the rows do not have are zero.

    Attributes:
        mean: of the rows, (channels,).
        axes: the components, (COMPONENTS, channels).
        explained: the part of the variance that each explains, (COMPONENTS,).
    """

    mean: np.ndarray
    axes: np.ndarray
    explained: np.ndarray

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Rows (..., channels) on the components, (..., COMPONENTS)."""
        found: np.ndarray = (rows - self.mean) @ self.axes.T
        return found


def fit(rows: np.ndarray) -> Basis:
    """The components of rows (rows, channels), the sign of each such that its largest entry is positive."""
    return fit_blocks(lambda: [rows])


def fit_blocks(blocks: Callable[[], Iterable[np.ndarray]]) -> Basis:
    """`fit` of rows that are seen block by block, twice, so that no more than a block of them is made float64.

    Args:
        blocks: gives rows (rows, channels) block by block, the same whenever it is called.
    """
    count, total, scatter = 0, np.zeros(()), np.zeros(())
    for block in blocks():
        count, total = count + len(block), total + block.sum(0, dtype=np.float64)
    mean = total / count
    for block in blocks():
        centred = block - mean
        scatter = scatter + centred.T @ centred
    axes, explained = np.zeros((COMPONENTS, len(mean))), np.zeros(COMPONENTS)
    if scatter.any():
        values, vectors = np.linalg.eigh(scatter)
        found = min(COMPONENTS, len(mean), count - 1)
        axes[:found] = _largest_positive(vectors.T[::-1][:found])
        explained[:found] = values[::-1][:found].clip(0) / values.clip(0).sum()
    return Basis(mean, axes, explained)


def _largest_positive(axes: np.ndarray) -> np.ndarray:
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(1)]
    return axes * np.where(largest < 0, -1, 1)[:, None]


def colour_range(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 1st and the 99th percentile of each component of scores (rows, COMPONENTS)."""
    low, high = np.percentile(scores, [LOW, HIGH], axis=0)
    return low, high


def as_colours(scores: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Scores (..., COMPONENTS) from ``low`` to ``high`` as red, green and blue, 0 to 1; 0.5 where these are one."""
    span = np.where(high > low, high - low, 1)
    return np.where(high > low, np.clip((scores - low) / span, 0, 1), 0.5)
