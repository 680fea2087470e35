"""Where training images come from: procedural scenes, scikit-learn's digits, or a folder of images by class.

Every source gives batch k as a pure function of (seed, k); nothing is remembered between batches, so a resumed run
sees what an unbroken one would have seen. Random augmentation draws from torch's global generator, which the loop
seeds anew at every step.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from model_zoo.decoding import SUFFIXES, open_image
from model_zoo.scenes import CLASSES, HELD_OUT_SEED, Scenes
from model_zoo.training.augment import jittered_crops

VALIDATION_SEED = HELD_OUT_SEED + 2
"""Scenes watched while training: neither trained on nor part of the held-out figures."""

SKIMAGE = ("brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "moon.png")
"""Photographs that scikit-image brings and that the dashboard does not show."""


class Source(Protocol):
    """A source of training images.

    ``views`` gives one tensor per view, each (B, 3, size, size) in [0, 1], and the labels (B,).
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    def views(
        self,
        step: int,
        batch: int,
        size: int,
        difficulty: float,
        count: int,
        device: torch.device,
        texture: float = 1.0,
    ) -> tuple[list[Tensor], Tensor]:
        """``count`` views of each image of batch ``step``."""
        ...

    def validation(
        self, count: int, size: int, difficulty: float, device: torch.device, texture: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """At most ``count`` images that are never trained on, and their labels."""
        ...

    def masked(self, count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Images (B, 3, size, size) that are never trained on, and their objects' masks (B, size, size), if known."""
        ...


@dataclass(frozen=True)
class ScenesSource:
    """Endless fresh scenes. Further views show the same object in another pose before another background.

    Attributes:
        seed: of the scenes.
        surface_correlation: how often a surface is the class's own.
        photographs: whose crops are the backgrounds of half of the scenes.
        repainted: further views wear another surface, so that only the shape is shared.
        classes: their names.
    """

    seed: int
    surface_correlation: float = 0.7
    photographs: tuple[Path, ...] = ()
    repainted: bool = False
    classes: tuple[str, ...] = CLASSES

    def views(
        self,
        step: int,
        batch: int,
        size: int,
        difficulty: float,
        count: int,
        device: torch.device,
        texture: float = 1.0,
    ) -> tuple[list[Tensor], Tensor]:
        """``count`` views of each image of batch ``step``, (B, 3, size, size) in [0, 1], and the labels."""
        scenes = Scenes(
            self.seed,
            size,
            self.surface_correlation,
            difficulty=difficulty,
            photographs=self.photographs,
            texture=texture,
        )
        drawn = scenes.views(range(step * batch, (step + 1) * batch), count, device, self.repainted)
        return [view.images.float() / 255 for view in drawn], drawn[0].labels

    def validation(
        self, count: int, size: int, difficulty: float, device: torch.device, texture: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Images that are never trained on, and their labels."""
        scenes = Scenes(VALIDATION_SEED, size, difficulty=difficulty, texture=texture).batch(range(count), device)
        return scenes.images.float() / 255, scenes.labels

    def masked(self, count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Scenes that are never trained on, at full difficulty, and their objects' masks."""
        scenes = Scenes(VALIDATION_SEED, size).batch(range(count), device)
        return scenes.images.float() / 255, scenes.masks


@dataclass(frozen=True)
class PictureSource:
    """A finite set of labelled pictures, shuffled anew each epoch; every fifth is kept for validation.

    Attributes:
        pictures: one array (N, H, W, 3) uint8, or paths that are read when needed.
        labels: class numbers.
        classes: class names.
        seed: of the shuffling.
        scale: smallest share of the area that a random crop keeps.
        flip: whether crops may be mirrored.
    """

    pictures: np.ndarray | tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    seed: int
    scale: float
    flip: bool

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.random.default_rng(0).permutation(len(self.pictures))
        return order[len(order) // 5 :], order[: len(order) // 5]

    def _read(self, indices: np.ndarray, size: int) -> Tensor:
        if isinstance(self.pictures, np.ndarray):
            stored = torch.from_numpy(self.pictures[indices]).permute(0, 3, 1, 2).float() / 255
            return F.interpolate(stored, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        images = []
        for i in indices:
            picture = open_image(self.pictures[i])
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            box = (left, top, left + side, top + side)
            square = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
            images.append(torch.from_numpy(np.array(square)))
        return torch.stack(images).permute(0, 3, 1, 2).float() / 255

    def views(
        self,
        step: int,
        batch: int,
        size: int,
        difficulty: float,
        count: int,
        device: torch.device,
        texture: float = 1.0,
    ) -> tuple[list[Tensor], Tensor]:
        """``count`` views of each image of batch ``step``, (B, 3, size, size) in [0, 1], and the labels."""
        train, _ = self._split()
        positions = np.arange(step * batch, (step + 1) * batch)
        chosen = np.empty(batch, dtype=np.int64)
        for epoch in np.unique(positions // len(train)):
            here = positions // len(train) == epoch
            order = np.random.default_rng([self.seed, int(epoch)]).permutation(train)
            chosen[here] = order[positions[here] % len(train)]
        images = self._read(chosen, size).to(device)
        crops = [jittered_crops(images, size, (self.scale, 1.0), flip=self.flip) for _ in range(count)]
        return crops, torch.tensor([self.labels[i] for i in chosen], device=device)

    def validation(
        self, count: int, size: int, difficulty: float, device: torch.device, texture: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Images that are never trained on, and their labels."""
        _, kept = self._split()
        kept = kept[:count]
        return self._read(kept, size).to(device), torch.tensor([self.labels[i] for i in kept], device=device)

    def masked(self, count: int, size: int, device: torch.device) -> None:
        """None: nobody drew the outlines of these pictures."""


def _photographs(where: str) -> tuple[Path, ...]:
    if not where:
        return ()
    if where == "scikit-image":
        return tuple(Path(str(files("skimage"))) / "data" / name for name in SKIMAGE)
    root = Path(where)
    found = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"photographs should be an image or a folder of images, found none at {where}")
    return tuple(found)


def open_source(
    data: str, seed: int, surface_correlation: float = 0.7, photographs: str = "", positives: str = "object"
) -> Source:
    """The source named by ``scenes``, ``digits`` or ``folder:PATH``.

    Raises:
        ValueError: if the name is none of these, or a folder holds no images.
    """
    if data == "scenes":
        return ScenesSource(seed, surface_correlation, _photographs(photographs), positives == "shape")
    if data == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        grey = (digits.images[..., None] / 16 * 255).round().astype(np.uint8)
        labels = tuple(int(label) for label in digits.target)
        return PictureSource(np.repeat(grey, 3, axis=-1), labels, tuple("0123456789"), seed, scale=0.7, flip=False)
    if data.startswith("folder:"):
        root = Path(data.removeprefix("folder:"))
        names = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        found = [
            (path, label)
            for label, name in enumerate(names)
            for path in sorted((root / name).rglob("*"))
            if path.suffix.lower() in SUFFIXES
        ]
        if len(names) < 2 or len(found) < 10:
            raise ValueError(
                f"{root} should hold one sub-folder of images per class, two classes and ten images at least; "
                f"found {len(names)} folders and {len(found)} images"
            )
        paths, labels = zip(*found, strict=True)
        return PictureSource(paths, labels, tuple(names), seed, scale=0.35, flip=True)
    raise ValueError(f"data must be scenes, digits or folder:PATH, got {data!r}")
