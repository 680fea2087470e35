"""The recipes of the shipped models: everything but the seed and the folder."""

from model_zoo.training.config import Stage, TrainConfig

RECIPES: dict[str, TrainConfig] = {
    "scenes-resnet": TrainConfig(
        objective="supervised",
        architecture="scenes_resnet",
        stages=(Stage(16_000, 48, (0.0, 1.0)), Stage(32_000, 48), Stage(10_240, 112)),
        lr=2e-3,
    ),
    "scenes-vit-supervised": TrainConfig(
        objective="supervised",
        architecture="scenes_vit",
        stages=(Stage(38_400, 48, (0.0, 1.0)), Stage(96_000, 48), Stage(9_600, 80), Stage(5_120, 112)),
        snapshots=(0.0, 0.1, 0.3, 0.6),
    ),
    "scenes-vit-dino": TrainConfig(
        objective="dino",
        architecture="scenes_vit",
        stages=(Stage(32_000, 48, (0.0, 1.0)), Stage(48_000, 48), Stage(6_400, 80)),
        lr=1e-3,
        options={"centring": "sinkhorn", "prototypes": 128, "teacher_temperature": [0.06, 0.06]},
        snapshots=(0.0, 0.1, 0.3, 0.6),
    ),
    "scenes-vit-mae": TrainConfig(
        objective="mae",
        architecture="scenes_vit",
        stages=(Stage(64_000, 64, (0.0, 1.0)), Stage(96_000, 64), Stage(9_600, 112)),
        lr=1.5e-3,
    ),
    "scenes-deit-distilled": TrainConfig(
        objective="distilled",
        architecture="scenes_deit_distilled",
        stages=(Stage(38_400, 48, (0.0, 1.0)), Stage(64_000, 48), Stage(9_600, 80), Stage(5_120, 112)),
        teacher="model_zoo/weights/scenes-resnet",
    ),
}
