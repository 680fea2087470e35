"""Figures on procedural scenes that no training saw.

Top-1 and top-5 of a classifier of the ten classes, k-NN and a linear probe on frozen features, shape bias on cue
conflict, and how well the best head of the last block outlines the object. k-NN bank, linear probe and choice of head
come from other scenes than the figures; features are kept of that bank alone, so memory does not grow with the scenes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import probes
from model_zoo.adapter import Adapter
from model_zoo.features import BATCH, extract, fit_linear, nearest_classes
from model_zoo.scenes import CLASSES, PROBE_BANK_SEED, Scenes
from probes.core.base import Probe
from probes.core.capture import Batch, same_device
from probes.core.evaluation.figures import Measured, Share, among_first
from probes.core.memory import at_once

BANK = 2000
"""Scenes on which k-NN and linear probes stand."""
HEAD_SCENES = 200
"""Scenes, of the bank, by which the best head is chosen."""


@dataclass(frozen=True)
class _Shown:
    """A batch on its way through the model, with its labels and the classes that surfaces belong to."""

    batch: Batch
    labels: Tensor
    surfaces: Tensor


@dataclass(frozen=True)
class _Read:
    """What is kept of a batch; its pixels are not.

    Attributes:
        features: (images, channels) of one kind.
        labels, surfaces: (images,).
        order: (images, up to 5), the classifier's first answers.
        iou: (images, heads); None where it is not asked for, or the model has no attention to outline with.
    """

    kind: str
    features: Tensor
    labels: Tensor
    surfaces: Tensor | None
    order: Tensor | None
    iou: np.ndarray | None


def evaluate_scenes(
    adapter: Adapter, count: int, bank_size: int = BANK, kind: str | None = None, *, finetune: bool = False
) -> Measured:
    """All figures on the first ``count`` held-out scenes.

    Args:
        adapter: the model.
        count: how many scenes; the figures' standard error is at most 0.5 / sqrt(count). Shape bias is measured on
            half as many.
        bank_size: scenes behind k-NN and linear probe.
        kind: ``cls`` or ``mean`` features; None takes the model's own, ``spec.features``.
        finetune: measure ``finetuned``, too, which takes minutes on a CPU.

    Note:
        A high figure here says that ten shapes on painted backgrounds are told apart, nothing of photographs.
    """
    knows_classes = adapter.spec.labels == CLASSES
    bank = _joined(
        _read(adapter, _scenes(adapter, Scenes(seed=PROBE_BANK_SEED), bank_size), kind, outlined=HEAD_SCENES)
    )
    kind, head = bank.kind, None if bank.iou is None else int(np.nanmean(bank.iou, 0).argmax())
    probe = fit_linear(lambda: [(bank.features, bank.labels)])

    top1, top5, knn, linear, iou = Share(), Share(), Share(), Share(), []
    outlined = 0 if head is None else count
    for some in _read(adapter, _scenes(adapter, Scenes(), count), kind, answers=knows_classes, outlined=outlined):
        if some.order is not None:
            top1.add(among_first(some.order, some.labels, 1))
            top5.add(among_first(some.order, some.labels, 5))
        nearest = nearest_classes([(bank.features, bank.labels)], some.features, len(CLASSES))
        knn.add(nearest == some.labels)
        linear.add(probe(some.features) == some.labels)
        if some.iou is not None:
            iou.append(some.iou[:, head])

    half, for_shape, for_surface = (count + 1) // 2, Share(), Share()
    for some in _read(adapter, _scenes(adapter, Scenes(cue_conflict=True), half), kind, answers=knows_classes):
        assert some.surfaces is not None
        decided = probe(some.features) if some.order is None else some.order[:, 0]
        for_shape.add(decided == some.labels)
        for_surface.add(decided == some.surfaces)
    return Measured(
        n=count,
        top1=top1.value,
        top5=top5.value,
        knn=knn.value,
        linear=linear.value,
        features=kind,
        bank=bank_size,
        shape_bias=for_shape.right / max(1, for_shape.right + for_surface.right),
        shape_decided=for_shape.right,
        surface_decided=for_surface.right,
        iou=float(np.nanmean(np.concatenate(iou))) if iou else None,
        head=head,
        finetuned=_fine_tuned_top1(adapter, count, kind) if finetune else None,
    )


def _fine_tuned_top1(adapter: Adapter, count: int, kind: str) -> float:
    from model_zoo.training.finetune import LABELLED, fine_tuned

    known = list(_scenes(adapter, Scenes(seed=PROBE_BANK_SEED), LABELLED))
    images, labels = torch.cat([some.batch.inputs for some in known]), torch.cat([some.labels for some in known])
    classifier = fine_tuned(adapter.module, images, labels.to(images.device), kind)
    right = 0
    with torch.inference_mode():
        for some in _scenes(adapter, Scenes(), count):
            right += int((classifier(some.batch.inputs).argmax(1).cpu() == some.labels).sum())
    return right / count


def _read(
    adapter: Adapter, shown: Iterable[_Shown], kind: str | None = None, *, answers: bool = False, outlined: int = 0
) -> Iterator[_Read]:
    """Run the model over batches and give what the figures need of each.

    Args:
        adapter: the model.
        shown: the batches; each is gone before the next is made.
        kind: of features; None takes the model's own, ``spec.features``.
        answers: give the classifier's answers.
        outlined: hold the heads of the first so many images against their masks, as the probe saliency-score does.
    """
    make: Callable[..., Probe] = probes.load("saliency-score")
    outline = make(steps=0)
    has_heads = outlined > 0 and outline.undefined(adapter.spec) is None
    for some in shown:
        with torch.inference_mode():
            code = extract(adapter.module, some.batch.inputs, logits=answers)
            kind = kind or (adapter.spec.features if "cls" in code else "mean")
            order = code["logits"].topk(min(5, code["logits"].shape[1])).indices.cpu() if answers else None
            iou = None
            if has_heads and some.batch.images.start // BATCH * BATCH < outlined:  # whole batches, whatever fits
                iou = outline.compute(outline.update(outline.init(adapter.spec), some.batch))["iou"].values
        yield _Read(kind, code[kind].cpu(), some.labels.cpu(), some.surfaces, order, iou)


def _joined(parts: Iterable[_Read]) -> _Read:
    """Features, labels and overlaps of all batches."""
    every = list(parts)
    iou = [part.iou for part in every if part.iou is not None]
    return _Read(
        every[0].kind,
        torch.cat([part.features for part in every]),
        torch.cat([part.labels for part in every]),
        None,
        None,
        np.concatenate(iou) if iou else None,
    )


def _scenes(adapter: Adapter, scenes: Scenes, count: int) -> Iterator[_Shown]:
    """Scenes through the model's own transform, as any picture."""
    size = at_once(adapter, BATCH)
    for start in range(0, count, size):
        numbers = range(start, min(start + size, count))
        drawn = scenes.batch(numbers)
        pictures = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in drawn.images]
        masks = [partial(np.asarray, mask) for mask in drawn.masks.numpy()]
        yield _Shown(_batch(adapter, numbers, pictures, masks), drawn.labels, drawn.surfaces)


def _batch(adapter: Adapter, numbers: range, pictures: list[Image.Image], masks: Sequence[Any]) -> Batch:
    inputs = torch.stack([adapter.preprocess(picture) for picture in pictures])
    return Batch(adapter, numbers, same_device(adapter, inputs), pictures, masks)
