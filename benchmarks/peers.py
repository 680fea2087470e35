"""The same work by other libraries: same weights, same images, same process. Each answers what this project answers.

A peer takes a timm vision transformer and a work, and returns a call from a batch of images to that work's result, a
tensor, so that the table can say how far the numbers of two are apart.
"""

import copy
import importlib
import math
from collections.abc import Callable

import timm.layers
import torch
from torch import Tensor

from model_zoo.adapter import Adapter
from probes.attention_distance import AttentionDistance
from probes.attention_maps import AttentionMaps
from probes.attention_rollout import AttentionRollout
from probes.attention_statistics import AttentionStatistics
from probes.core.base import Probe
from probes.core.capture import Batch
from probes.core.relevance import relevance
from probes.core.runner import Fold
from probes.core.targets import Target

Run = Callable[[Tensor], Tensor]

STEPS = 16
WORK = {
    "maps": "CLS maps of all layers",
    "distance": "mean distance and entropy of all layers",
    "rollout": "attention rollout",
    "token-grad-cam": "Grad-CAM of the last block's tokens",
    "integrated-gradients": f"integrated gradients, {STEPS} steps",
}
NEEDS = {
    "timm AttentionExtract": ("timm",),
    "transformers output_attentions": ("transformers",),
    "pytorch-grad-cam": ("pytorch_grad_cam",),
    "captum": ("captum",),
}


def missing(peer: str) -> str | None:
    """Why a peer cannot run here, in one sentence."""
    for module in NEEDS.get(peer, ()):
        try:
            importlib.import_module(module)
        except ImportError:
            return f"{peer} is not installed: pip install -r requirements-benchmarks.txt."
    return None


def ours(adapter: Adapter, work: str) -> Run:
    """This project."""
    if work in ("token-grad-cam", "integrated-gradients"):
        return lambda x: torch.as_tensor(relevance(adapter, x, work, Target(), steps=STEPS).maps)
    probes: dict[str, dict[str, Probe]] = {
        "maps": {"attention": AttentionMaps()},
        "distance": {"distance": AttentionDistance(), "entropy": AttentionStatistics()},
        "rollout": {"rollout": AttentionRollout()},
    }

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            fold = Fold(adapter, probes[work])
            fold.take(Batch(adapter, range(len(x)), x, []))
            found = fold.compute()
        return torch.cat([torch.from_numpy(found[name][name].values).flatten() for name in probes[work]])

    return run


def extract(adapter: Adapter, work: str) -> Run:
    """timm's own extraction, which needs the softmax written out and keeps every map."""
    fused = timm.layers.use_fused_attn()
    timm.layers.set_fused_attn(False)
    module = type(adapter.module)(**_arguments(adapter))
    timm.layers.set_fused_attn(bool(fused))
    module.load_state_dict(adapter.module.state_dict())
    taken = timm.utils.AttentionExtract(module, method="fx")

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return _from_maps(list(taken(x).values()), work, adapter)

    return run


def transformers(adapter: Adapter, work: str) -> Run:
    """The same weights in transformers, by attention written out and kept."""
    from transformers import ViTConfig, ViTModel

    module = adapter.module
    block = module.blocks[0]
    config = ViTConfig(
        hidden_size=module.embed_dim,
        num_hidden_layers=len(module.blocks),
        num_attention_heads=block.attn.num_heads,
        intermediate_size=block.mlp.fc1.out_features,
        image_size=adapter.spec.input_size[0],
        patch_size=adapter.spec.patch,
        layer_norm_eps=1e-6,
        attn_implementation="eager",
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    model.load_state_dict(_renamed(module.state_dict(), len(module.blocks)))

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return _from_maps(model(x, output_attentions=True).attentions, work, adapter)

    return run


def grad_cam(adapter: Adapter, work: str) -> Run:
    """pytorch-grad-cam at the last block's first norm, as its documentation says for vision transformers."""
    from pytorch_grad_cam import GradCAM

    rows, columns = adapter.spec.grid
    module = copy.deepcopy(adapter.module).requires_grad_()

    def grid(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(len(tokens), rows, columns, -1).permute(0, 3, 1, 2)

    taken = GradCAM(module, [module.blocks[-1].norm1], reshape_transform=grid)

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(taken(input_tensor=x, targets=None))

    return run


def captum(adapter: Adapter, work: str) -> Run:
    """captum's integrated gradients of the top class, summed over colours and patches."""
    from captum.attr import IntegratedGradients

    module, patch = adapter.module, adapter.spec.patch

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            top = module(x).argmax(-1)
        found = IntegratedGradients(module).attribute(x, target=top, n_steps=STEPS, internal_batch_size=len(x))
        return torch.nn.functional.avg_pool2d(found.sum(1, keepdim=True), patch)[:, 0] * patch**2

    return run


PEERS = {
    "this project": (ours, tuple(WORK)),
    "timm AttentionExtract": (extract, ("maps", "distance", "rollout")),
    "transformers output_attentions": (transformers, ("maps", "distance", "rollout")),
    "pytorch-grad-cam": (grad_cam, ("token-grad-cam",)),
    "captum": (captum, ("integrated-gradients",)),
}


def _from_maps(maps: list[Tensor], work: str, adapter: Adapter) -> Tensor:
    """What is asked of kept maps (batch, head, query, key), by the shortest code there is."""
    if work == "maps":
        return torch.stack([one[:, :, 0, 1:] for one in maps], 1).flatten()
    if work == "rollout":
        carried = torch.eye(maps[0].shape[-1])
        for one in maps:
            mixed = (one.mean(1) + torch.eye(one.shape[-1])) / 2
            carried = mixed @ carried
        return carried[:, 0, 1:].flatten()
    rows, columns = adapter.spec.grid
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], -1).float() * adapter.spec.patch
    lengths = torch.cdist(places, places)
    distances, entropies = [], []
    for one in maps:
        inner = one[:, :, 1:, 1:]
        distances.append(((inner * lengths).sum(-1) / inner.sum(-1)).mean((0, 2)))
        entropies.append(torch.special.entr(one).sum(-1).mean((0, 2)))
    return torch.cat([torch.stack(distances).flatten(), torch.stack(entropies).flatten()])


def _arguments(adapter: Adapter) -> dict[str, object]:
    module = adapter.module
    return {
        "img_size": adapter.spec.input_size[0],
        "patch_size": adapter.spec.patch,
        "embed_dim": module.embed_dim,
        "depth": len(module.blocks),
        "num_heads": module.blocks[0].attn.num_heads,
        "num_classes": module.num_classes,
    }


def _renamed(state: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    names = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    parts = (
        *(("norm1", "layernorm_before"), ("norm2", "layernorm_after")),
        *(("attn.proj", "attention.o_proj"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")),
    )
    for i in range(depth):
        for kind in ("weight", "bias"):
            for here, there in parts:
                names[f"layers.{i}.{there}.{kind}"] = state[f"blocks.{i}.{here}.{kind}"]
            joined = state[f"blocks.{i}.attn.qkv.{kind}"].chunk(3)
            for letter, part in zip("qkv", joined, strict=True):
                names[f"layers.{i}.attention.{letter}_proj.{kind}"] = part
    return names


def apart(a: Tensor, b: Tensor, work: str) -> str:
    """How far two results are apart: largest difference by largest value; of Grad-CAM the mean correlation.

    pytorch-grad-cam cuts below zero, scales each map to 0 to 1 and resamples it to the input, so that only the shape of
    its maps compares.
    """
    if work != "token-grad-cam":
        a, b = a.flatten().double(), b.flatten().double()
        return f"{float((a - b).abs().max() / b.abs().max()):.0e}"
    side = math.isqrt(a[0].numel())
    small = torch.nn.functional.adaptive_avg_pool2d(b[:, None].double(), side).flatten(1)
    shapes = torch.stack([a.double().clamp(min=0).flatten(1), small])
    return "r = " + f"{float(torch.stack([torch.corrcoef(shapes[:, i])[0, 1] for i in range(len(a))]).mean()):.2f}"
