"""Frozen features of a timm model, and what can be read off them: k-NN and a linear probe."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 64
QUERIES = 1024
"""Queries that are compared with the whole bank at once."""


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
    bank, classes, right = F.normalize(bank, dim=-1), int(bank_labels.max()) + 1, 0
    for some, wanted in zip(queries.split(QUERIES), labels.split(QUERIES), strict=True):
        similarity = F.normalize(some, dim=-1) @ bank.T
        weight, nearest = similarity.topk(min(k, len(bank)), dim=-1)
        votes = torch.zeros(len(some), classes, device=some.device)
        votes.scatter_add_(1, bank_labels[nearest], ((weight - 1) / 0.07).exp())
        right += int((votes.argmax(1) == wanted).sum())
    return right / len(queries)


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
