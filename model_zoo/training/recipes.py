"""The recipes of the shipped models, and one for a minute on the digits: everything but the seed and the folder."""

from typing import Any

from model_zoo.training.config import Stage, TrainConfig

_MUON: dict[str, Any] = {"optimiser": "muon", "warmup": 0.03}

_DINO: dict[str, Any] = {
    "centring": "sinkhorn",
    "prototypes": 128,
    "teacher_temperature": [0.025, 0.025],
    "momentum": 0.98,
    "colour": 0.4,
    "hue": 0.25,
}

RECIPES: dict[str, TrainConfig] = {
    "scenes-resnet": TrainConfig(
        objective="supervised",
        architecture="scenes_resnet",
        stages=(Stage(12_800, 112, (0.0, 1.0)), Stage(19_200, 112)),
        lr=2e-3,
        precision="bfloat16",
        **_MUON,
    ),
    "scenes-hybrid": TrainConfig(
        objective="supervised",
        architecture="scenes_hybrid",
        stages=(
            Stage(6_400, 112, (0.0, 1.0), surface_correlation=0.1),
            Stage(12_800, 112, surface_correlation=0.4),
        ),
        batch_size=16,
        lr=2e-3,
        snapshots=(0.0, 0.1, 0.2, 0.5),
        **_MUON,
    ),
    "scenes-vit-supervised": TrainConfig(
        objective="supervised",
        architecture="scenes_vit",
        stages=(
            Stage(51_200, 56, (0.0, 1.0), surface_correlation=0.1),
            Stage(32_000, 56, surface_correlation=0.1),
            Stage(16_000, 80, surface_correlation=0.4),
            Stage(16_000, 112),
        ),
        batch_size=32,
        lr=4e-3,
        snapshots=(0.0, 0.1, 0.2, 0.5),
        **_MUON,
    ),
    "scenes-resnet-2": TrainConfig(
        objective="supervised",
        architecture="scenes_resnet",
        stages=(Stage(25_600, 112),),
        batch_size=32,
        lr=1.5e-3,
        precision="bfloat16",
        init="runs/scenes-resnet/model.safetensors",
        **_MUON,
    ),
    "scenes-vit-dino": TrainConfig(
        objective="dino",
        architecture="scenes_vit",
        stages=(
            Stage(12_800, 56, (0.0, 0.2), drop=0.25, surface_correlation=0.1, texture=(0.0, 0.2)),
            Stage(25_600, 56, (0.2, 0.6), drop=0.25, surface_correlation=0.1, texture=(0.2, 0.6)),
            Stage(35_200, 80, (0.6, 1.0), drop=0.5, surface_correlation=0.1, texture=(0.6, 1.0)),
            Stage(9_600, 112, drop=0.75, surface_correlation=0.4),
        ),
        lr=2e-3,
        snapshots=(0.0, 0.15, 0.3, 0.46, 0.7),
        positions="sincos",
        options=_DINO,
        **_MUON,
    ),
    "scenes-vit-dino-2": TrainConfig(
        objective="dino",
        architecture="scenes_vit",
        stages=(
            Stage(32_000, 56, (0.5, 0.85), surface_correlation=0.1, texture=(0.5, 0.85)),
            Stage(35_200, 56, (0.85, 1.0), surface_correlation=0.1, texture=(0.85, 1.0)),
            Stage(9_600, 112, drop=0.75, surface_correlation=0.4),
        ),
        lr=1.5e-3,
        snapshots=(0.2, 0.5, 0.8),
        init="runs/scenes-vit-dino/snapshots/step-00598.safetensors",
        options={**_DINO, "attention_drop": 0.7},
        **_MUON,
    ),
    "scenes-vit-dino-3": TrainConfig(
        objective="dino",
        architecture="scenes_vit",
        stages=(Stage(9_600, 112, drop=0.5, surface_correlation=0.4),),
        lr=1.5e-3,
        init="runs/scenes-vit-dino-2/model.safetensors",
        options={**_DINO, "attention_drop": 0.7},
        **_MUON,
    ),
    "scenes-vit-dino-4": TrainConfig(
        objective="dino",
        architecture="scenes_vit",
        stages=(
            Stage(32_000, 56, surface_correlation=0.1),
            Stage(32_000, 112, drop=0.6, surface_correlation=0.3),
        ),
        lr=1.5e-3,
        snapshots=(0.25, 0.5),
        init="runs/scenes-vit-dino-3/model.safetensors",
        photographs="scikit-image",
        positives="shape",
        options={**_DINO, "attention_drop": 0.7},
        **_MUON,
    ),
    "scenes-vit-mae": TrainConfig(
        objective="mae",
        architecture="scenes_vit",
        stages=(Stage(32_000, 56, (0.0, 1.0)), Stage(38_400, 112)),
        batch_size=32,
        lr=4e-3,
        positions="near",
        **_MUON,
    ),
    "scenes-deit-distilled": TrainConfig(
        objective="distilled",
        architecture="scenes_deit_distilled",
        stages=(
            Stage(51_200, 56, (0.0, 1.0), surface_correlation=0.1),
            Stage(25_600, 56, surface_correlation=0.1),
            Stage(12_800, 80, surface_correlation=0.4),
            Stage(12_800, 112),
        ),
        batch_size=32,
        lr=4e-3,
        positions="sincos",
        teacher="runs/scenes-resnet-2",
        **_MUON,
    ),
    "digits": TrainConfig(
        objective="supervised",
        architecture="digits_vit",
        data="digits",
        stages=(Stage(24_000, 16),),
        lr=3e-3,
        **_MUON,
    ),
}
