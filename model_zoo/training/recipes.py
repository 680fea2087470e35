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
        stages=(Stage(64_000, 48, (0.0, 1.0)), Stage(128_000, 48), Stage(20_000, 80), Stage(10_000, 112)),
        snapshots=(0.0, 0.1, 0.3, 0.6),
    ),
    "scenes-vit-dino": TrainConfig(
        objective="dino",
        architecture="scenes_vit",
        stages=(Stage(40_000, 48, (0.0, 1.0)), Stage(56_000, 48), Stage(8_000, 80)),
        lr=5e-4,
        snapshots=(0.0, 0.1, 0.3, 0.6),
    ),
    "scenes-vit-mae": TrainConfig(
        objective="mae",
        architecture="scenes_vit",
        stages=(Stage(100_000, 64, (0.0, 1.0)), Stage(200_000, 64), Stage(20_000, 112)),
        lr=1.5e-3,
    ),
    "scenes-deit-distilled": TrainConfig(
        objective="distilled",
        architecture="scenes_deit_distilled",
        stages=(Stage(60_000, 48, (0.0, 1.0)), Stage(200_000, 48), Stage(20_000, 80), Stage(10_000, 112)),
        teacher="model_zoo/weights/scenes-resnet",
    ),
}
