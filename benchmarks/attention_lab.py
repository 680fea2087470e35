"""The attention lab's speed table: probes beside the plain fused forward pass, and what people do without this project.

Run ``python -m benchmarks.attention_lab`` for every row, each in a process of its own, or with a row's name for one.
Add the number of turns to shorten it, and ``cpu`` to count processor time on a busy machine, with one thread:
``OMP_NUM_THREADS=1 python -m benchmarks.attention_lab s8-rollout 3 cpu``.
"""

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.capture import fold, plain, prepared
from benchmarks.harness import compare, show
from probes.attention_distance import AttentionDistance, distances
from probes.attention_maps import AttentionMaps
from probes.attention_rollout import AttentionRollout
from probes.attention_statistics import AttentionStatistics
from probes.core.base import Probe

TOGETHER: dict[str, Probe] = {
    "maps": AttentionMaps(),
    "statistics": AttentionStatistics(),
    "distance": AttentionDistance(),
    "rollout": AttentionRollout(),
}
SMALL = ("vit_small_patch8_224", 480, 1)
BASE = ("vit_base_patch16_224", 224, 8)
ROWS: dict[str, tuple[str, tuple[str, int, int], tuple[str, ...]]] = {
    "b16": ("ViT-B/16 224 px, batch 8: CLS maps, statistics, distance, rollout together", BASE, tuple(TOGETHER)),
    "b16-bfloat16": ("the same in bfloat16, beside the float32 forward", BASE, tuple(TOGETHER)),
    "b16-transformers": ("the same with transformers' output_attentions and numpy", BASE, ()),
    "s8-maps": ("ViT-S/8 480 px (3,601 tokens): CLS maps of all layers", SMALL, ("maps",)),
    "s8-statistics": ("the same: statistics with exact entropy, and distance", SMALL, ("statistics", "distance")),
    "s8-rollout": ("the same: rollout", SMALL, ("rollout",)),
    "s8-transformers": ("the same: CLS maps with transformers' output_attentions", SMALL, ()),
}


def main(row: str, turns: int = 7, clock: Callable[[], float] = time.perf_counter) -> None:
    name, model, wanted = ROWS[row]
    adapter, x = prepared(*model)

    def work() -> object:
        return fold(adapter, x, {key: TOGETHER[key] for key in wanted})

    def low() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return work()

    chosen: Callable[[], object] = work
    if row.endswith("bfloat16"):
        chosen = low
    elif row.endswith("transformers"):
        chosen = with_transformers(adapter.module, x, adapter.spec.patch, everything=model == BASE)
    show([compare(name, chosen, lambda: plain(adapter, x), turns, clock)])


def with_transformers(vit: nn.Module, x: torch.Tensor, patch: int, *, everything: bool) -> Callable[[], object]:
    """The usual way, with the same weights: every map out of the model, then numpy."""
    from transformers import ViTConfig, ViTModel

    size, width = x.shape[-1], vit.embed_dim
    config = ViTConfig(
        hidden_size=width,
        num_attention_heads=vit.blocks[0].attn.num_heads,
        num_hidden_layers=len(vit.blocks),
        intermediate_size=4 * width,
        patch_size=patch,
        image_size=size,
        layer_norm_eps=vit.norm.eps,
    )
    config._attn_implementation = "eager"  # the only one that gives attentions
    peer = ViTModel(config, add_pooling_layer=False).eval()
    peer.load_state_dict(renamed(vit.state_dict()))
    with torch.inference_mode():
        ours, theirs = vit.forward_features(x[:1]), peer(x[:1]).last_hidden_state
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)
    side = size // patch
    lengths = distances((side, side), patch, torch.arange(side * side)).float().numpy()

    def work() -> object:
        with torch.inference_mode():
            attentions = peer(x, output_attentions=True).attentions
        maps = [a[:, :, 0, 1:].numpy() for a in attentions]
        return (maps, numpy_after(attentions, lengths)) if everything else maps

    return work


def numpy_after(attentions: tuple[torch.Tensor, ...], lengths: np.ndarray) -> object:
    """Entropy, CLS mass, distance and rollout as a notebook would have them."""
    joint, found = None, []
    for attention in attentions:
        a = attention.numpy()
        inside = a[:, :, 1:, 1:]
        entropy = -(a * np.log(a + 1e-12)).sum(-1).mean(-1)
        distance = ((inside * lengths).sum(-1) / inside.sum(-1)).mean(-1)
        found.append((entropy, distance, a[:, :, 1:, 0].mean(-1)))
        step = a.mean(1) + np.eye(a.shape[-1], dtype=np.float32)
        step /= step.sum(-1, keepdims=True)
        joint = step if joint is None else step @ joint
    return found, joint


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's names of a ViT's weights as transformers has them."""
    found = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    parts = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    for name, value in state.items():
        if not name.startswith("blocks."):
            continue
        _, index, rest = name.split(".", 2)
        part, _, kind = rest.rpartition(".")
        if part == "attn.qkv":
            for letter, chunk in zip("qkv", value.chunk(3), strict=True):
                found[f"layers.{index}.attention.{letter}_proj.{kind}"] = chunk
        else:
            found[f"layers.{index}.{parts[part]}.{kind}"] = value
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(
            sys.argv[1],
            int(sys.argv[2]) if len(sys.argv) > 2 else 7,
            time.process_time if "cpu" in sys.argv[3:] else time.perf_counter,
        )
    else:
        for one in ROWS:
            subprocess.run([sys.executable, "-m", "benchmarks.attention_lab", one], check=True)
