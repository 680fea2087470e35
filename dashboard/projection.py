"""Maps of images in two dimensions: PCA at once, t-SNE in the background, each computed once."""

import hashlib
import threading
from collections import OrderedDict
from functools import cache

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from dashboard import results
from dashboard.jobs import Job, QueueFull

STAGES = 4
STEPS = 250
MOST_KEPT = 64


class Projections:
    """Finished maps, least recently used out first, and the jobs that make more."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._live: dict[str, Job] = {}
        self._lock = threading.RLock()

    def fetch(self, vectors: np.ndarray, visitor: str) -> np.ndarray | Job | str:
        """The t-SNE of vectors (image, feature), the job that makes it, or why there is none."""
        if len(vectors) < 5:
            return "t-SNE needs at least 5 images."
        key = hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            job = self._live.get(key)
            if job is not None and results.store().jobs.join(job, visitor):
                return job
            if job is not None and job.error:
                return job.error
            try:
                self._live[key] = results.store().jobs.submit(
                    "t-SNE", lambda job: self._work(job, key, vectors), visitor
                )
            except QueueFull as error:
                return str(error)
            return self._live[key]

    def _work(self, job: Job, key: str, vectors: np.ndarray) -> None:
        found = tsne(vectors, job)
        with self._lock:
            self._kept[key] = found
            self._live.pop(key, None)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)


@cache
def store() -> Projections:
    """The maps of this process."""
    return Projections()


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
