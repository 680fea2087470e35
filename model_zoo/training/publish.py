"""From a finished run to a shipped model: weights, snapshots, figures and model card.

    python -m model_zoo.training.publish KEY RUN --compute "two CPU cores, 30 minutes"

measures the run's weights on held-out scenes, and the same network untrained, and writes ``weights/KEY``.
"""

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model_zoo.catalog import CATALOG
from model_zoo.evaluation import Measured, evaluate_scenes
from model_zoo.loading import load
from model_zoo.scenes import PROBE_BANK_SEED
from model_zoo.training.config import TrainConfig
from model_zoo.training.loop import WEIGHTS

HELD_OUT = 2000

RECIPES_IN_WORDS = {
    "supervised": "Cross entropy with label smoothing on labelled scenes.",
    "distilled": "DeiT: the class token learns the labels, the distillation token the decisions of `scenes-resnet`.",
    "dino": (
        "DINO: multi-crop, momentum teacher, Sinkhorn centring (as in DINOv2). The positives are two encounters with "
        "the same object, each in another pose, light and background, and crops of them; no labels are used."
    ),
    "mae": "Masked autoencoder: 75% of the patches hidden, pixels normalised patch by patch; no labels are used.",
}
NAMES = {
    "n": "held-out scenes",
    "top1": "top-1",
    "top5": "top-5",
    "knn": "k-NN (k=10)",
    "linear": "linear probe",
    "features": "features of k-NN and linear probe",
    "bank": "labelled scenes behind them",
    "shape_bias": "shape bias on cue conflict",
    "iou": "saliency IoU, best last-block head",
    "head": "that head",
}


def publish(key: str, run: Path, compute: str, notes: str = "") -> dict[str, Any]:
    """Writes ``weights/KEY`` from a finished run's folder and returns what ``card.json`` holds.

    Args:
        key: of the catalog.
        run: the run's ``--out``.
        compute: what it took, in words.
        notes: what else a reader should know, in sentences.
    """
    entry = CATALOG[key]
    config = TrainConfig.from_json(json.loads((run / "config.json").read_text(encoding="utf-8")))
    entry.folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / WEIGHTS, entry.folder / WEIGHTS)
    figures = evaluate_scenes(load(key, device="cpu"), HELD_OUT)
    untrained = evaluate_scenes(
        load(f"timm:{entry.timm_name}@random:{config.seed}", device="cpu"), HELD_OUT, kind=figures.features
    )
    snapshots = sorted((run / "snapshots").glob("step-*.safetensors"))
    for path in snapshots:
        (entry.folder / "snapshots").mkdir(exist_ok=True)
        shutil.copyfile(path, entry.folder / "snapshots" / path.name)
    card = {
        "key": key,
        "command": f"python -m model_zoo train --recipe {key} --seed {config.seed} --out runs/{key}"
        + (" --teacher runs/scenes-resnet" if config.teacher else ""),
        "config": config.to_json(),
        "images": config.steps * config.batch_size,
        "steps": config.steps,
        "compute": compute,
        "notes": notes,
        "evaluation": f"python -m model_zoo evaluate --model {key} --images scenes:{HELD_OUT}",
        "bank_seed": PROBE_BANK_SEED,
        "figures": _without_none(figures),
        "untrained": _without_none(untrained),
        "snapshots": [int(path.stem.removeprefix("step-")) for path in snapshots],
        "licence": entry.licence,
    }
    (entry.folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (entry.folder / "README.md").write_text(_readme(card, config), encoding="utf-8")
    return card


def _without_none(measured: Measured) -> dict[str, Any]:
    return {name: value for name, value in asdict(measured).items() if value is not None}


def _readme(card: dict[str, Any], config: TrainConfig) -> str:
    entry = CATALOG[card["key"]]
    rows = [
        f"| {title} | {_shown(card['figures'].get(name))} | {_shown(card['untrained'].get(name))} |"
        for name, title in NAMES.items()
        if name in card["figures"]
    ]
    stages = [
        f"| {stage.images:,} | {stage.size} | {stage.difficulty[0]:g} to {stage.difficulty[1]:g} | {stage.drop:.0%} |"
        for stage in config.stages
    ]
    return "\n".join(
        [
            f"# {card['key']}: {entry.title}",
            "",
            RECIPES_IN_WORDS[config.objective] + (" " + card["notes"] if card["notes"] else ""),
            "",
            f"- Network: `{entry.timm_name}`, {entry.parameters:,} parameters, input {entry.input_size[0]} px"
            + (f", patches of {entry.patch} px" if entry.patch else "")
            + ". Weights in float16.",
            f"- Data: procedural scenes of seed {config.seed}, each shown once; {card['images']:,} in all.",
            f"- Optimiser: {config.optimiser}, learning rate {config.lr:g} with a cosine, weight decay "
            f"{config.weight_decay:g}, batches of {config.batch_size}, {config.precision}.",
            f"- Command: `{card['command']}`",
            f"- Compute: {card['compute']}.",
            f"- Paper of the objective: arXiv:{entry.paper}. Licence of the weights: {entry.licence}.",
            "",
            "| images | size (px) | difficulty | patches left out |",
            "|---|---|---|---|",
            *stages,
            "",
            f"## Held-out figures (`{card['evaluation']}`)",
            "",
            "| figure | trained | same network, untrained |",
            "|---|---|---|",
            *rows,
            "",
            "Shares are of 2,000 scenes of a seed that no training can use, at full difficulty; their standard error is",
            "at most 0.011. Shape bias of the untrained network is that of a linear probe on it.",
            "",
            "## Limits",
            "",
            "Made to be looked at, not to be used: it knows ten shapes on painted backgrounds and says nothing reliable",
            "about photographs. Class and surface agree in 70% of its training scenes, so it may lean on surfaces; the",
            "shape bias says how far. One seed was trained, so differences between models of a few hundredths are",
            "not evidence that one objective is better.",
            "",
        ]
    )


def _shown(value: float | int | str | None) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("key", choices=[key for key, entry in CATALOG.items() if entry.weights == "shipped"])
    parser.add_argument("run", type=Path)
    parser.add_argument("--compute", required=True)
    parser.add_argument("--notes", default="")
    given = parser.parse_args()
    print(json.dumps(publish(given.key, given.run, given.compute, given.notes)["figures"], indent=1))
    sys.exit(0)
