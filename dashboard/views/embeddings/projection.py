"""Maps of images in two dimensions: PCA at once, t-SNE and UMAP in the background, each computed once."""

import hashlib
import importlib.util
import threading
from collections.abc import Callable

import numpy as np

from dashboard.compute.background import Background
from dashboard.compute.jobs import Job

STAGES = 4
STEPS = 250
FEWEST = 5
NEIGHBOURS = 15
NO_UMAP = "UMAP is not installed here: `pip install -r requirements-umap.txt` on the server adds it."

_KEPT: Background[np.ndarray] = Background(16 * 2**20)
_UMAP = threading.Lock()  # its compiled loops may not run in two threads at once on every machine


def has_umap() -> bool:
    """Whether the optional library of UMAP is installed."""
    return importlib.util.find_spec("umap") is not None


def digest(vectors: np.ndarray) -> str:
    """A name for the content of an array."""
    return hashlib.sha256(repr(vectors.shape).encode() + np.ascontiguousarray(vectors).tobytes()).hexdigest()


def fetch(vectors: np.ndarray, visitor: str, kind: str = "tsne") -> np.ndarray | Job | str:
    """The map of vectors (image, feature), the job that makes it, or why there is none.

    Args:
        vectors: one a image.
        visitor: who asks.
        kind: ``tsne`` or ``umap``.
    """
    label, make = _SLOW[kind]
    if kind == "umap" and not has_umap():
        return NO_UMAP
    if len(vectors) < FEWEST:
        return f"{label} needs at least {FEWEST} images."
    return _KEPT.fetch((kind, digest(vectors)), label, lambda job: make(vectors, job), visitor)


def again(visitor: str) -> None:
    """Let this visitor ask for the maps that they stopped or that failed."""
    _KEPT.again(visitor)


def pca(vectors: np.ndarray) -> np.ndarray:
    """First two principal components of unit vectors (image, 2)."""
    unit = _unit(vectors)
    if len(unit) < 2:
        return np.zeros((len(unit), 2))
    from sklearn.decomposition import PCA  # takes seconds, and the first page needs none of it

    scores = PCA(min(2, *unit.shape), svd_solver="full").fit_transform(unit)
    return np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))


def tsne(vectors: np.ndarray, job: Job | None = None) -> np.ndarray:
    """t-SNE of unit vectors (image, 2), started from their PCA; perplexity 30, or a third of the images if fewer.

    It runs in stages, each from where the one before ended, so that progress shows and it can be stopped.
    """
    unit = _unit(vectors).astype(np.float32)
    if _same(unit):
        return np.zeros((len(unit), 2))
    perplexity = min(30.0, (len(unit) - 1) / 3)
    start = pca(vectors).astype(np.float32)
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)
    for stage in range(STAGES):
        if job is not None:
            job.report("placing the images", stage, STAGES)
        from sklearn.manifold import TSNE

        start = TSNE(
            perplexity=perplexity,
            init=start,
            early_exaggeration=12.0 if stage == 0 else 1.0,
            max_iter=STEPS,
            random_state=0,
            n_jobs=1,
        ).fit_transform(unit)
    return start


def umap(vectors: np.ndarray, job: Job | None = None) -> np.ndarray:
    """UMAP of unit vectors (image, 2), started from their PCA; 15 neighbours, or all if there are fewer; seeded.

    The library compiles itself when it is first used, which takes a minute on a slow machine.

    Reference:
        McInnes, Healy and Melville 2018, arXiv:1802.03426.
    """
    unit = _unit(vectors).astype(np.float32)
    if _same(unit):
        return np.zeros((len(unit), 2))
    start = pca(vectors)
    # Images on one line or on one spot would leave a direction without extent, which UMAP divides by.
    start += np.random.default_rng(0).normal(scale=1e-3 * float(start.std()), size=start.shape)
    with _UMAP:
        if job is not None:
            job.report("preparing (the first time takes a minute)")
        from umap import UMAP

        if job is not None:
            job.report("placing the images")
        placed: np.ndarray = UMAP(
            n_neighbors=min(NEIGHBOURS, len(unit) - 1), init=start.astype(np.float32), random_state=0, n_jobs=1
        ).fit_transform(unit)
    return placed


_SLOW: dict[str, tuple[str, Callable[[np.ndarray, Job | None], np.ndarray]]] = {
    "tsne": ("t-SNE", tsne),
    "umap": ("UMAP", umap),
}


def _same(unit: np.ndarray) -> bool:
    """Whether all images are one and the same point."""
    return bool(np.ptp(unit, axis=0).max(initial=0.0) < 1e-6)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
