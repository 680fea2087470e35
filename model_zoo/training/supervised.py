"""Supervised classification, the recipe of ViT and of the convolutional reference."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from model_zoo.training.objective import Objective


class Supervised(Objective):
    """Cross entropy with label smoothing."""

    def __init__(self, student: Any, normalise: nn.Module, smoothing: float = 0.05) -> None:
        super().__init__(student, normalise)
        self.smoothing = smoothing

    def forward(self, views: list[Tensor], labels: Tensor, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch and the share of it that is classified correctly."""
        logits = self.student(self.normalise(views[0])).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        return loss, {"batch_top1": (logits.argmax(1) == labels).float().mean().item()}
