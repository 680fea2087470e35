"""What runs along the residual stream of a model, taken without the project's own points."""

from typing import Any

import numpy as np
import torch

from model_zoo.adapter import Adapter
from tests.probes.families import SMALL, inputs, noise, peaked

IN_TWO_STEPS = (
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "vit_small_patch8_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_medium_patch16_reg4_gap_256",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_siglip_224",
    "vit_base_patch16_clip_224",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
    "cait_xxs24_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "vit_base_patch16_rpn_224",  # norms after the branches
    "vit_small_patch16_18x2_224",  # two attentions, then two MLPs
)
"""Families whose blocks add attention and then MLP."""
IN_ONE_STEP = ("resnet10t", "vit_base_patch16_xp_224")
"""Families whose blocks add all they do at once: convolutions, and attention beside MLP."""
OTHERS = ("vit_base_patch16_rpn_224", "vit_small_patch16_18x2_224", "vit_base_patch16_xp_224")


def small(name: str) -> Adapter:
    """A small random model of a family in float64, attention peaked, its input not square."""
    if name == "resnet10t":
        return Adapter(peaked(name).module, image_size=(96, 160))
    if name not in OTHERS:
        return peaked(name)
    return peaked(name, (64, 96), **SMALL)


def maps(adapter: Adapter, count: int = 2) -> dict[str, np.ndarray]:
    """Feature maps along the stream, name of the point to (images, channels, rows, columns).

    What attention adds is put together from the output of the attention module and the block's own layer scale or norm,
    so that nothing is read where the project reads it.
    """
    model: Any = adapter.module
    blocks = _blocks(model)
    seen: dict[int, dict[str, torch.Tensor]] = {index: {} for index in range(len(blocks))}
    handles = []
    for index, block in enumerate(blocks):
        handles.append(block.register_forward_pre_hook(lambda _, args, i=index: seen[i].update(before=args[0])))
        handles.append(block.register_forward_hook(lambda _, args, out, i=index: seen[i].update(after=out)))
        if hasattr(block, "attn"):
            handles.append(block.attn.register_forward_hook(lambda _, args, out, i=index: seen[i].update(attn=out)))
    with torch.inference_mode():
        model(inputs(adapter, noise(4)[:count]))
        for handle in handles:
            handle.remove()
        found = {"embed": seen[0]["before"]}
        for index, block in enumerate(blocks):
            now = seen[index]
            if index and not torch.equal(now["before"], seen[index - 1]["after"]):
                found[f"resid_pre.{index}"] = now["before"]
            added = _attended(block, now)
            if added is not None:
                found[f"resid_mid.{index}"] = now["before"] + added
            found[f"resid_post.{index}"] = now["after"]
        return {point: _map(adapter, value).numpy() for point, value in found.items()}


def _blocks(model: Any) -> list[Any]:
    if hasattr(model, "blocks"):
        return list(model.blocks)
    stages = [stage.blocks for stage in model.layers] if hasattr(model, "layers") else None
    return [block for stage in stages or (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]


def _attended(block: Any, now: dict[str, torch.Tensor]) -> torch.Tensor | None:
    kind = type(block).__name__
    if kind == "SwinTransformerBlock":
        return block._attn(block.norm1(now["before"]))
    if kind == "SwinTransformerV2Block":
        return block.norm1(block._attn(now["before"]))
    if kind == "ParallelThingsBlock":
        return sum(one.ls(one.attn(one.norm(now["before"]))) for one in block.attns)
    if kind == "ResPostBlock":
        return block.norm1(now["attn"])
    if "attn" not in now:
        return None
    scale = getattr(block, "gamma_1", None)
    return block.ls1(now["attn"]) if hasattr(block, "ls1") else now["attn"] if scale is None else scale * now["attn"]


def _map(adapter: Adapter, value: torch.Tensor) -> torch.Tensor:
    if value.ndim == 4:
        return value.permute(0, 3, 1, 2) if "swin" in adapter.spec.name else value
    rows, columns = adapter.spec.grid
    return value[:, value.shape[1] - rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))
