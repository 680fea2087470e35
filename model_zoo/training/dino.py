"""Self-distillation without labels: DINO.

The positives are two encounters with the same object (another pose, light and background each time) where the source
can give them, and two crops of the same picture where it cannot; see ``docs/decisions/0102-dino-views.md``.

References:
    Caron et al. 2021, "Emerging properties in self-supervised vision transformers", arXiv:2104.14294.
    Oquab et al. 2023, "DINOv2", arXiv:2304.07193 (Sinkhorn centring).
    Ryali et al. 2021, background augmentation, arXiv:2103.12719.
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_zoo.training.augment import blurred, jittered_crops
from model_zoo.training.objective import Objective


class Head(nn.Module):
    """DINO's projection: an MLP to a bottleneck, normalised, then weight-normalised prototypes of unit length."""

    def __init__(self, width: int, prototypes: int, hidden: int, bottleneck: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """Cosines with the prototypes, (B, K)."""
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def sinkhorn(logits: Tensor, iterations: int = 3) -> Tensor:
    """Probabilities (B, K) whose rows sum to 1 and whose columns carry nearly equal mass.

    Reference:
        Caron et al. 2020 (SwAV), arXiv:2006.09882; used for centring in DINOv2, arXiv:2304.07193.
    """
    q = (logits - logits.max()).double().exp()
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True).clamp(min=1e-30)
        q = q / q.sum(1, keepdim=True)
    return q.to(logits.dtype)


def koleo(features: Tensor) -> Tensor:
    r"""How crowded normalised features (B, D) are: :math:`-\frac1B \sum_i \log \min_{j \ne i} \lVert x_i - x_j \rVert`.

    Reference:
        Sablayrolles et al. 2019, arXiv:1806.03198; used in DINOv2, arXiv:2304.07193.
    """
    x = F.normalize(features, dim=-1)
    with torch.no_grad():
        nearest = (x @ x.T).fill_diagonal_(-2).argmax(1)
    return -torch.log((x - x[nearest]).norm(dim=-1) + 1e-6).mean()


class Dino(Objective):
    r"""Cross entropy between the teacher's and the student's distributions over prototypes, across views.

    .. math:: L = -\sum_{t \in \{1,2\}} \sum_{s \ne t} P_t(x_t)^\top \log P_s(x_s),\quad
              P_t = softmax((z_t - c)/\tau_t),\ P_s = softmax(z_s/\tau_s)

    The teacher is the running average of the student; the centre c is the running mean of the teacher's outputs.

    Args:
        student: a timm model without classifier that takes several input sizes.
        normalise: to the range of the student.
        local_crops: how many small crops.
        global_scale: share of the area in a global crop, smallest and largest.
        local_scale: the same of local crops, whose side is half that of global ones.
        prototypes: outputs of the head.
        hidden: width of the head's hidden layers.
        bottleneck: width before the prototypes.
        student_temperature: of the student's softmax.
        teacher_temperature: of the teacher's, before and after the warm-up.
        warmup: share of all steps in which the teacher's temperature moves.
        momentum: of the teacher at the start; it rises to 1 with a cosine.
        centring: ``mean`` subtracts the running mean of the teacher's outputs (DINO); ``sinkhorn`` makes every batch
            use all prototypes alike (SwAV, DINOv2), which keeps a small batch from settling on a few clusters.
        centre_momentum: of the running mean.
        colour: strength of the random changes of colour.
        hue: largest random change of hue in turns; None is a tenth of ``colour``.
        blur: largest standard deviation of the blur of the first global crop and of half of the others, as a share of
            the side; 0 is off.
        ramp: share of all steps over which colour, hue and blur rise to what is asked for.
        attention_drop: share of the student's attention in its last block that is set to zero at random. Shape can be
            read off a few telling patches; where any of them may be missing, the class token has to look at all of
            the object.
        spread: weight of the KoLeo term (DINOv2), which pushes the features of different images apart.
    """

    views = 2

    def __init__(
        self,
        student: Any,
        normalise: nn.Module,
        local_crops: int = 2,
        global_scale: tuple[float, float] = (0.7, 1.0),
        local_scale: tuple[float, float] = (0.25, 0.6),
        prototypes: int = 512,
        hidden: int = 256,
        bottleneck: int = 64,
        student_temperature: float = 0.1,
        teacher_temperature: tuple[float, float] = (0.03, 0.05),
        warmup: float = 0.15,
        momentum: float = 0.99,
        centring: str = "mean",
        centre_momentum: float = 0.9,
        colour: float = 0.2,
        hue: float | None = None,
        blur: float = 0.0,
        spread: float = 0.0,
        ramp: float = 0.0,
        attention_drop: float = 0.0,
    ) -> None:
        super().__init__(student, normalise)
        self.student_head = Head(student.num_features, prototypes, hidden, bottleneck)
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        if attention_drop:
            student.blocks[-1].attn.attn_drop.p = attention_drop
        self.teacher_head = copy.deepcopy(self.student_head).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.centre: Tensor
        self.local_crops, self.global_scale, self.local_scale = local_crops, global_scale, local_scale
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.centring = centring
        self.warmup, self.momentum, self.centre_momentum = warmup, momentum, centre_momentum
        self.colour, self.hue, self.blur, self.spread, self.ramp = colour, hue, blur, spread, ramp

    def forward(self, views: list[Tensor], labels: Tensor, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, the teacher's entropy and its divergence between views.

        ``entropy`` is the mean entropy of the teacher's distribution over the log of the number of prototypes:
        near 1 it says nothing, near 0 it is sure. ``used`` is the entropy of the batch mean on the same scale: near 0
        all images fall on one prototype (collapse).
        """
        size = views[0].shape[-1]
        small = max(8, size // 16 * 8)
        strength = max(0.05, min(1.0, progress / self.ramp)) if self.ramp else 1.0
        wide = [self._crops(view, size, self.global_scale, 1.0 - k / 2, strength) for k, view in enumerate(views)]
        narrow = [self._crops(views[k % 2], small, self.local_scale, 0.5, strength) for k in range(self.local_crops)]
        both = torch.cat(wide)
        with torch.no_grad():
            told = self.teacher_head(self.teacher(both)).float()
            ramp = min(1.0, progress / self.warmup) if self.warmup else 1.0
            start, end = self.teacher_temperature
            temperature = start + (end - start) * ramp
            if self.centring == "sinkhorn":
                target = sinkhorn(told / temperature).chunk(2)
            else:
                target = ((told - self.centre) / temperature).softmax(-1).chunk(2)
                self.centre.lerp_(told.mean(0), 1 - self.centre_momentum)
        features = self.student(both)
        answers = list(self.student_head(features).float().chunk(2))
        if narrow:
            answers += self.student_head(self.student(torch.cat(narrow))).float().chunk(len(narrow))
        losses = [
            -(target[t] * F.log_softmax(answer / self.student_temperature, -1)).sum(-1).mean()
            for t in range(2)
            for s, answer in enumerate(answers)
            if s != t
        ]
        with torch.no_grad():
            probabilities = torch.cat(target)
            top = math.log(probabilities.shape[-1])
            mean = probabilities.mean(0)
            entropy = torch.special.entr(probabilities).sum(-1).mean() / top
            used = torch.special.entr(mean).sum() / top
        loss = torch.stack(losses).mean()
        if self.spread:
            loss = loss + self.spread * sum(koleo(view.float()) for view in features.chunk(2)) / 2
        return loss, {"entropy": entropy.item(), "used": used.item()}

    def _crops(self, images: Tensor, size: int, scale: tuple[float, float], blurry: float, strength: float) -> Tensor:
        hue = None if self.hue is None else self.hue * strength
        crops = jittered_crops(images, size, scale, colour=self.colour * strength, hue=hue)
        return self.normalise(blurred(crops, blurry, self.blur * strength) if self.blur else crops)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Moves the teacher towards the student."""
        momentum = 1 - (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2
        pairs = ((self.teacher, self.student), (self.teacher_head, self.student_head))
        for average, current in pairs:
            torch._foreach_lerp_(list(average.parameters()), list(current.parameters()), 1 - momentum)

    def exported(self) -> nn.Module:
        """The model that is evaluated and shipped."""
        return self.teacher
