"""How well the heads of a transformer in training outline objects: a figure to watch, without the probes."""

from typing import Any

import torch
from torch import Tensor, nn

BATCH = 64


@torch.no_grad()
def head_iou(model: nn.Module, images: Tensor, masks: Tensor, tau: float = 0.6) -> Tensor:
    """Overlap of each last-block head's mass mask with the object's mask, as the probe saliency-score counts it.

    Args:
        model: a timm VisionTransformer with a class token, in evaluation mode.
        images: normalised, (B, 3, H, W).
        masks: bool (B, H, W).
        tau: share of the class token's attention on the patches that the smallest set of patches has to hold.

    Returns:
        intersection over union in pixels, (B, heads).
    """
    network: Any = model
    last, patch = network.blocks[-1].attn, network.patch_embed.patch_size[0]
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    found = []
    try:
        for batch, truth in zip(images.split(BATCH), masks.split(BATCH), strict=True):
            network.forward_features(batch)
            query, key, _ = (
                last.qkv(seen.pop()).unflatten(-1, (3, last.num_heads, last.head_dim)).permute(2, 0, 3, 1, 4)
            )
            rows = (last.q_norm(query[:, :, :1]) @ last.k_norm(key).transpose(-1, -2) * last.scale).softmax(-1)
            weights = rows[:, :, 0, network.num_prefix_tokens :]
            value, order = (weights / weights.sum(-1, keepdim=True)).sort(dim=-1, descending=True)
            held = torch.zeros_like(value, dtype=torch.bool).scatter(-1, order, value.cumsum(-1) - value < tau)
            grid = held.unflatten(-1, (truth.shape[-2] // patch, truth.shape[-1] // patch))
            shown = grid.repeat_interleave(patch, -2).repeat_interleave(patch, -1)
            both, either = (shown & truth[:, None]).sum((2, 3)), (shown | truth[:, None]).sum((2, 3))
            found.append(both / either.clamp(min=1))
    finally:
        hook.remove()
    return torch.cat(found)
