"""Held-out figures of a model: top-1 and top-5, k-NN, linear probe, shape bias, saliency IoU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def extract(model: nn.Module, images: Tensor, batch_size: int = 64) -> dict[str, Tensor]:
    """Frozen features of any timm model.

    Args:
        model: a timm model in evaluation mode.
        images: normalised, (B, 3, H, W).
        batch_size: images a forward pass.

    Returns:
        ``cls`` (B, D) after the last norm, where there is a class token, and ``mean`` (B, D), the mean of the patch
        tokens or of the last feature map.
    """
    parts: dict[str, list[Tensor]] = {}
    for batch in images.split(batch_size):
        out = model.forward_features(batch)
        if out.ndim == 4:
            channels_last = out.shape[-1] == model.num_features and out.shape[1] != model.num_features
            pooled = {"mean": out.mean((1, 2) if channels_last else (2, 3))}
        else:
            prefix = getattr(model, "num_prefix_tokens", 0)
            pooled = {"cls": out[:, 0]} if prefix else {}
            pooled["mean"] = out[:, prefix:].mean(1)
        for name, value in pooled.items():
            parts.setdefault(name, []).append(value.float())
    return {name: torch.cat(value) for name, value in parts.items()}


def knn_top1(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int = 10) -> float:
    r"""Accuracy of a vote among the k nearest neighbours by cosine, weighted by :math:`\exp(s/0.07)` as in DINO."""
    similarity = F.normalize(queries, dim=-1) @ F.normalize(bank, dim=-1).T
    weight, nearest = similarity.topk(min(k, len(bank)), dim=-1)
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1, device=queries.device)
    votes.scatter_add_(1, bank_labels[nearest], ((weight - 1) / 0.07).exp())
    return (votes.argmax(1) == labels).float().mean().item()
