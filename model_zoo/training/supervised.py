"""Supervised classification, the recipe of ViT and of the convolutional reference."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Supervised(nn.Module):
    """Cross entropy with label smoothing.

    Attributes:
        views: how many views of each image a step needs.
        student: the model whose weights are optimised.
    """

    views = 1

    def __init__(self, student: nn.Module, normalise: nn.Module, smoothing: float = 0.05) -> None:
        super().__init__()
        self.student = student
        self.normalise = normalise
        self.smoothing = smoothing

    def forward(self, views: list[Tensor], labels: Tensor, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch and the share of it that is classified correctly."""
        logits = self.student(self.normalise(views[0])).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        return loss, {"batch_top1": (logits.argmax(1) == labels).float().mean().item()}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Nothing follows a step."""

    def exported(self) -> nn.Module:
        """The model that is evaluated and shipped."""
        return self.student
