"""What squares of similarities say: an order, nearest images, and how far two models agree. Pure arrays."""

from collections.abc import Sequence

import numpy as np
import torch

from probes.core.hsic import Sums, ratio_of, u_centred_gram

NEIGHBOURS = 10


def order(square: np.ndarray, classes: Sequence[str], by: str) -> np.ndarray:
    """Indices of the images in the order in which squares show them.

    Args:
        square: similarities (image, image).
        classes: class of each image, empty where none is known.
        by: ``class`` (images of a class keep their order), ``cluster`` (neighbours of an average-linkage tree over
            1 − similarity are put side by side) or ``given``.
    """
    count = len(square)
    if by == "class" and len(classes) == count:
        return np.argsort(np.array(classes), kind="stable")
    if by == "cluster" and count > 2:
        distance = 1 - np.nan_to_num((square + square.T) / 2)
        np.fill_diagonal(distance, 0)
        from scipy.cluster.hierarchy import leaves_list, linkage  # takes a second
        from scipy.spatial.distance import squareform

        return leaves_list(
            linkage(squareform(np.maximum(distance, 0), checks=False), "average", optimal_ordering=count <= 600)
        )
    return np.arange(count)


def nearest(square: np.ndarray, image: int, count: int = NEIGHBOURS) -> np.ndarray:
    """The images most similar to one, nearest first, itself left out."""
    values = np.nan_to_num(square[image].astype(np.float64), nan=-np.inf)
    values[image] = -np.inf
    return np.argsort(-values, kind="stable")[: min(count, len(values) - 1)]


def members(square: np.ndarray, count: int) -> np.ndarray:
    """Which images are among the ``count`` nearest of each (image, image), the same ones that `nearest` gives."""
    values = np.nan_to_num(square.astype(np.float64), nan=-np.inf)
    np.fill_diagonal(values, -np.inf)
    last = np.partition(values, -count, axis=1)[:, -count, None]
    above, level = values > last, values == last
    np.fill_diagonal(level, False)
    return above | (level & (level.cumsum(1) <= count - above.sum(1, keepdims=True)))


def neighbour_overlap(a: np.ndarray, b: np.ndarray, count: int = NEIGHBOURS) -> tuple[float, float, int]:
    """Share of an image's nearest images that two models have in common, mean over images; by chance; and how many.

    Returns:
        overlap 0 to 1, what independent neighbours would share (k over n − 1), and k; NaN for fewer than three images.
    """
    n = len(a)
    k = neighbours_of(n, count)
    if k < 1:
        return np.nan, np.nan, 0
    return overlap(members(a, k), members(b, k)), k / (n - 1), k


def neighbours_of(n: int, count: int = NEIGHBOURS) -> int:
    """How many neighbours are compared among n images: fewer than all others, or every two models would agree."""
    return max(min(count, n - 2), 0)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the nearest images that two models have in common, from what `members` gives."""
    return float((a & b).sum() / a.sum())


def own_class(square: np.ndarray, classes: Sequence[str]) -> float:
    """Share of images whose nearest image is of their own class; NaN without classes."""
    if not classes or len(square) < 2:
        return np.nan
    values = np.nan_to_num(square.astype(np.float64), nan=-np.inf)
    np.fill_diagonal(values, -np.inf)
    kinds = np.unique(np.array(classes), return_inverse=True)[1]
    known = np.isfinite(values.max(1))  # an image whose vector has length 0 has no nearest
    return float(np.mean((kinds[values.argmax(1)] == kinds) & known))


def alignment(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased linear CKA of two sets of vectors (image, feature) of the same images; NaN for fewer than four."""
    return aligned(gram(a), gram(b)) if len(a) >= 4 else np.nan


def gram(vectors: np.ndarray) -> np.ndarray:
    """The U-centred Gram matrix (image, image) that CKA compares, of at least four images."""
    return u_centred_gram(dict(enumerate(torch.from_numpy(vectors.astype(np.float64)))))


def aligned(a: np.ndarray, b: np.ndarray) -> float:
    """CKA of two Gram matrices as `gram` gives them; NaN where a model gives all images the same."""
    sums = Sums.of(a[None], b[None])
    return float(ratio_of(sums.cross, sums.own_a, sums.own_b)[0, 0])


def spread(square: np.ndarray) -> tuple[float, float]:
    """Mean similarity of different images, and the standard deviation over pairs; NaN for one image."""
    off = square[~np.eye(len(square), dtype=bool)]
    off = off[np.isfinite(off)]
    return (float(off.mean()), float(off.std())) if off.size else (np.nan, np.nan)


def all_alike(square: np.ndarray) -> bool:
    """Whether a square has nearly one colour: every two images alike, to a tenth of the scale from −1 to 1."""
    mean, deviation = spread(square)
    return mean > 0.8 and deviation < 0.1
