"""The figures of a model, and how they are defined."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """Figures of one model; None where a figure does not apply.

    Attributes:
        n: images that the figures stand on.
        top1, top5: share of images whose class is the classifier's first, or among its first five.
        knn: top-1 of 10 nearest neighbours by cosine of the features, see :func:`model_zoo.features.nearest_classes`.
        linear: top-1 of a logistic regression on the features, see :func:`model_zoo.features.fit_linear`.
        features: ``cls``, the class token after the last norm, or ``mean`` of the patch tokens or feature map.
        bank: labelled images behind k-NN and linear probe; disjoint from those they are measured on.
        shape_bias: on cue conflict, decisions for the shape over decisions for the shape or the surface; decisions of
            the classifier where it knows the classes, else of the linear probe.
        shape_decided, surface_decided: how many decisions of each kind that stands on.
        iou: mean intersection over union of the best last-block head's mass mask (tau 0.6) and the true mask.
        head: that head, counted from 0, chosen on other scenes.
        unreadable: names of the images that cannot be read and are not among the n; None where all can.
        finetuned: top-1 after all weights were trained on 1,000 labelled scenes that are not among the n; see
            :mod:`model_zoo.training.finetune`.
    """

    n: int
    top1: float | None = None
    top5: float | None = None
    knn: float | None = None
    linear: float | None = None
    features: str | None = None
    bank: int | None = None
    shape_bias: float | None = None
    shape_decided: int | None = None
    surface_decided: int | None = None
    iou: float | None = None
    head: int | None = None
    unreadable: list[str] | None = None
    finetuned: float | None = None


class Share:
    """How many of those that were counted are right.

    Attributes:
        right: how many are.
        count: of how many.
    """

    def __init__(self) -> None:
        self.right = self.count = 0

    def add(self, right: Tensor) -> None:
        """Count a block of yes and no."""
        self.right += int(right.sum())
        self.count += right.numel()

    @property
    def value(self) -> float | None:
        """From 0 to 1; None where nothing was counted."""
        return self.right / self.count if self.count else None


def among_first(order: Tensor, labels: Tensor, k: int) -> Tensor:
    """Whether each label (images,) is among the first k of ``order`` (images, up to 5)."""
    return (order[:, :k] == labels[:, None]).any(1)
