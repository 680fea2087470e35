"""Frozen features of a timm model, and what can be read off them: k-NN, a linear probe, the last block's attention."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

BATCH = 64


@torch.no_grad()
def extract(model: nn.Module, images: Tensor, batch_size: int = BATCH, *, logits: bool = False) -> dict[str, Tensor]:
    """Features of a timm model in evaluation mode.

    Args:
        model: any timm model with ``forward_features``.
        images: normalised, (B, 3, H, W).
        batch_size: images a forward pass.
        logits: give the classifier's answers, too.

    Returns:
        ``cls`` (B, D) after the last norm, where there is a class token, and ``mean`` (B, D), the mean of the patch
        tokens or of the last feature map; ``logits`` (B, classes) if asked for.
    """
    network: Any = model
    parts: dict[str, list[Tensor]] = {}
    for batch in images.split(batch_size):
        out = network.forward_features(batch)
        if out.ndim == 4:
            channels_last = out.shape[-1] == network.num_features and out.shape[1] != network.num_features
            pooled = {"mean": out.mean((1, 2) if channels_last else (2, 3))}
        else:
            prefix = getattr(network, "num_prefix_tokens", 0)
            pooled = {"cls": out[:, 0]} if getattr(network, "cls_token", None) is not None else {}
            pooled["mean"] = out[:, prefix:].mean(1)
        if logits:
            pooled["logits"] = network.forward_head(out)
        for name, value in pooled.items():
            parts.setdefault(name, []).append(value.float())
    return {name: torch.cat(value) for name, value in parts.items()}


def knn_top1(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int = 10) -> float:
    r"""Accuracy of a vote among the k nearest neighbours.

    Nearness is the cosine s; a neighbour's vote weighs :math:`\exp(s / 0.07)`.

    Args:
        bank: (M, D), with its labels (M,).
        bank_labels: class numbers from 0.
        queries: (B, D), with their labels (B,).
        labels: class numbers from 0.
        k: neighbours.

    Returns:
        0 to 1. Chance is the share of the largest class.

    Reference:
        Wu et al. 2018, arXiv:1805.01978; as used by Caron et al. 2021, arXiv:2104.14294.
    """
    similarity = F.normalize(queries, dim=-1) @ F.normalize(bank, dim=-1).T
    weight, nearest = similarity.topk(min(k, len(bank)), dim=-1)
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1, device=queries.device)
    votes.scatter_add_(1, bank_labels[nearest], ((weight - 1) / 0.07).exp())
    return (votes.argmax(1) == labels).float().mean().item()


def fit_linear(features: Tensor, labels: Tensor, c: float = 0.1) -> Callable[[Tensor], np.ndarray]:
    """A linear probe: multinomial logistic regression with an L2 penalty on standardised features.

    Args:
        features: (M, D), frozen.
        labels: (M,) class numbers.
        c: inverse strength of the penalty, as scikit-learn counts it.

    Returns:
        a function from features (B, D) to predicted class numbers (B,).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
    probe.fit(features.double().cpu().numpy(), labels.cpu().numpy())
    return lambda queries: probe.predict(queries.double().cpu().numpy())


class _QueriesAndKeys(TorchFunctionMode):
    """Remembers query, key and scale of the last scaled dot product attention that runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: tuple[Tensor, Tensor, float] | None = None

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key = args[0], args[1]
            self.seen = query, key, kwargs.get("scale") or query.shape[-1] ** -0.5
        return func(*args, **kwargs)


@torch.no_grad()
def last_attention(model: nn.Module, images: Tensor) -> Tensor | None:
    """Attention of the class token on the patches in the last block; of the mean patch where there is no class token.

    Args:
        model: a timm model in evaluation mode.
        images: normalised, (B, 3, H, W).

    Returns:
        (B, heads, patches), each map summing to 1, or None for a model without such attention on a patch grid.
    """
    network: Any = model
    if not hasattr(network, "patch_embed") or not hasattr(network, "num_prefix_tokens"):
        return None
    with _QueriesAndKeys() as mode:
        network.forward_features(images)
    if mode.seen is None:
        return None
    query, key, scale = mode.seen
    if getattr(network, "cls_token", None) is not None:
        query = query[:, :, :1]
    prefix = network.num_prefix_tokens
    rows = (query.float() @ key.float().transpose(-1, -2) * scale).softmax(-1).mean(2)[..., prefix:]
    return rows / rows.sum(-1, keepdim=True)


def mass_mask(attention: Tensor, tau: float = 0.6) -> Tensor:
    """The smallest set of patches that holds a share ``tau`` of each map's mass (DINO), True inside; (..., N)."""
    value, order = attention.sort(dim=-1, descending=True)
    before = value.cumsum(-1) - value
    return torch.zeros_like(attention, dtype=torch.bool).scatter(-1, order, before < tau)


def head_iou(model: nn.Module, images: Tensor, masks: Tensor, tau: float = 0.6) -> Tensor | None:
    """Overlap of every last-block head's mass mask with the true mask, at the input's resolution.

    Args:
        model: a timm model in evaluation mode.
        images: normalised, (B, 3, H, W).
        masks: bool (B, H, W).
        tau: share of the mass.

    Returns:
        intersection over union, (B, heads), or None where the model has no such attention.
    """
    found: list[Tensor] = []
    for batch, truth in zip(images.split(BATCH), masks.split(BATCH), strict=True):
        attention = last_attention(model, batch)
        if attention is None:
            return None
        network: Any = model
        height, width = (
            side // patch for side, patch in zip(batch.shape[-2:], network.patch_embed.patch_size, strict=True)
        )
        small = mass_mask(attention, tau).unflatten(-1, (height, width)).float()
        large = F.interpolate(small, size=truth.shape[-2:], mode="nearest").bool()
        both = (large & truth[:, None]).sum((2, 3))
        either = (large | truth[:, None]).sum((2, 3))
        found.append(both / either.clamp(min=1))
    return torch.cat(found)
