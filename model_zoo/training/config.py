"""What a training run is: everything that its result depends on."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OBJECTIVES = ("supervised", "distilled", "dino", "mae")
POSITIVES = ("object", "shape")
POSITIONS = ("random", "sincos", "near")


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one image size.

    Attributes:
        images: how many images it shows.
        size: side of the images in pixels, a multiple of the patch.
        difficulty: of the scenes at its beginning and its end; other data ignore it.
        drop: share of the patches that is left out at random, which makes a step cheaper (PatchDropout, Liu et al.
            2022, arXiv:2208.07220). Convolutional networks and masked autoencoding ignore it.
        surface_correlation: of the scenes of this stage; None takes the run's. At 0.1 the surface says nothing about
            the class, so that the shape has to be learned; other data ignore it.
        texture: of the scenes at its beginning and its end; 0 leaves grey shapes on grey.
    """

    images: int
    size: int
    difficulty: tuple[float, float] = (1.0, 1.0)
    drop: float = 0.0
    surface_correlation: float | None = None
    texture: tuple[float, float] = (1.0, 1.0)

    @property
    def cost(self) -> float:
        """What an image costs, up to a factor: its area in the patches that are kept."""
        return self.size**2 * (1 - self.drop)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Two runs with equal configurations on the same device give the same weights.

    Attributes:
        objective: one of ``OBJECTIVES``.
        architecture: a timm model name; ``scenes_*`` are registered by ``model_zoo.architectures``.
        stages: the curriculum, in order.
        data: ``scenes``, ``digits`` or ``folder:PATH`` (one sub-folder per class).
        seed: of weights, images and augmentation, 0 to 2**32 - 1.
        batch_size: images a step.
        optimiser: a name that timm's optimiser factory knows, such as ``adamw`` or ``muon``.
        lr: peak learning rate, reached after ``warmup`` (share of all steps), then a cosine to ``min_lr``.
        weight_decay: on matrices only.
        drop_path: stochastic depth of the student.
        ema_decay: of the averaged weights that are exported (not DINO, whose teacher is the average); 0 is off.
        snapshots: shares of all steps after which the weights are kept.
        init: weights of an earlier run to start from instead of random ones; empty for none.
        teacher: folder of the trained teacher (distilled).
        surface_correlation: of the scenes, where a stage does not say otherwise.
        photographs: a file or folder of photographs whose crops are backgrounds in half of the scenes;
            ``scikit-image`` takes those of that library that the dashboard does not show; empty for none.
        positives: what two views of a scene share: the ``object``, or its ``shape`` alone, painted anew.
        positions: what the position embeddings of a transformer start from: ``random`` (timm's), ``sincos``, sines
            and cosines of row and column, or ``near``, the same at full strength (as in MAE) with queries and keys of
            the first two blocks alike, so that patches begin by attending to their neighbours. All are learned.
        precision: ``float32`` or ``bfloat16`` autocast.
        arguments: of the architecture, such as ``img_size`` and ``patch_size``.
        options: of the objective, by the names of its class's arguments.
    """

    objective: str
    architecture: str
    stages: tuple[Stage, ...]
    data: str = "scenes"
    seed: int = 0
    batch_size: int = 64
    optimiser: str = "adamw"
    lr: float = 1e-3
    min_lr: float = 1e-5
    warmup: float = 0.05
    weight_decay: float = 0.05
    drop_path: float = 0.0
    ema_decay: float = 0.998
    snapshots: tuple[float, ...] = ()
    init: str = ""
    teacher: str = ""
    surface_correlation: float = 0.7
    photographs: str = ""
    positives: str = "object"
    positions: str = "random"
    precision: str = "float32"
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be 0 to 4294967295 (larger ones are held out), got {self.seed}")
        if not self.stages or any(stage.images < 1 for stage in self.stages):
            raise ValueError("a run needs at least one stage of at least one image")
        if self.positives not in POSITIVES:
            raise ValueError(f"positives must be one of {', '.join(POSITIVES)}, got {self.positives!r}")
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, got {self.positions!r}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16, got {self.precision!r}")

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Steps of each stage."""
        return tuple(max(1, round(stage.images / self.batch_size)) for stage in self.stages)

    @property
    def steps(self) -> int:
        """Steps in all."""
        return sum(self.stage_steps)

    def stage_at(self, step: int) -> tuple[Stage, float, float]:
        """The stage of a step, and the difficulty and the texture there."""
        for stage, steps in zip(self.stages, self.stage_steps, strict=True):
            if step < steps:
                share = step / max(1, steps - 1)
                difficulty, texture = (
                    first + (last - first) * share for first, last in (stage.difficulty, stage.texture)
                )
                return stage, difficulty, texture
            step -= steps
        return self.stages[-1], self.stages[-1].difficulty[1], self.stages[-1].texture[1]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TrainConfig":
        """The configuration that ``to_json`` wrote down."""
        pairs = ("difficulty", "texture")
        stages = tuple(
            Stage(**{**stage, **{name: tuple(stage[name]) for name in pairs if name in stage}})
            for stage in data["stages"]
        )
        return cls(**{**data, "stages": stages, "snapshots": tuple(data["snapshots"])})


def steps_taken(configs: Sequence[TrainConfig]) -> list[int]:
    """How many steps of each run lie behind the weights of the last.

    Args:
        configs: of the runs, each begun from the final weights of the one before or from a snapshot of it.
    """
    left_at = [Path(after.init).stem for after in configs[1:]]
    return [
        int(stem.removeprefix("step-")) if stem.startswith("step-") else config.steps
        for config, stem in zip(configs, [*left_at, ""], strict=False)
    ]


def stages_taken(configs: Sequence[TrainConfig]) -> list[tuple[TrainConfig, Stage]]:
    """The stages that lie behind the weights of the last run, the one that a snapshot was taken in cut short there."""
    taken = []
    for config, left in zip(configs, steps_taken(configs), strict=True):
        for stage, steps in zip(config.stages, config.stage_steps, strict=True):
            done = min(steps, left)
            left -= done
            if done == steps:
                taken.append((config, stage))
            elif done:
                share = done / steps
                cut = dataclasses.replace(
                    stage,
                    images=done * config.batch_size,
                    difficulty=_until(stage.difficulty, share),
                    texture=_until(stage.texture, share),
                )
                taken.append((config, cut))
    return taken


def _until(ends: tuple[float, float], share: float) -> tuple[float, float]:
    first, last = ends
    return first, first + (last - first) * share
