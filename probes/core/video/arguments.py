"""What ``python -m probes video`` can be told; nothing here is slow to import."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="[LABEL=]MODEL", help="catalog key or timm:NAME; repeat it")
    add("--input", required=True, metavar="CLIP", help="a video file, or scene:N, a drawn clip with known masks")
    add("--out", required=True, type=Path, metavar="OUT.mp4", help="or .gif or .webp, at most 100 frames")
    add("--show", default="attention", metavar="attention|rollout|mask|pca")
    add("--head", default="mean", metavar="mean|best|N", help="best: chosen on 16 procedural scenes; N from 0")
    add("--layer", default="last", metavar="last|N|D", help="index from 0, or relative depth such as 0.5")
    add("--draw", default="overlay", metavar="overlay|map|cutout", help="cutout: what the mass mask holds")
    add("--scale", default="clip", metavar="clip|frame", help="one scale for the clip, or one for every frame")
    add("--smooth", type=float, default=0.0, metavar="X", help="share of what was, 0 up to but excluding 1")
    add("--tau", type=float, default=0.6, help="share of the attention in the mass mask")
    add("--start", type=float, default=0.0, metavar="S", help="seconds")
    add("--end", type=float, metavar="S", help="seconds")
    add("--stride", type=int, default=1, metavar="N", help="take every N-th frame")
    add("--short-side", type=int, default=224, metavar="N", help="of what the models see, pixels")
    add("--batch-size", type=int, default=8, metavar="N", help="frames in a forward pass")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    add("--most-seconds", type=float, metavar="S", help="longest part that is taken; 600 s if left out")
    add("--json", action="store_true", help="print all numbers, frame by frame")
