"""Trainings of seconds."""

from model_zoo.training.config import Stage, TrainConfig

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 24}


def tiny(objective: str, **changes) -> TrainConfig:
    architecture = "scenes_deit_distilled" if objective == "distilled" else "scenes_vit"
    options = {"prototypes": 16, "hidden": 16, "bottleneck": 8} if objective == "dino" else {}
    defaults = {"stages": (Stage(96, 24, (0.0, 0.5)), Stage(64, 32)), "batch_size": 16, "arguments": TINY}
    return TrainConfig(objective, architecture, **{**defaults, "options": options, **changes})
