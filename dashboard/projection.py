"""Maps of images in two dimensions: PCA at once, t-SNE in the background, each computed once."""

import hashlib

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from dashboard.background import Background
from dashboard.jobs import Job

STAGES = 4
STEPS = 250


_KEPT: Background[np.ndarray] = Background(64)


def fetch(vectors: np.ndarray, visitor: str) -> np.ndarray | Job | str:
    """The t-SNE of vectors (image, feature), the job that makes it, or why there is none."""
    if len(vectors) < 5:
        return "t-SNE needs at least 5 images."
    key = hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()
    return _KEPT.fetch(key, "t-SNE", lambda job: tsne(vectors, job), visitor)


def pca(vectors: np.ndarray) -> np.ndarray:
    """First two principal components of unit vectors (image, 2)."""
    unit = _unit(vectors)
    if len(unit) < 2:
        return np.zeros((len(unit), 2))
    scores = PCA(min(2, *unit.shape), svd_solver="full").fit_transform(unit)
    return np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))


def tsne(vectors: np.ndarray, job: Job | None = None) -> np.ndarray:
    """t-SNE of unit vectors (image, 2), started from their PCA; perplexity 30, or a third of the images if fewer.

    It runs in stages, each from where the one before ended, so that progress shows and it can be stopped.
    """
    unit = _unit(vectors).astype(np.float32)
    perplexity = min(30.0, (len(unit) - 1) / 3)
    start = pca(vectors).astype(np.float32)
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)
    for stage in range(STAGES):
        if job is not None:
            job.report("placing the images", stage, STAGES)
        start = TSNE(
            perplexity=perplexity,
            init=start,
            early_exaggeration=12.0 if stage == 0 else 1.0,
            max_iter=STEPS,
            random_state=0,
            n_jobs=1,
        ).fit_transform(unit)
    return start


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
