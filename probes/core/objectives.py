"""The loss that a model was trained for, as far as it can be told of images: cross-entropy, or reconstruction."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_zoo.adapter import Adapter, ModelSpec
from model_zoo.mae import Decoder, encode, patch_moments, pixels, stays
from probes.core.capture import Batch
from probes.core.targets import class_index

MASK_RATIO = 0.75
FROZEN = ("pos", "token")
"""What the names of tables hold that are no filters: positions, and prefix tokens."""


class Loss(nn.Module):
    """A loss of each image, as a module over the model's own weights.

    Attributes:
        unused: how the names of weights begin on which it does not depend.
    """

    unused: ClassVar[tuple[str, ...]] = ()


class ClassLoss(Loss):
    r"""Cross-entropy of each image, :math:`-\log p(c)` in nats, without label smoothing.

    Args:
        model: a classifier.
        labels: (images,) class numbers.
    """

    def __init__(self, model: nn.Module, labels: Tensor) -> None:
        super().__init__()
        self.model, self.labels = model, labels

    def forward(self, inputs: Tensor) -> Tensor:
        """The loss of each image: (images,)."""
        return F.cross_entropy(self.model(inputs), self.labels, reduction="none")


class ReconstructionLoss(Loss):
    """Mean squared error over the hidden patches of each image, under one mask for all.

    Args:
        model: the encoder of a masked autoencoder.
        decoder: its decoder.
        visible: (1, patches that stay), as `model_zoo.mae.stays` gives.
    """

    unused: ClassVar[tuple[str, ...]] = ("model.head.",)

    def __init__(self, model: nn.Module, decoder: Decoder, visible: Tensor) -> None:
        super().__init__()
        self.model, self.decoder, self.visible = model, decoder, visible

    def forward(self, inputs: Tensor) -> Tensor:
        """The loss of each image: (images,)."""
        patch, visible = self.decoder.patch, self.visible.expand(len(inputs), -1)
        grid = (inputs.shape[-2] // patch, inputs.shape[-1] // patch)
        predicted = self.decoder(encode(self.model, inputs, visible), visible, grid)
        target = pixels(inputs, patch)
        if self.decoder.patch_norm:
            mean, deviation = patch_moments(target)
            target = (target - mean) / deviation
        error = ((predicted - target) ** 2).mean(-1)
        hidden = torch.ones_like(error).scatter(1, visible, 0.0)
        return (error * hidden).sum(1) / hidden.sum(1)


def objective(spec: ModelSpec) -> str:
    """``reconstruction`` where a decoder is kept, else ``cross-entropy`` of a classifier, else empty."""
    return "reconstruction" if spec.reconstructs else "cross-entropy" if spec.classes else ""


def undefined(spec: ModelSpec) -> str | None:
    """Say in one sentence why a model's loss cannot be told of images; None where it can."""
    if objective(spec):
        return None
    return (
        "its loss cannot be told of images: it has neither a classifier nor the decoder of a masked autoencoder, and "
        "what else its training compared with (a teacher, texts) is not kept"
    )


def labels(batch: Batch) -> Tensor | None:
    """The classes (images,) of a batch as the model counts them; None where one is not known."""
    names = [label() if label else "" for label in batch.labels] or [""] * len(batch.inputs)
    found = [class_index(batch.adapter.spec, name) if name else None for name in names]
    known = [number for number in found if number is not None]
    return torch.tensor(known, device=batch.inputs.device) if len(known) == len(found) else None


NO_LABELS = (
    "its loss is cross-entropy, which needs labelled images of its classes: choose scenes for a model that learned "
    "from scenes, or a folder or zip with a folder for each class"
)


def loss_of(adapter: Adapter, classes: Tensor | None, seed: int) -> Loss | None:
    """The module that gives the loss of each image of a batch; None where labels are needed and missing.

    Args:
        adapter: a model for which the loss is not `undefined`.
        classes: of the images, see `labels`.
        seed: of the mask of a masked autoencoder.
    """
    spec, decoder = adapter.spec, adapter.decoder
    if decoder is not None:
        generator = torch.Generator().manual_seed(seed)
        visible = stays(1, spec.grid[0] * spec.grid[1], MASK_RATIO, generator).to(adapter.device)
        return ReconstructionLoss(adapter.module, decoder, visible)
    return None if classes is None else ClassLoss(adapter.module, classes)


def filters(loss: Loss) -> dict[str, Tensor]:
    """The weights that are moved: all of two dimensions or more, without tables of positions and tokens."""
    return {
        name: parameter.detach()
        for name, parameter in loss.named_parameters()
        if parameter.squeeze().ndim > 1
        and not any(word in name.rpartition(".")[2] for word in FROZEN)
        and not name.startswith(loss.unused)
    }


def evaluated(loss: Loss) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    """The loss as a function of some of the weights, by name, and the inputs; the model itself is not changed."""

    def of(weights: dict[str, Any], inputs: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(loss, weights, (inputs,))
        return found

    return of
