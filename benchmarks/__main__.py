"""One table: this project beside other libraries, on the same weights and images, as ratios to the plain forward.

    python -m benchmarks [--turns N] [--model NAME] [--work NAME] [--json FILE]

Every line is measured in a process of its own, floor and work in turns after a warm-up of each, so that peak memory and
time are its own. The floor is timm's plain forward pass with fused attention. Peers are in
``requirements-benchmarks.txt``; what is not installed, or fails, is said in one sentence below the table.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import timm
import torch

from benchmarks.harness import compare, machine
from benchmarks.peers import PEERS, WORK, apart, missing, ours
from model_zoo.adapter import Adapter

MODELS = {"S/16": ("vit_small_patch16_224", 224, 8), "B/16": ("vit_base_patch16_224", 224, 8)}
MODELS |= {"S/16, 32 images": ("vit_small_patch16_224", 224, 32), "S/16, one image": ("vit_small_patch16_224", 224, 1)}
MODELS |= {"S/8 at 480 px": ("vit_small_patch8_224", 480, 1)}
_ATTENTION = ("maps", "distance", "rollout")
ONLY = {"S/16": (*_ATTENTION, "token-grad-cam"), "B/16": (*_ATTENTION, "token-grad-cam"), "S/8 at 480 px": _ATTENTION}
ONLY |= {"S/16, 32 images": ("maps", "distance"), "S/16, one image": ("integrated-gradients",)}
"""Integrated gradients are many passes: of more images and larger models they alone would take half an hour."""
SECONDS = 900


def measured(model: str, work: str, peer: str, turns: int) -> dict[str, object]:
    """One line; in a process of its own."""
    name, size, batch = MODELS[model]
    torch.manual_seed(0)
    adapter = Adapter(timm.create_model(name, img_size=size), image_size=size)
    x = torch.randn(batch, 3, size, size)

    def floor() -> torch.Tensor:
        with torch.inference_mode():
            return adapter.module(x)

    floor()
    run = PEERS[peer][0](adapter, work)
    row = compare(peer, lambda: run(x), floor, turns=turns)
    far = "" if peer == "this project" else apart(ours(adapter, work)(x), run(x), work)
    return {**asdict(row), "model": model, "work": work, "images": batch / (row.seconds * row.ratio), "apart": far}


def lines(models: list[str], works: list[str], turns: int) -> tuple[list[dict[str, object]], list[str]]:
    """All lines, and the sentences about what is missing from them."""
    found, notes = [], []
    for model in models:
        for work in works:
            for peer, (_, able) in PEERS.items():
                if work not in able or work not in ONLY[model]:
                    continue
                if note := missing(peer):
                    notes.append(note)
                    continue
                asked = [sys.executable, "-m", "benchmarks", "--line", model, work, peer, "--turns", str(turns)]
                try:
                    done = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS)
                except subprocess.TimeoutExpired:
                    notes.append(f"{peer}, {work}, {model}: not done after {SECONDS} s.")
                    continue
                if done.returncode:
                    said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
                    notes.append(f"{peer}, {work}, {model}: {said[-1][:200]}")
                    continue
                found.append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{model}, {work}, {peer}: {found[-1]['ratio']:.2f}", file=sys.stderr, flush=True)
    return found, list(dict.fromkeys(notes))


def table(found: list[dict[str, object]]) -> str:
    """The lines as Markdown, the fastest of each work first."""
    head = "| model | work | by | of the plain forward | images/s | extra memory, MiB | apart from this project |"
    rows = [head, "|---" * 7 + "|"]
    order = [(model, work) for model in MODELS for work in WORK]
    for row in sorted(found, key=lambda row: (order.index((row["model"], row["work"])), row["ratio"])):
        ratio = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        rows.append(
            f"| {row['model']} | {WORK[str(row['work'])]} | {row['name']} | {ratio} | {row['images']:#.3g} "
            f"| {row['extra']:.0f} | {row['apart']} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--model", action="append", choices=list(MODELS))
    parser.add_argument("--work", action="append", choices=list(WORK))
    parser.add_argument("--json", type=Path, help="also write the lines to this file")
    parser.add_argument("--line", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.line:
        print(json.dumps(measured(*asked.line, asked.turns)))
        return
    found, notes = lines(asked.model or list(MODELS), asked.work or list(WORK), asked.turns)
    print(machine(), "", table(found), sep="\n")
    print(*(f"\n{note}" for note in notes), sep="")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
