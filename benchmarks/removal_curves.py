"""Deletion and insertion: what fewer passes save, and what fewer steps change.

Run ``python -m benchmarks.removal_curves [IMAGES]``. The floor is what the page asks for, the work is what it asked for
before: 8 steps, three random orders and both curves of each of them computed. Below it the mean areas over IMAGES
procedural scenes (8 when not given) for several numbers of steps, and the largest distance of an image's area from
that of 49 steps.
"""

import sys
import time

import numpy as np
import torch

from benchmarks.harness import compare, show
from dashboard.views.dino_supervised.removal_curves import STEPS
from model_zoo.adapter import Adapter
from model_zoo.loading import load
from model_zoo.scenes import Scenes
from probes.core.capture import Batch
from probes.core.perturbation import curves, random_orders
from probes.core.saliency import maps_of, trapezoid
from probes.core.targets import Target
from probes.saliency_score import RANDOM_ORDERS, SEED

MODELS = ("scenes-vit-dino", "scenes-vit-supervised")
FILL = "mean"


def before(batch: Batch) -> None:
    """Eight steps, both curves of the map and of three random maps."""
    maps = maps_of(batch, "heads", Target()).mean(1, keepdims=True)
    chance = np.random.default_rng(0).random((len(maps), 3, *maps.shape[2:]))
    none = random_orders(batch, maps[0, 0].size, 0, SEED)
    curves(batch, np.concatenate([maps, chance], 1), none, Target(), steps=8, fill=FILL)


def now(batch: Batch, steps: int = STEPS) -> tuple[np.ndarray, ...]:
    """Areas of an image: deletion, insertion, random order."""
    maps = maps_of(batch, "heads", Target())[:, :1]
    orders = random_orders(batch, maps[0, 0].size, RANDOM_ORDERS, SEED)
    found = curves(batch, maps, orders, Target(), steps=steps, fill=FILL)
    return tuple(trapezoid(curve).mean(1) for curve in found)


def batch_of(adapter: Adapter, images: int) -> Batch:
    scenes = [Scenes().image(i) for i in range(images)]
    return Batch(adapter, range(images), torch.stack([adapter.preprocess(scene) for scene in scenes]), scenes)


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    rows, areas = [], []
    for name in MODELS:
        batch = batch_of(load(name, device="cpu"), images)
        rows.append(compare(name, lambda b=batch: now(b), lambda b=batch: before(b), turns=3, clock=time.process_time))
        fine = np.stack(now(batch, 49))
        for steps in (2, 4, 8, 16):
            found = np.stack(now(batch, steps))
            off = np.abs(found - fine).max(1)
            areas.append((name, steps, found.mean(1), off))
        areas.append((name, 49, fine.mean(1), np.zeros(3)))
    show(rows)
    print("\n| model | steps | deletion | insertion | random order | an image is off by at most |")
    print("|---|---|---|---|---|---|")
    for name, steps, mean, off in areas:
        print(f"| {name} | {steps} | {' | '.join(f'{value:.3f}' for value in mean)} | {off.max():.3f} |")


if __name__ == "__main__":
    main()
