"""What CKA between two models costs on top of their plain forward passes, and how large a grid of 500 images is.

Run ``python -m benchmarks.representations`` for every row, each in a process of its own, or with a row's name for one.
"""

import json
import subprocess
import sys
import time

import numpy as np
import torch

from benchmarks.capture import plain, prepared
from benchmarks.harness import compare, peak, show
from dashboard.controls import image_sets
from dashboard.state.selection import Selection
from dashboard.views.embeddings import image_relations, similarity
from dashboard.views.embeddings.image_relations import Near, Relation
from probes.cka import CKA
from probes.core.capture import Batch
from probes.core.runner import Fold
from probes.embedding_similarity import cosine

ROWS = ("cka", "cka-memory", "grid")
BATCH, MINIBATCH = 8, 32


class Pair:
    """CKA of all block outputs within and between two ViT-S/16, as the runner folds it."""

    def __init__(self) -> None:
        self.models = [prepared("vit_small_patch16_224", 224, BATCH)[0] for _ in range(2)]
        self.probe = CKA(minibatch=MINIBATCH)
        self.restart()

    def restart(self) -> None:
        self.folds = [Fold(adapter, {"cka": self.probe}) for adapter in self.models]
        self.pair = self.probe.init_pair(*self.states())

    def states(self) -> list:
        return [fold.readers[0].state for fold in self.folds]

    def take(self, inputs: torch.Tensor, start: int) -> None:
        with torch.inference_mode():
            for adapter, fold in zip(self.models, self.folds, strict=True):
                fold.take(Batch(adapter, range(start, start + len(inputs)), inputs, []))
            self.pair = self.probe.update_pair(self.pair, *self.states())

    def compute(self) -> object:
        return self.probe.compute_pair(self.pair, *self.states())


def cka() -> None:
    both, x = Pair(), torch.randn(BATCH, 3, 224, 224)

    def work() -> object:
        both.restart()
        for start in range(0, MINIBATCH, BATCH):
            both.take(x + start, start)
        return both.compute()

    def floor() -> None:
        for _ in range(0, MINIBATCH, BATCH):
            for adapter in both.models:
                plain(adapter, x)

    show([compare("CKA of 12 × 12 blocks, two ViT-S/16, 32 images in batches of 8, float32", work, floor, turns=5)])


def cka_memory() -> None:
    both, x = Pair(), torch.randn(BATCH, 3, 224, 224)
    peaks = {}
    for start in range(0, 256, BATCH):
        both.take(x + start, start)
        if start + BATCH in (64, 256):
            peaks[start + BATCH] = peak()
    print(f"peak after 64 images {peaks[64]:.0f} MiB, after 256 images {peaks[256]:.0f} MiB")


def grid() -> None:
    chosen = image_sets.described("scenes-500", Selection(("m",), ()))
    vectors = np.random.default_rng(0).normal(size=(500, 384))
    square = cosine(vectors)
    start = time.perf_counter()
    order = similarity.order(square, chosen.classes, "cluster")
    middle = time.perf_counter()
    sheet = image_relations.sheet(chosen.images)
    drawn = time.perf_counter()
    panels = [Relation(name, "#0072B2", square=square) for name in "ab"]
    near = [Near("n", "#0072B2", range(1, 11), [0.5] * 10)] * 2
    sent = image_relations.describe(
        chosen.images, panels, thumbnails=sheet, order=order.tolist(), classes=chosen.classes, selected=0, near=near
    )
    size = len(json.dumps(sent))
    print(f"two grids of 500 × 500 with thumbnails: {size / 1e6:.2f} MB sent")
    print(f"clustering order {middle - start:.2f} s, thumbnails (in the background) {drawn - middle:.2f} s, ")
    print(f"the rest {time.perf_counter() - drawn:.2f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"cka": cka, "cka-memory": cka_memory, "grid": grid}[sys.argv[1]]()
    else:
        for row in ROWS:
            subprocess.run([sys.executable, "-m", "benchmarks.representations", row], check=True)
