"""Held-out figures of a model: ``python -m model_zoo evaluate``.

On ``scenes:N`` everything is measured on scenes that no training saw: top-1 and top-5 of a classifier of the ten
classes, k-NN and a linear probe on frozen features, shape bias on cue conflict, and how well the best head of the last
block outlines the object. k-NN bank, linear probe and choice of head come from other scenes than the figures. On
labelled images of one's own: what applies to them.
"""

import argparse
import csv
import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model_zoo.adapter import Adapter
from model_zoo.catalog import CATALOG, MASKED
from model_zoo.features import BATCH, extract, fit_linear, head_iou, knn_top1
from model_zoo.images import ImageError, ImageSource, sources
from model_zoo.reference import ModelError
from model_zoo.scenes import CLASSES, PROBE_BANK_SEED, Scenes

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


@dataclass(frozen=True)
class _Known:
    """Images as the model takes them, with their labels and, of scenes, masks at its input size and surfaces."""

    images: Tensor
    labels: Tensor
    masks: Tensor | None = None
    surfaces: Tensor | None = None


def evaluate_scenes(adapter: Adapter, count: int, bank_size: int = BANK, kind: str | None = None) -> Measured:
    """All figures on the first ``count`` held-out scenes.

    Args:
        adapter: the model.
        count: how many scenes; the figures' standard error is at most 0.5 / sqrt(count). Shape bias is measured on
            half as many.
        bank_size: scenes behind k-NN and linear probe.
        kind: ``cls`` or ``mean`` features; None chooses the one that the model's objective trains.

    Note:
        A high figure here says that ten shapes on painted backgrounds are told apart, nothing of photographs.
    """
    held_out = _scenes(adapter, Scenes(), count)
    bank = _scenes(adapter, Scenes(seed=PROBE_BANK_SEED), bank_size)
    conflict = _scenes(adapter, Scenes(cue_conflict=True), (count + 1) // 2)
    model, knows_classes = adapter.module, adapter.spec.labels == CLASSES
    known = extract(model, bank.images)
    code = extract(model, held_out.images, logits=knows_classes)
    answers = extract(model, conflict.images, logits=knows_classes)
    kind = kind or feature_kind(adapter, known)
    probe = fit_linear(known[kind], bank.labels)
    linear = _share(torch.from_numpy(probe(code[kind])), held_out.labels.cpu())

    top1 = top5 = None
    if knows_classes:
        top1, top5 = (_top(code["logits"], held_out.labels, k) for k in (1, 5))
        decided = answers["logits"].argmax(1).cpu()
    else:
        decided = torch.from_numpy(probe(answers[kind]))
    assert conflict.surfaces is not None
    for_shape = int((decided == conflict.labels.cpu()).sum())
    for_surface = int((decided == conflict.surfaces.cpu()).sum())
    iou, head = _saliency(adapter, bank, held_out)
    return Measured(
        n=count,
        top1=top1,
        top5=top5,
        knn=knn_top1(known[kind], bank.labels, code[kind], held_out.labels, K),
        linear=linear,
        features=kind,
        bank=bank_size,
        shape_bias=for_shape / max(1, for_shape + for_surface),
        shape_decided=for_shape,
        surface_decided=for_surface,
        iou=iou,
        head=head,
    )


def evaluate_images(adapter: Adapter, images: Sequence[ImageSource], names: Sequence[str]) -> Measured:
    """What applies to labelled images: top-1 and top-5 where every name is a class of the model, k-NN and linear.

    Every second image is the bank of k-NN and linear probe, the others are measured; top-1 and top-5 are over all.

    Args:
        adapter: the model.
        images: the images.
        names: the class of each.
    """
    classes = sorted(set(names))
    batches = [torch.stack([adapter.preprocess(s.open()) for s in images[i : i + BATCH]]) for i in _starts(images)]
    pixels = torch.cat(batches).to(adapter.device)
    labels = torch.tensor([classes.index(name) for name in names], device=adapter.device)
    code = extract(adapter.module, pixels)
    kind = feature_kind(adapter, code)
    features = code[kind]
    knn = linear = bank = None
    if len(classes) > 1 and len(images) >= 4 * len(classes):
        bank = len(features[::2])
        knn = knn_top1(features[::2], labels[::2], features[1::2], labels[1::2], K)
        predicted = torch.from_numpy(fit_linear(features[::2], labels[::2])(features[1::2]))
        linear = _share(predicted, labels[1::2].cpu())
    numbers = _class_numbers(adapter, names)
    top1 = top5 = None
    if numbers is not None:
        logits = _logits(adapter, pixels)
        top1, top5 = _top(logits, numbers, 1), _top(logits, numbers, 5)
    return Measured(n=len(images), top1=top1, top5=top5, knn=knn, linear=linear, features=kind, bank=bank)


def feature_kind(adapter: Adapter, features: dict[str, Tensor]) -> str:
    """``cls`` where a class token carried the objective; ``mean`` for masked autoencoders and without such a token."""
    entry = CATALOG.get(adapter.reference.key or "") if adapter.reference else None
    masked = entry is not None and entry.objective == MASKED
    return "cls" if "cls" in features and not masked else "mean"


def _scenes(adapter: Adapter, scenes: Scenes, count: int) -> _Known:
    """Scenes as ``scenes:N`` shows them, 224 px, resized to the model's input."""
    mean = torch.tensor(adapter.config["mean"], device=adapter.device)[:, None, None]
    std = torch.tensor(adapter.config["std"], device=adapter.device)[:, None, None]
    small = _rendered(scenes, count, adapter.input_size)
    assert small.masks is not None
    assert small.surfaces is not None
    device = adapter.device
    images = (small.images.to(device).float() / 255 - mean) / std
    return _Known(images, small.labels.to(device), small.masks.to(device), small.surfaces.to(device))


@functools.lru_cache(maxsize=3)
def _rendered(scenes: Scenes, count: int, size: tuple[int, int]) -> _Known:
    """Scenes as bytes at a model's input size, kept for the next model."""
    images, masks, labels, surfaces = [], [], [], []
    for start in range(0, count, BATCH):
        batch = scenes.batch(range(start, min(start + BATCH, count)))
        # On bytes and the CPU, where torch resizes as Pillow does in the model's own transform, within a level of 255.
        images.append(F.interpolate(batch.images, size=size, mode="bicubic", antialias=True))
        share = F.interpolate(batch.masks[:, None].float(), size=size, mode="bilinear", antialias=True)
        masks.append(share[:, 0] > 0.5)
        labels.append(batch.labels)
        surfaces.append(batch.surfaces)
    return _Known(torch.cat(images), torch.cat(labels), torch.cat(masks), torch.cat(surfaces))


def _saliency(adapter: Adapter, bank: _Known, held_out: _Known) -> tuple[float | None, int | None]:
    assert bank.masks is not None
    assert held_out.masks is not None
    tried = head_iou(adapter.module, bank.images[:HEAD_SCENES], bank.masks[:HEAD_SCENES])
    if tried is None:
        return None, None
    head = int(tried.mean(0).argmax())
    measured = head_iou(adapter.module, held_out.images, held_out.masks)
    assert measured is not None
    return measured[:, head].mean().item(), head


@torch.no_grad()
def _logits(adapter: Adapter, images: Tensor) -> Tensor:
    return torch.cat([adapter.module(batch).float() for batch in images.split(BATCH)])


def _top(logits: Tensor, labels: Tensor, k: int) -> float:
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None].to(best.device)).any(1).float().mean().item()


def _share(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).float().mean().item()


def _starts(images: Sequence[ImageSource]) -> range:
    return range(0, len(images), BATCH)


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
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
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
        names = [] if is_scenes else read_labels(found, args.labels)
        adapter = load(args.model, device=args.device)
        if is_scenes:
            measured = evaluate_scenes(adapter, len(found), kind=args.features)
        else:
            measured = evaluate_images(adapter, found, names)
    except (ImageError, ModelError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except KeyError as error:
        print(f"evaluate: the model has no {error} features; use --features mean", file=sys.stderr)
        return 2
    figures: dict[str, Any] = {"model": args.model, "images": args.images} | vars(measured)
    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        for name, value in figures.items():
            if value is not None:
                print(f"{name:16} {value:.4f}" if isinstance(value, float) else f"{name:16} {value}")
    return 0
