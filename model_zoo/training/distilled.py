"""Distillation through attention: a second token learns the decisions of a convolutional teacher.

Reference:
    Touvron et al. 2021, "Training data-efficient image transformers", arXiv:2012.12877, section 4.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_zoo.training.objective import Objective


class Distilled(Objective):
    r"""Hard or soft distillation.

    .. math:: L = \tfrac12 CE(z_{cls}, y) + \tfrac12 CE(z_{dist}, \arg\max z_{teacher})

    The soft form replaces the second term by the divergence from the teacher's probabilities at ``temperature``,
    times its square. While the student trains on smaller images than the teacher did, the teacher is shown them
    enlarged to its own size: a convolutional network knows objects at the size it has learned them.

    Args:
        student: a timm model with a distillation token.
        normalise: to the range of both models.
        teacher: a trained classifier of the same classes.
        teacher_size: side of the images that the teacher was trained on, in pixels.
        soft: learn the teacher's probabilities instead of its decisions.
        temperature: of the soft form.
    """

    def __init__(
        self,
        student: Any,
        normalise: nn.Module,
        teacher: nn.Module,
        teacher_size: int = 0,
        soft: bool = False,
        temperature: float = 3.0,
    ) -> None:
        super().__init__(student, normalise)
        self.student.set_distilled_training(True)
        self.teacher = teacher.eval().requires_grad_(False)
        self.teacher_size, self.soft, self.temperature = teacher_size, soft, temperature

    def train(self, mode: bool = True) -> "Distilled":
        """As for any module, but the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, views: list[Tensor], labels: Tensor, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and how often student and teacher were right on it."""
        images = self.normalise(views[0])
        with torch.no_grad():
            shown = images
            if images.shape[-1] < self.teacher_size:
                shown = F.interpolate(images, size=self.teacher_size, mode="bicubic", align_corners=False)
            told = self.teacher(shown).float()
        by_class, by_teacher = (z.float() for z in self.student(images))
        if self.soft:
            t = self.temperature
            second = F.kl_div(
                F.log_softmax(by_teacher / t, 1), F.log_softmax(told / t, 1), log_target=True, reduction="batchmean"
            )
            second = second * t * t
        else:
            second = F.cross_entropy(by_teacher, told.argmax(1))
        loss = (F.cross_entropy(by_class, labels) + second) / 2
        decided = (by_class + by_teacher).argmax(1)
        return loss, {
            "batch_top1": (decided == labels).float().mean().item(),
            "teacher_top1": (told.argmax(1) == labels).float().mean().item(),
        }
