"""From finished runs to a shipped model: weights, snapshots, figures and model card.

    python -m model_zoo.training.publish KEY RUN [RUN ...] --compute "two CPU cores, 30 minutes"

measures the last run's weights on held-out scenes, and the same network untrained, and writes ``weights/KEY``.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_zoo.catalog import CATALOG, DECODER
from model_zoo.loading import load
from model_zoo.reference import step_name
from model_zoo.scenes import CLASSES, PROBE_BANK_SEED
from model_zoo.training.config import TrainConfig, stages_taken, steps_taken
from model_zoo.training.loop import WEIGHTS, build_student, save_weights
from model_zoo.training.snapshots import STARTS
from probes.core.evaluation.figures import Measured
from probes.core.evaluation.scenes import evaluate_scenes

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
    "finetuned": "top-1 after fine-tuning on 1,000 labelled scenes",
}


def publish(
    key: str, runs: list[Path], compute: str, notes: str = "", share: float = 1.0, whole: int = 0
) -> dict[str, Any]:
    """Writes ``weights/KEY`` from finished runs and returns what ``card.json`` holds.

    Args:
        key: of the catalog.
        runs: the folders (``--out``) of the runs, each begun from the weights of the one before; the last is shipped.
            A folder is named like its recipe.
        compute: what it took, in words.
        notes: what else a reader should know, in sentences.
        share: how far the shipped weights lie on the straight line from where the last run began to where it ended
            (Wortsman et al. 2022, arXiv:2109.01903); 1 is its end.
        whole: how many of the first blocks, with the embedding before them, are the end's all the same.
    """
    entry = CATALOG[key]
    configs = [TrainConfig.from_json(json.loads((run / "config.json").read_text(encoding="utf-8"))) for run in runs]
    entry.folder.mkdir(parents=True, exist_ok=True)
    last = load_file(runs[-1] / WEIGHTS)
    shipped = between(load_file(configs[-1].init), last, share, whole) if share < 1 else last
    save_file(shipped, entry.folder / WEIGHTS, {"format": "pt"})
    (entry.folder / DECODER).unlink(missing_ok=True)
    if (runs[-1] / DECODER).is_file():
        shutil.copyfile(runs[-1] / DECODER, entry.folder / DECODER)
    finetune = configs[0].objective == "mae"
    figures = evaluate_scenes(load(key, device="cpu"), HELD_OUT, finetune=finetune)
    untrained = None
    if configs[0].objective in ("dino", "mae"):
        with tempfile.TemporaryDirectory() as folder:
            start = Path(folder) / WEIGHTS
            save_weights(build_student(configs[0], len(CLASSES)), start)
            fresh = load(f"timm:{entry.timm_name}@{start}", device="cpu")
        untrained = evaluate_scenes(fresh, HELD_OUT, kind=figures.features, finetune=finetune)
    shutil.rmtree(entry.folder / "snapshots", ignore_errors=True)
    lengths = steps_taken(configs)
    snapshots, before = [], 0
    for run, length in zip(runs, lengths, strict=True):
        for path in sorted((run / "snapshots").glob("step-*.safetensors")):
            step = int(path.stem.removeprefix("step-"))
            if step > length:
                continue
            (entry.folder / "snapshots").mkdir(exist_ok=True)
            shutil.copyfile(path, entry.folder / "snapshots" / f"{step_name(before + step)}.safetensors")
            snapshots.append(before + step)
        before += length
    card = {
        "key": key,
        "commands": [_command(run, config) for run, config in zip(runs, configs, strict=True)],
        "configs": [_portable(config) for config in configs],
        "images": sum(length * config.batch_size for length, config in zip(lengths, configs, strict=True)),
        "steps": before,
        "compute": compute,
        "notes": notes,
        "share": share,
        "whole": whole,
        "evaluation": f"python -m model_zoo evaluate --model {key} --images scenes:{HELD_OUT}",
        "bank_seed": PROBE_BANK_SEED,
        "figures": _without_none(figures),
        "untrained": _without_none(untrained) if untrained else {},
        "snapshots": snapshots,
        "licence": entry.licence,
    }
    (entry.folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (entry.folder / "README.md").write_text(_readme(card, configs), encoding="utf-8")
    return card


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float, whole: int) -> dict[str, Tensor]:
    r"""Weights :math:`(1 - s)\theta_0 + s\theta_1` between a run's start and its end, in the types of its end.

    Args:
        start: state dictionary of a network.
        end: another of the same network.
        share: s.
        whole: of so many first blocks, and of what lies before the first of them, the end's weights; 0 for none.
    """
    mixed = {name: torch.lerp(start[name].float(), value.float(), share) for name, value in end.items()}
    taken = {name for name in end if whole and not _is_behind(name, whole)}
    return {name: value if name in taken else mixed[name].to(value.dtype) for name, value in end.items()}


def _is_behind(name: str, blocks: int) -> bool:
    """Whether a transformer's weight lies behind its first blocks."""
    kind, _, rest = name.partition(".")
    return kind in ("norm", "fc_norm", "head") or (kind == "blocks" and int(rest.partition(".")[0]) >= blocks)


def _command(run: Path, config: TrainConfig) -> str:
    portable = _portable(config)
    given = [f"--{name} {portable[name]}" for name in ("init", "teacher") if portable[name]]
    return " ".join(
        ["python -m model_zoo train --recipe", run.name, "--seed", str(config.seed), f"--out runs/{run.name}", *given]
    )


def _portable(config: TrainConfig) -> dict[str, Any]:
    """The configuration with paths as if all runs lay in ``runs``."""
    plain = config.to_json()
    if config.init:
        init = Path(config.init)
        kept = init.parent.name == "snapshots"
        folder = init.parent.parent if kept else init.parent
        plain["init"] = "/".join(["runs", folder.name, *(["snapshots"] if kept else []), init.name])
    if config.teacher:
        plain["teacher"] = f"runs/{Path(config.teacher).name}"
    return plain


def _without_none(measured: Measured) -> dict[str, Any]:
    return {name: value for name, value in asdict(measured).items() if value is not None}


def _readme(card: dict[str, Any], configs: list[TrainConfig]) -> str:
    config = configs[0]
    entry = CATALOG[card["key"]]
    rows = [
        f"| {title} | {_shown(card['figures'].get(name))} |"
        + (f" {_shown(card['untrained'].get(name))} |" if card["untrained"] else "")
        for name, title in NAMES.items()
        if name in card["figures"]
    ]
    stages = [
        f"| {stage.images:,} | {stage.size} | {stage.difficulty[0]:.2g} to {stage.difficulty[1]:.2g} |"
        f" {stage.texture[0]:.2g} to {stage.texture[1]:.2g} | {stage.drop:.0%} |"
        f" {run.surface_correlation if stage.surface_correlation is None else stage.surface_correlation:g} |"
        for run, stage in stages_taken(configs)
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
            *(
                [f"- Position embeddings start from {STARTS[config.positions]} and are learned."]
                if entry.prefix_tokens
                else []
            ),
            f"- Data: procedural scenes of seed {', '.join(str(run.seed) for run in configs)}, each shown once; "
            f"{card['images']:,} in all.",
            f"- Optimiser: {config.optimiser}, learning rate {', then '.join(f'{run.lr:g}' for run in configs)} with a "
            f"cosine, weight decay {config.weight_decay:g}, batches of {config.batch_size}, {config.precision}.",
            *(f"- Command: `{command}`" for command in card["commands"]),
            *(
                [
                    f"- The weights lie at {card['share']:g} of the straight line from the last run's start to its end "
                    "(Wortsman et al. 2022, arXiv:2109.01903)"
                    + (
                        f", those of the embedding and the first {card['whole']} blocks at its end."
                        if card["whole"]
                        else "."
                    )
                ]
                if card["share"] != 1
                else []
            ),
            f"- Compute: {card['compute']}.",
            f"- Paper of the objective: arXiv:{entry.paper}. Licence of the weights: {entry.licence}.",
            "",
            "| images | size (px) | difficulty | texture | patches left out | surface is the class's own |",
            "|---|---|---|---|---|---|",
            *stages,
            "",
            f"## Held-out figures (`{card['evaluation']}`)",
            "",
            *(
                ("| figure | trained | same network, untrained |", "|---|---|---|")
                if card["untrained"]
                else ("| figure | trained |", "|---|---|")
            ),
            *rows,
            "",
            "Shares are of 2,000 scenes of a seed that no training can use, at full difficulty; their standard error",
            "is at most 0.011. Shape bias is over 1,000 of them in cue conflict, by the classifier or, without one, by",
            "the linear probe.",
            "",
            "## Limits",
            "",
            "Made to be looked at, not to be used: it knows ten shapes on painted backgrounds and says nothing",
            "reliable about photographs. Class and surface agree in 70% of the scenes, so a model may lean on",
            "surfaces; the shape bias says how far. Each recipe was trained with one seed, the supervised with two:",
            "differences of a few hundredths are not evidence that one objective is better.",
            "",
        ]
    )


def _shown(value: float | int | str | None) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("key", choices=[key for key, entry in CATALOG.items() if entry.weights == "shipped"])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--compute", required=True)
    parser.add_argument("--notes", default="")
    parser.add_argument("--share", type=float, default=1.0, help="of the way from the last run's start to its end")
    parser.add_argument("--whole", type=int, default=0, help="of so many first blocks, the last run's end")
    given = parser.parse_args()
    card = publish(given.key, given.runs, given.compute, given.notes, given.share, given.whole)
    print(json.dumps(card["figures"], indent=1))
    sys.exit(0)
