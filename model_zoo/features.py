"""Frozen features of a timm model, and what can be read off them: k-NN and a linear probe."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 64
QUERIES = 1024
"""Queries that are compared with the bank at once."""
K, TEMPERATURE = 10, 0.07

Blocks = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Gives features (B, D) with their labels (B,) block by block, the same whenever it is called."""


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


def nearest_classes(bank: Iterable[tuple[Tensor, Tensor]], queries: Tensor, classes: int, k: int = K) -> Tensor:
    r"""The class that the k nearest neighbours of each query vote for, from a bank that is seen block by block.

    Nearness is the cosine s; a neighbour's vote weighs :math:`\exp(s / 0.07)`. Of the bank no more than a block and the
    k nearest so far are held, so the answer is that of the whole bank at once.

    Args:
        bank: features (M, D) with class numbers (M,), block by block.
        queries: (B, D).
        classes: how many there are; numbers of the bank are below it.
        k: neighbours.

    Returns:
        (B,) class numbers.

    Reference:
        Wu et al. 2018, arXiv:1805.01978; as used by Caron et al. 2021, arXiv:2104.14294, who find k = 10 to 20 best.
    """
    queries = F.normalize(queries, dim=-1)
    nearness = queries.new_full((len(queries), k), -torch.inf)
    owners = torch.zeros(len(queries), k, dtype=torch.long, device=queries.device)
    for features, labels in bank:
        similarity = queries @ F.normalize(features.to(queries.device), dim=-1).T
        nearness, places = torch.cat([nearness, similarity], 1).topk(k, 1)
        found = labels.to(queries.device).long().expand(len(queries), -1)
        owners = torch.cat([owners, found], 1).gather(1, places)
    votes = torch.zeros(len(queries), classes, device=queries.device)
    votes.scatter_add_(1, owners, ((nearness - 1) / TEMPERATURE).exp())
    return votes.argmax(1)


def knn_top1(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int = K) -> float:
    """Accuracy of :func:`nearest_classes`.

    Args:
        bank: (M, D), with its labels (M,).
        bank_labels: class numbers from 0.
        queries: (B, D), with their labels (B,).
        labels: class numbers from 0.
        k: neighbours.

    Returns:
        0 to 1. Chance is the share of the largest class.
    """
    classes, right = int(bank_labels.max()) + 1, 0
    for some, wanted in zip(queries.split(QUERIES), labels.split(QUERIES), strict=True):
        right += int((nearest_classes([(bank, bank_labels)], some, classes, k) == wanted).sum())
    return right / len(queries)


@dataclass(frozen=True)
class LinearProbe:
    """Scores of classes that are linear in standardised features.

    Attributes:
        weight: (classes, D), or (1, D) where there are two.
        bias: (classes,), or (1,).
        mean, scale: of the features, (D,).
        classes: class numbers in order.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    classes: Tensor

    def standardised(self, features: Tensor) -> Tensor:
        """Features less their mean, over their standard deviation; float64."""
        return (features.double() - self.mean.to(features.device)) / self.scale.to(features.device)

    def scores(self, standardised: Tensor) -> Tensor:
        """(B, classes), or (B, 1): of the second of two classes."""
        return standardised @ self.weight.T.to(standardised.device) + self.bias.to(standardised.device)

    def __call__(self, features: Tensor) -> Tensor:
        """Predicted class numbers (B,) of features (B, D)."""
        scores = self.scores(self.standardised(features))
        best = (scores[:, 0] > 0).long() if len(self.weight) == 1 else scores.argmax(1)
        return self.classes.to(features.device)[best]


def fit_linear(blocks: Blocks, c: float = 0.1) -> LinearProbe:
    r"""A linear probe: multinomial logistic regression with an L2 penalty on standardised features, in float64.

    .. math:: \min_{W, b} \; \frac1M \sum_i -\log p_{y_i}(W z_i + b) + \frac{1}{2 c M} \lVert W \rVert^2,
        \qquad z = (x - \bar x) / \operatorname{std} x

    with p the softmax, or the logistic function of one score where there are two classes. This is what scikit-learn's
    ``StandardScaler`` and ``LogisticRegression(C=c)`` minimise, by the same algorithm to the same tolerance; features
    pass block by block in every step, so memory does not grow with their number.

    Args:
        blocks: frozen features (B, D) with class numbers (B,), of two classes at least.
        c: inverse strength of the penalty, as scikit-learn counts it.
    """
    from scipy.optimize import minimize
    from sklearn.preprocessing import StandardScaler

    scaler, numbers = StandardScaler(), set[int]()
    for features, labels in blocks():
        scaler.partial_fit(features.double().cpu().numpy())
        numbers |= set(labels.tolist())
    known = torch.tensor(sorted(numbers))
    mean, scale = torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_)
    outputs, channels, count = (1 if len(known) == 2 else len(known)), len(mean), int(scaler.n_samples_seen_)

    def probe(flat: np.ndarray) -> LinearProbe:
        solution = torch.from_numpy(flat.copy()).view(outputs, channels + 1)
        return LinearProbe(solution[:, :channels], solution[:, channels], mean, scale, known)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        now, total, gradient = probe(flat), 0.0, torch.zeros(outputs, channels + 1, dtype=torch.float64)
        for features, labels in blocks():
            inputs = now.standardised(features)
            scores = now.scores(inputs)
            wanted = torch.searchsorted(known, labels.cpu()).to(features.device)
            if outputs == 1:
                total += float(F.binary_cross_entropy_with_logits(scores[:, 0], wanted.double(), reduction="sum"))
                error = scores.sigmoid() - wanted[:, None]
            else:
                total += float(F.cross_entropy(scores, wanted, reduction="sum"))
                error = scores.softmax(1)
                error[torch.arange(len(wanted)), wanted] -= 1
            gradient[:, :channels] += (error.T @ inputs).cpu()
            gradient[:, channels] += error.sum(0).cpu()
        gradient[:, :channels] += now.weight / c
        penalty = float(now.weight.square().sum()) / (2 * c)
        return (total + penalty) / count, (gradient / count).flatten().numpy()

    settings = {"maxiter": 2000, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}  # scikit-learn's
    found = minimize(loss, np.zeros(outputs * (channels + 1)), jac=True, method="L-BFGS-B", options=settings)
    return probe(found.x)
