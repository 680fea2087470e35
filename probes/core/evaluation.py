"""Held-out figures of a model: ``python -m model_zoo evaluate``.

On ``scenes:N`` everything is measured on scenes that no training saw: top-1 and top-5 of a classifier of the ten
classes, k-NN and a linear probe on frozen features, shape bias on cue conflict, and how well the best head of the last
block outlines the object. k-NN bank, linear probe and choice of head come from other scenes than the figures. On
labelled images of one's own: what applies to them.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import probes
from model_zoo.adapter import Adapter
from model_zoo.decoding import ImageError
from model_zoo.features import BATCH, extract, fit_linear, knn_top1
from model_zoo.images import ImageSource, sources
from model_zoo.reference import ModelError
from model_zoo.scenes import CLASSES, PROBE_BANK_SEED, Scenes
from probes.core import unreadable
from probes.core.base import Probe
from probes.core.capture import Batch, same_device

BANK = 2000
"""Scenes on which k-NN and linear probes stand."""
HEAD_SCENES = 200
"""Scenes, of the bank, by which the best head is chosen."""
LARGEST = 100_000
K = 10


@dataclass(frozen=True)
class Measured:
    """Figures of one model; None where a figure does not apply.

    Attributes:
        n: images that the figures stand on.
        top1, top5: share of images whose class is the classifier's first, or among its first five.
        knn: top-1 of 10 nearest neighbours by cosine of the features.
        linear: top-1 of a logistic regression on the features.
        features: ``cls``, the class token after the last norm, or ``mean`` of the patch tokens or feature map.
        bank: labelled images behind k-NN and linear probe; disjoint from the n.
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


@dataclass(frozen=True)
class _Shown:
    """A batch on its way through the model, with its labels and, of scenes, the classes that surfaces belong to."""

    batch: Batch
    labels: Tensor
    surfaces: Tensor | None = None


@dataclass(frozen=True)
class _Read:
    """What is kept of images; their pixels are not.

    Attributes:
        features: (images, channels) of one kind.
        labels, surfaces: (images,).
        order: (images, up to 5), the classifier's first answers.
        iou: (images, heads) of the first images; None where the model has no attention to outline with.
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
    bank = _read(adapter, _scenes(adapter, Scenes(seed=PROBE_BANK_SEED), bank_size), kind, outlined=HEAD_SCENES)
    kind = bank.kind
    held_out = _read(adapter, _scenes(adapter, Scenes(), count), kind, answers=knows_classes, outlined=count)
    half = (count + 1) // 2
    conflict = _read(adapter, _scenes(adapter, Scenes(cue_conflict=True), half), kind, answers=knows_classes)
    probe = fit_linear(bank.features, bank.labels)

    top1 = top5 = None
    if held_out.order is not None and conflict.order is not None:
        top1, top5 = (_top(held_out.order, held_out.labels, k) for k in (1, 5))
        decided = conflict.order[:, 0]
    else:
        decided = torch.from_numpy(probe(conflict.features))
    assert conflict.surfaces is not None
    for_shape = int((decided == conflict.labels).sum())
    for_surface = int((decided == conflict.surfaces).sum())
    iou = head = None
    if bank.iou is not None and held_out.iou is not None:
        head = int(np.nanmean(bank.iou, 0).argmax())
        iou = float(np.nanmean(held_out.iou[:, head]))
    return Measured(
        n=count,
        top1=top1,
        top5=top5,
        knn=knn_top1(bank.features, bank.labels, held_out.features, held_out.labels, K),
        linear=_share(torch.from_numpy(probe(held_out.features)), held_out.labels),
        features=kind,
        bank=bank_size,
        shape_bias=for_shape / max(1, for_shape + for_surface),
        shape_decided=for_shape,
        surface_decided=for_surface,
        iou=iou,
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


def evaluate_images(adapter: Adapter, images: Sequence[ImageSource], names: Sequence[str]) -> Measured:
    """What applies to labelled images: top-1 and top-5 where every name is a class of the model, k-NN and linear.

    Every second image is the bank of k-NN and linear probe, the others are measured; top-1 and top-5 are over all.
    Images that cannot be read are left out.

    Args:
        adapter: the model.
        images: the images.
        names: the class of each.

    Raises:
        ImageError: none can be read.
    """
    errors: dict[int, ImageError] = {}
    numbers = _class_numbers(adapter, names)
    read = _read(adapter, _opened(adapter, images, errors), answers=numbers is not None)
    classes = sorted({names[place] for place in read.labels})
    labels = torch.tensor([classes.index(names[place]) for place in read.labels])
    features, knn, linear, bank = read.features, None, None, None
    if len(classes) > 1 and len(labels) >= 4 * len(classes):
        bank = len(features[::2])
        knn = knn_top1(features[::2], labels[::2], features[1::2], labels[1::2], K)
        predicted = torch.from_numpy(fit_linear(features[::2], labels[::2])(features[1::2]))
        linear = _share(predicted, labels[1::2])
    top1 = top5 = None
    if numbers is not None and read.order is not None:
        top1, top5 = (_top(read.order, numbers[read.labels], k) for k in (1, 5))
    return Measured(
        n=len(labels),
        top1=top1,
        top5=top5,
        knn=knn,
        linear=linear,
        features=read.kind,
        bank=bank,
        unreadable=[images[place].name for place in errors] or None,
    )


@torch.inference_mode()
def _read(
    adapter: Adapter, shown: Iterable[_Shown], kind: str | None = None, *, answers: bool = False, outlined: int = 0
) -> _Read:
    """Run the model over batches and keep what the figures need.

    Args:
        adapter: the model.
        shown: the batches; each is gone before the next is made.
        kind: of features; None takes the model's own, ``spec.features``.
        answers: keep the classifier's answers.
        outlined: hold the heads of the first so many images against their masks, as the probe saliency-score does.
    """
    make: Callable[..., Probe] = probes.load("saliency-score")
    outline = make(steps=0)
    has_heads = outlined > 0 and outline.undefined(adapter.spec) is None
    state = outline.init(adapter.spec)
    kept: dict[str, list[Tensor]] = {}
    for some in shown:
        code = extract(adapter.module, some.batch.inputs, logits=answers)
        kind = kind or (adapter.spec.features if "cls" in code else "mean")
        parts = {"features": code[kind], "labels": some.labels}
        if some.surfaces is not None:
            parts["surfaces"] = some.surfaces
        if answers:
            parts["order"] = code["logits"].topk(min(5, code["logits"].shape[1])).indices
        for name, part in parts.items():
            kept.setdefault(name, []).append(part.cpu())
        if has_heads and some.batch.images.start < outlined:
            state = outline.update(state, some.batch)
    assert kind is not None
    whole = {name: torch.cat(parts) for name, parts in kept.items()}
    iou = outline.compute(state)["iou"].values if state.numbers else None
    return _Read(kind, whole["features"], whole["labels"], whole.get("surfaces"), whole.get("order"), iou)


def _scenes(adapter: Adapter, scenes: Scenes, count: int) -> Iterator[_Shown]:
    """Scenes through the model's own transform, as any picture."""
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        drawn = scenes.batch(numbers)
        pictures = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in drawn.images]
        masks = [partial(np.asarray, mask) for mask in drawn.masks.numpy()]
        yield _Shown(_batch(adapter, numbers, pictures, masks), drawn.labels, drawn.surfaces)


def _opened(adapter: Adapter, images: Sequence[ImageSource], errors: dict[int, ImageError]) -> Iterator[_Shown]:
    """Images whose labels are their places; notes the errors of those that cannot be read."""
    for start in range(0, len(images), BATCH):
        pictures = {}
        for place in range(start, min(start + BATCH, len(images))):
            try:
                pictures[place] = images[place].open()
            except ImageError as error:
                errors[place] = error
        if pictures:
            places = torch.tensor(list(pictures))
            yield _Shown(_batch(adapter, range(start, start + len(pictures)), [*pictures.values()]), places)
    if len(errors) == len(images):
        raise ImageError(f"None of the {len(images)} images can be read. {errors[0]}")


def _batch(adapter: Adapter, numbers: range, pictures: list[Image.Image], masks: Sequence[Any] = ()) -> Batch:
    inputs = torch.stack([adapter.preprocess(picture) for picture in pictures])
    return Batch(adapter, numbers, same_device(adapter, inputs), pictures, masks)


def _top(order: Tensor, labels: Tensor, k: int) -> float:
    return (order[:, :k] == labels[:, None]).any(1).float().mean().item()


def _share(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).float().mean().item()


def _class_numbers(adapter: Adapter, names: Sequence[str]) -> Tensor | None:
    """Outputs of the classifier that the names (or numbers) mean; None if one of them is no class of the model."""
    known = {label.split(",")[0].strip().lower(): number for number, label in enumerate(adapter.spec.labels)}
    numbers = []
    for name in names:
        if name.isascii() and name.isdigit() and int(name) < adapter.spec.classes:
            numbers.append(int(name))
        elif name.lower() in known:
            numbers.append(known[name.lower()])
        else:
            return None
    return torch.tensor(numbers)


def read_labels(images: Sequence[ImageSource], table: Path | None) -> list[str]:
    """The class of every image: from a table of lines ``image,class``, else the name of its folder.

    Raises:
        ImageError: an image without a class.
    """
    if table is None:
        names = [Path(image.name).parent.name for image in images]
        if not all(names):
            raise ImageError("Labels are needed: give --labels FILE with lines image,class, or one folder per class.")
        return names
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = {row[0].strip(): row[1].strip() for row in csv.reader(file) if len(row) >= 2}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"The labels {table} cannot be read as a table of image,class: {error}.") from None
    for image in images:
        if image.name not in rows:
            raise ImageError(f"{table} should have a line image,class for every image, and has none for {image.name}.")
    return [rows[image.name] for image in images]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``evaluate``."""
    parser.add_argument("--model", required=True, help="a catalog key, timm:NAME, timm:NAME@random:SEED or @FILE")
    parser.add_argument("--images", required=True, help="scenes:N, or a folder of images")
    parser.add_argument("--labels", type=Path, help="a file of lines image,class; otherwise folders name the classes")
    parser.add_argument("--features", choices=("cls", "mean"), help="for k-NN and linear probe on scenes")
    parser.add_argument(
        "--finetune", action="store_true", help="on scenes, also train all weights on 1,000 labelled ones (minutes)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--strict", action="store_true", help="measure nothing if one of the images cannot be read")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the figures; 2 and one sentence on stderr for bad input."""
    from model_zoo.loading import load

    try:
        found = sources([args.images])
        if len(found) > LARGEST:
            raise ImageError(f"At most {LARGEST} images are evaluated at once, got {len(found)}.")
        is_scenes = args.images.startswith("scenes:")
        if is_scenes and args.labels:
            raise ImageError("Scenes know their own labels: leave out --labels.")
        if args.finetune and not is_scenes:
            raise ImageError("Fine-tuning is measured on scenes: give --images scenes:N, or leave out --finetune.")
        names = [] if is_scenes else read_labels(found, args.labels)
        if args.strict:
            unreadable.refuse(found)
        adapter = load(args.model, device=args.device)
        if is_scenes:
            measured = evaluate_scenes(adapter, len(found), kind=args.features, finetune=args.finetune)
        else:
            measured = evaluate_images(adapter, found, names)
    except (ImageError, ModelError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except KeyError as error:
        print(f"evaluate: the model has no {error} features; use --features mean", file=sys.stderr)
        return 2
    unreadable.report(measured.unreadable or (), len(found))
    figures: dict[str, Any] = {"model": args.model, "images": args.images} | vars(measured)
    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        for name, value in figures.items():
            if value is not None:
                print(f"{name:16} {value:.4f}" if isinstance(value, float) else f"{name:16} {value}")
    return 0
