"""``python -m model_zoo train``: a recipe of the shipped zoo, or one's own settings."""

import argparse
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_zoo.training.config import Stage, TrainConfig

GIVEN = (
    *("objective", "architecture", "data", "batch_size", "lr", "init", "teacher"),
    *("surface_correlation", "photographs", "positives", "positions", "precision", "seed"),
)
"""Arguments that are fields of the configuration."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``train``."""
    from model_zoo.training.config import OBJECTIVES, POSITIONS, POSITIVES
    from model_zoo.training.recipes import RECIPES

    parser.add_argument("--recipe", choices=sorted(RECIPES), help="start from the recipe of a shipped model")
    parser.add_argument("--objective", choices=OBJECTIVES, help="what to train for (without --recipe)")
    parser.add_argument("--architecture", help="a timm model; scenes_vit and its kin are the shipped ones")
    parser.add_argument("--data", help="scenes, digits or folder:PATH with one sub-folder per class")
    parser.add_argument(
        "--stages",
        help="IMAGESxSIZE[:FROM-TO][/DROP][@SURFACE][~FROM-TO],... (difficulty of the scenes, share of patches left "
        "out, how often a surface is the class's own, strength of textures)",
    )
    parser.add_argument("--images", type=int, help="train on this many images instead, stages in proportion")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--teacher", help="folder of the trained teacher (distilled)")
    parser.add_argument("--init", help="weights to start from instead of random ones (model.safetensors of a run)")
    parser.add_argument("--surface-correlation", type=float, help="of the scenes trained on, 0 to 1")
    parser.add_argument(
        "--photographs", help="image, folder or scikit-image: their crops are backgrounds in half of the scenes"
    )
    parser.add_argument("--positives", choices=POSITIVES, help="what two views of a scene share")
    parser.add_argument("--positions", choices=POSITIONS, help="what position embeddings start from")
    parser.add_argument("--precision", choices=("float32", "bfloat16"))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, snapshots and weights")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice")
    parser.add_argument("--compile", action="store_true", help="use torch.compile (needs a C compiler on CPU)")
    parser.add_argument("--validate-every", type=int, default=500, help="steps between figures on validation images")


def config_from(args: argparse.Namespace) -> "TrainConfig":
    """The configuration that the arguments ask for."""
    from model_zoo.training.config import Stage, TrainConfig
    from model_zoo.training.recipes import RECIPES

    if args.recipe:
        config = RECIPES[args.recipe]
    elif args.objective:
        config = TrainConfig(args.objective, "scenes_vit", stages=(Stage(20_000, 48, (0.0, 1.0)),))
    else:
        raise ValueError("train needs --recipe or --objective")
    given = {name: getattr(args, name) for name in GIVEN if getattr(args, name) is not None}
    if args.stages:
        given["stages"] = tuple(_stage(text) for text in args.stages.split(","))
    config = dataclasses.replace(config, **given)
    if args.images:
        share = args.images / sum(stage.images for stage in config.stages)
        stages = tuple(dataclasses.replace(s, images=max(1, round(s.images * share))) for s in config.stages)
        config = dataclasses.replace(config, stages=stages)
    return config


_NUMBER = r"\d+(?:\.\d+)?"
_STAGE = re.compile(
    rf"(?P<images>\d+)x(?P<size>\d+)(?::(?P<first>{_NUMBER})-(?P<last>{_NUMBER}))?(?:/(?P<drop>{_NUMBER}))?"
    rf"(?:@(?P<surface>{_NUMBER}))?(?:~(?P<faint>{_NUMBER})-(?P<full>{_NUMBER}))?"
)


def _stage(text: str) -> "Stage":
    from model_zoo.training.config import Stage

    match = _STAGE.fullmatch(text)
    if match is None:
        raise ValueError(f"a stage looks like 60000x48:0-1, 20000x112/0.75 or 9600x56:0-0.2@0.1~0-1, got {text!r}")
    return Stage(
        images=int(match["images"]),
        size=int(match["size"]),
        difficulty=(float(match["first"] or 1), float(match["last"] or 1)),
        drop=float(match["drop"] or 0),
        surface_correlation=None if match["surface"] is None else float(match["surface"]),
        texture=(float(match["faint"] or 1), float(match["full"] or 1)),
    )


def run(args: argparse.Namespace) -> int:
    """Trains, printing a line per report; 2 and one sentence if the arguments do not fit together."""
    try:
        config = config_from(args)
    except ValueError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2

    import torch

    from model_zoo.training.loop import train

    if args.threads:
        torch.set_num_threads(args.threads)
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        print("train: --device cuda needs a CUDA device, and none was found; use --device cpu", file=sys.stderr)
        return 2
    try:
        for p in train(
            config, args.out, device, resume=args.resume, validate_every=args.validate_every, compile=args.compile
        ):
            figures = " ".join(f"{name}={value:.3f}" for name, value in p.metrics.items())
            left = f"{int(p.eta // 3600)}:{int(p.eta // 60 % 60):02d}:{int(p.eta % 60):02d}"
            print(
                f"step {p.step}/{p.steps} {p.size}px loss {p.loss:.4f} {p.rate:.0f} images/s left {left} {figures}",
                flush=True,
            )
    except (ValueError, FloatingPointError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0
