"""What the loop asks of an objective."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from model_zoo.mae import Decoder


class Objective(nn.Module):
    """A loss with all the parameters that it trains.

    Args:
        student: the timm model whose weights are optimised.
        normalise: from images in [0, 1] to the range the model was made for.

    Attributes:
        views: how many views of each image a step needs.
    """

    views: int = 1

    def __init__(self, student: Any, normalise: nn.Module) -> None:
        super().__init__()
        self.student: Any = student
        self.normalise = normalise

    @abstractmethod
    def forward(self, views: list[Tensor], labels: Tensor, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch and what else is worth watching; ``progress`` is the share of all steps done."""

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """What follows the optimiser's step; nothing unless an objective says otherwise."""

    def exported(self) -> nn.Module:
        """The model that is evaluated and shipped."""
        return self.student

    def decodes(self) -> Decoder | None:
        """The decoder that is kept beside that model; None where there is none."""
        return None
