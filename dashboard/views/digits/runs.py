"""Trainings on the digits: each has a name that a link carries, and what it has come to is held for a while."""

import copy
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch
from PIL import Image

from dashboard.compute.jobs import Job, Jobs
from dashboard.state.visitors import browser
from model_zoo import trained
from model_zoo.trained import Trained
from model_zoo.training.recipes import RECIPES

MEASURED_ON = 16
MOST_RUNS = 32
KEPT_EPOCHS = (1, 2, 4, 8, 16, 32)
"""After these the weights are kept, so that the training can be followed on other pages."""


@dataclass(frozen=True)
class Look:
    """What one look into the model showed: after ``epoch`` passes over the digits."""

    epoch: float
    loss: float
    accuracy: float
    distance: tuple[float, ...]
    similarity: np.ndarray


@dataclass
class Run:
    """A training and what has been seen of it so far.

    Attributes:
        identity: its name in links; the trained model is ``trained:IDENTITY`` as soon as the training has ended.
        epochs: how many it was meant to take.
        seed: of weights and batches.
        visitor: who started it.
        looks: one after every epoch.
        state: the weights that the last look was into.
        step: optimiser steps behind them.
        snapshots: weights of the untrained network and after some epochs, by step, in half precision.
    """

    identity: str
    epochs: int
    seed: int
    visitor: str
    looks: list[Look] = field(default_factory=list)
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    step: int = 0
    snapshots: dict[int, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    job: Job = field(default_factory=lambda: Job("Training on the digits"))

    @property
    def model(self) -> str:
        """The trained model's MODEL string."""
        return f"trained:{self.identity}"

    def of(self, visitor: str) -> bool:
        """Whether it was started in this browser, in whatever tab."""
        return browser(self.visitor) == browser(visitor)

    def train(self, job: Job) -> None:
        """Train, and hold the model also when it is stopped."""
        try:
            train_digits(self, job)
        finally:
            if self.looks:
                label = f"Digits seed {self.seed} epoch {self.looks[-1].epoch:.0f}"
                recipe = RECIPES["digits"]
                earlier = {step: weights for step, weights in self.snapshots.items() if step < self.step}
                size = recipe.stages[0].size
                model = Trained(label, "digits_vit", self.state, self.step, recipe.batch_size, size, earlier)
                trained.keep(self.identity, model)


class Runs:
    """The latest trainings of this process.

    One trains at a time, in a queue of its own, so that the other pages' computations need not wait for it.
    """

    def __init__(self) -> None:
        self.jobs = Jobs(workers=1, most_waiting=16)
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, epochs: int, seed: int, visitor: str) -> Run:
        """Queue a training.

        Raises:
            QueueFull: too many are waiting.
        """
        run = Run(secrets.token_hex(6), epochs, seed, visitor)
        run.job = self.jobs.submit(run.job.label, run.train, visitor)
        with self._lock:
            self._runs[run.identity] = run
            while len(self._runs) > MOST_RUNS:
                self._runs.popitem(last=False)
        return run

    def get(self, identity: str) -> Run | None:
        """The training of a link, None when it is no longer held."""
        with self._lock:
            return self._runs.get(identity)

    def live(self, visitor: str) -> Run | None:
        """What this visitor's browser is training now."""
        with self._lock:
            return next((run for run in self._runs.values() if run.job.live and run.of(visitor)), None)

    def stop(self, run: Run, visitor: str) -> None:
        """End a training of this visitor's browser, from whichever tab."""
        if run.of(visitor):
            self.jobs.leave(run.job, run.visitor)


@cache
def runs() -> Runs:
    """The trainings of this process."""
    return Runs()


def train_digits(run: Run, job: Job) -> None:
    """Train and look into the model after every epoch; runs outside of Streamlit's threads."""
    from model_zoo.adapter import Adapter
    from model_zoo.images import ImageSource
    from model_zoo.training.data import open_source
    from model_zoo.training.loop import build_student, train
    from probes.attention_distance import AttentionDistance
    from probes.core import runner
    from probes.position_similarity import PositionSimilarity

    config = replace(RECIPES["digits"], seed=run.seed)
    source = open_source("digits", run.seed)
    size = config.stages[0].size
    pixels, _ = source.validation(MEASURED_ON, size, 1.0, torch.device("cpu"))
    digits = [Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy()) for image in pixels]
    images = [ImageSource(f"digit {k}", picture.copy) for k, picture in enumerate(digits)]
    an_epoch = 1438 // config.batch_size
    config = replace(config, stages=(replace(config.stages[0], images=run.epochs * an_epoch * config.batch_size),))
    run.snapshots[0] = _halved(build_student(config, len(source.classes)).state_dict())
    job.report("training", 0, config.steps)
    for one in train(config, report_every=2, validate_every=an_epoch):
        job.report("training", one.step, config.steps)
        if "val_top1" in one.metrics:
            module = copy.deepcopy(one.model)
            model = Adapter(module, image_size=size)
            probes = {"distance": AttentionDistance(), "positions": PositionSimilarity()}
            seen = runner.run({"m": model}, images, probes, batch_size=MEASURED_ON, dtype="float32")
            distance = seen["distance"]["m"]["distance"].mean("head").values
            run.state, run.step = module.state_dict(), one.step
            if one.step // an_epoch in KEPT_EPOCHS:
                run.snapshots[one.step] = _halved(run.state)
            run.looks.append(
                Look(
                    epoch=one.step / an_epoch,
                    loss=one.loss,
                    accuracy=one.metrics["val_top1"],
                    distance=tuple(float(value) for value in distance),
                    similarity=seen["positions"]["m"]["similarity"].values,
                )
            )


def _halved(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.half() if value.is_floating_point() else value.clone() for name, value in state.items()}
