"""What probes of attention and of the residual stream cost on top of the plain fused forward pass of the same weights.

Run ``python -m benchmarks.capture`` for every row, each in a process of its own, or with a row's name for one. With
``OMP_NUM_THREADS=1`` the processor's time is counted and not the clock's, which holds on a machine that is busy.
"""

import subprocess
import sys
import time
from functools import partial

import timm
import torch

from benchmarks.harness import compare, show
from model_zoo.adapter import Adapter
from probes import (
    attention_distance,
    attention_maps,
    attention_rollout,
    attention_statistics,
    feature_variance,
    fourier,
)
from probes.core.base import Probe
from probes.core.capture import Batch
from probes.core.runner import Fold

ROWS = (
    "b16",
    "b16-bfloat16",
    "s16-four",
    "s16-four-32",
    "s8",
    "s8-exact",
    "s8-rollout",
    "s16-stream",
    "s16-rings",
    "gpu",
)


def prepared(name: str, size: int, batch: int, device: str = "cpu") -> tuple[Adapter, torch.Tensor]:
    torch.manual_seed(0)
    adapter = Adapter(timm.create_model(name, img_size=size).to(device), image_size=size)
    return adapter, torch.randn(batch, 3, size, size, device=device)


def fold(adapter: Adapter, inputs: torch.Tensor, probes: dict[str, Probe]) -> object:
    with torch.inference_mode():
        whole = Fold(adapter, probes)
        whole.take(Batch(adapter, range(len(inputs)), inputs, []))
        return whole.compute()


def plain(adapter: Adapter, inputs: torch.Tensor) -> object:
    with torch.inference_mode():
        out = adapter.module(inputs)
        if out.is_cuda:
            torch.cuda.synchronize()
        return out


def main(row: str) -> None:
    maps = {"maps": attention_maps.AttentionMaps()}
    both = {**maps, "statistics": attention_statistics.AttentionStatistics()}
    exact = {
        "statistics": attention_statistics.AttentionStatistics(),
        "distance": attention_distance.AttentionDistance(),
    }
    rollout = {"rollout": attention_rollout.AttentionRollout()}
    timed = partial(compare, clock=time.process_time if torch.get_num_threads() == 1 else time.perf_counter)
    if row == "b16":
        adapter, x = prepared("vit_base_patch16_224", 224, 8)
        result = timed(
            "ViT-B/16 224 px, batch 8, float32: CLS maps and statistics",
            lambda: fold(adapter, x, both),
            lambda: plain(adapter, x),
        )
    elif row == "b16-bfloat16":
        adapter, x = prepared("vit_base_patch16_224", 224, 8)

        def low() -> object:
            with torch.autocast("cpu", torch.bfloat16):
                return fold(adapter, x, both)

        result = timed(
            "ViT-B/16 224 px, batch 8, bfloat16 against the float32 forward: CLS maps and statistics",
            low,
            lambda: plain(adapter, x),
        )
    elif row.startswith("s16-four"):
        batch = 32 if row.endswith("32") else 8
        adapter, x = prepared("vit_small_patch16_224", 224, batch)
        result = timed(
            f"ViT-S/16 224 px, batch {batch}, float32: CLS maps, rollout, statistics and distance",
            lambda: fold(adapter, x, {**maps, **rollout, **exact}),
            lambda: plain(adapter, x),
        )
    elif row in ("s8-exact", "s8-rollout"):
        adapter, x = prepared("vit_small_patch8_224", 480, 1)
        chosen, name = (exact, "statistics and distance") if row == "s8-exact" else (rollout, "rollout")
        result = timed(
            f"ViT-S/8 480 px (3,601 tokens), float32: {name} of all layers",
            lambda: fold(adapter, x, chosen),
            lambda: plain(adapter, x),
            turns=3,
        )
    elif row in ("s16-stream", "s16-rings"):
        adapter, x = prepared("vit_small_patch16_224", 224, 8)
        spectrum = "diagonal" if row == "s16-stream" else "radial"
        stream = {"fourier": fourier.Fourier(spectrum), "variance": feature_variance.FeatureVariance()}
        result = timed(
            f"ViT-S/16 224 px, batch 8, float32: Fourier ({spectrum}) and variance after every attention and MLP",
            lambda: fold(adapter, x, stream),
            lambda: plain(adapter, x),
            turns=3,
        )
    elif row == "s8":
        adapter, x = prepared("vit_small_patch8_224", 480, 1)
        result = timed(
            "ViT-S/8 480 px (3,601 tokens), float32: CLS maps of all layers",
            lambda: fold(adapter, x, maps),
            lambda: plain(adapter, x),
            turns=5,
        )
    else:
        adapter, x = prepared("vit_base_patch16_224", 224, 64, "cuda")
        result = timed(
            "ViT-B/16 224 px, batch 64, GPU: CLS maps and statistics",
            lambda: fold(adapter, x, both),
            lambda: plain(adapter, x),
        )
    show([result])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        for name in ROWS:
            if name != "gpu" or torch.cuda.is_available():
                subprocess.run([sys.executable, "-m", "benchmarks.capture", name], check=True)
