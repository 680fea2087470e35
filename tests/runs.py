"""Small results of runs, made by the real command."""

from pathlib import Path

import numpy as np
from PIL import Image

from probes.core.command import main

HOSTILE = "<img src=x onerror=window.hacked=1>.png"
"""A name that a page which takes it for markup would run."""
PROBES = ("attention-distance", "attention-maps", "token-norm", "cka")


def photos(folder: Path, count: int = 6) -> Path:
    """Small pictures, the first with a hostile name, and one that cannot be read, with another."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        blocks = rng.integers(0, 255, (4, 5, 3)).astype(np.uint8)
        name = HOSTILE if number == 0 else f"photo-{number}.png"
        Image.fromarray(blocks).resize((80, 64), Image.Resampling.NEAREST).save(folder / name)
    (folder / f"broken {HOSTILE}").write_bytes(b"\x89PNG nothing follows")
    return folder


def make(out: Path, images: Path, *more: str, probes: tuple[str, ...] = PROBES, seed: int = 0) -> int:
    """Measure two tiny random models of different depth; gives the command's exit code."""
    out.parent.mkdir(parents=True, exist_ok=True)
    asked = ["--model", f"a=timm:test_vit@random:{seed}", "--model", "b=timm:test_vit2@random:0"]
    for probe in probes:
        asked += ["--probe", probe]
    return main(["run", *asked, "--images", str(images), "--out", str(out), *more])
