"""Principal components of features, and the colours that are made of the first three."""

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
    from sklearn.decomposition import PCA

    mean = rows.mean(0)
    # Before scikit-learn, whose covariance would subtract the mean's square from the sum of squares.
    centred = rows - mean
    axes, explained = np.zeros((COMPONENTS, rows.shape[1])), np.zeros(COMPONENTS)
    count = min(COMPONENTS, centred.shape[1], len(rows) - 1)
    if centred.any():
        pca = PCA(count, svd_solver="covariance_eigh").fit(centred)
        axes[:count], explained[:count] = pca.components_, pca.explained_variance_ratio_
        mean = mean + pca.mean_
    return Basis(mean, axes, explained)


def principal(rows: np.ndarray, project: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of ``project`` on the first three principal components of ``rows``, and the variance they explain."""
    basis = fit(rows)
    return basis.scores(project), basis.explained


def colour_range(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 1st and the 99th percentile of each component of scores (rows, COMPONENTS)."""
    low, high = np.percentile(scores, [LOW, HIGH], axis=0)
    return low, high


def as_colours(scores: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Scores (..., COMPONENTS) from ``low`` to ``high`` as red, green and blue, 0 to 1; 0.5 where these are one."""
    span = np.where(high > low, high - low, 1)
    return np.where(high > low, np.clip((scores - low) / span, 0, 1), 0.5)
