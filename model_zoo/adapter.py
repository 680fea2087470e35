"""One native timm model, what is known of its layout, and how images get into it and maps get back out."""

import copy
import hashlib
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import timm.data
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from model_zoo.catalog import CATALOG, Features
from model_zoo.labels import class_names
from model_zoo.layout import AttentionLayer, Block, Layout, describe
from model_zoo.mae import Decoder
from model_zoo.reference import ModelReference

CropMode = Literal["center", "squash", "border"]


@dataclass(frozen=True)
class ModelSpec:
    """What a model is and what it provides; enough to lay out a page, no weights needed.

    Attributes:
        name: timm's name of the architecture.
        input_size: height and width of the input, pixels.
        patch: side of a patch, pixels of the input; 0 for a convolutional network.
        grid: patches down and across at the input.
        prefix: names of the prefix tokens in order: ``cls``, ``dist``, ``reg1`` ...
        layers: the attention layers in the order they run; empty where there is none or it cannot be captured.
        points: canonical names of the activations that can be read.
        classes: classes of the classifier, 0 without one.
        no_attention: why ``layers`` is empty, else None.
        labels: names of the classes, in order; empty where they are not known.
        features: the vector that stands for an image: ``cls``, or ``mean`` over the patches. The catalog says so, and
            of other models the pooling of timm's classifier.
        reconstructs: whether the decoder of a masked autoencoder is kept with it.
        interrupted: whether something else than attention, such as convolutions, mixes patches between its attention
            layers; then their matrices alone do not say where a patch has its content from.
        blocks: the residual blocks in the order they run, then attention that pools what they give; empty where a
            block's branches are not known.
    """

    name: str
    input_size: tuple[int, int]
    patch: int
    grid: tuple[int, int]
    prefix: tuple[str, ...]
    layers: tuple[AttentionLayer, ...]
    points: tuple[str, ...]
    classes: int
    no_attention: str | None = None
    labels: tuple[str, ...] = field(default=(), repr=False)
    features: Features = "cls"
    reconstructs: bool = False
    interrupted: bool = False
    blocks: tuple[Block, ...] = field(default=(), repr=False)

    @property
    def is_transformer(self) -> bool:
        """Whether the model attends over patches: of the input or, in a hybrid, of what convolutions made of it."""
        return bool(self.patch)


@dataclass(frozen=True)
class Geometry:
    """Where a model's input lies in the original image.

    Attributes:
        image: width and height of the original, pixels.
        box: left, top, right, bottom of the model's field of view in original pixels; it may reach beyond the
            image where the model pads.
        input_size: height and width of the model's input, pixels.
    """

    image: tuple[int, int]
    box: tuple[float, float, float, float]
    input_size: tuple[int, int]

    def patch_at(self, u: float, v: float, grid: tuple[int, int]) -> tuple[int, int] | None:
        """Row and column of the patch under a point, given as fractions of the original's width and height.

        Returns None where the point lies outside of what the model sees.
        """
        left, top, right, bottom = self.box
        x = (u * self.image[0] - left) / (right - left)
        y = (v * self.image[1] - top) / (bottom - top)
        if not (0 <= x < 1 and 0 <= y < 1):
            return None
        return int(y * grid[0]), int(x * grid[1])

    def cell(self, row: int, column: int, grid: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of one patch in original pixels."""
        left, top, right, bottom = self.box
        width, height = (right - left) / grid[1], (bottom - top) / grid[0]
        x, y = left + column * width, top + row * height
        return x, y, x + width, y + height


class Adapter:
    """A native timm model with its own preprocessing and geometry.

    Args:
        module: the timm model; it is put into evaluation mode and never edited.
        reference: what the model was asked for as.
        image_size: None for the model's own evaluation transform; an integer for the same transform at another
            size; (height, width) for the whole image, uncropped, resized to just that. The module must have been
            built for the size.
        decoder: of a masked autoencoder, where it is kept.

    Attributes:
        lock: held while hooks are on the module, so that threads which share a model do not see each other's passes.
    """

    def __init__(
        self,
        module: nn.Module,
        reference: ModelReference | None = None,
        image_size: int | tuple[int, int] | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.reference = reference
        self.image_size = image_size
        self.decoder = decoder
        self.lock = threading.RLock()
        self.config: Mapping[str, Any] = timm.data.resolve_model_data_config(module)
        self.layout: Layout = describe(module, self.input_size)

    def twin(self) -> "Adapter":
        """The same model for another thread: modules and a lock of its own, one set of weights for both."""
        weights = {id(tensor): tensor for tensor in (*self.module.parameters(), *self.module.buffers())}
        other = copy.copy(self)
        other.module, other.lock = copy.deepcopy(self.module, weights), threading.RLock()
        return other

    @cached_property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input, pixels."""
        if isinstance(self.image_size, tuple):
            return self.image_size
        if self.image_size is not None:
            return self.image_size, self.image_size
        _, height, width = self.config["input_size"]
        return height, width

    @cached_property
    def spec(self) -> ModelSpec:
        """What the model is and provides."""
        layout = self.layout
        return ModelSpec(
            name=getattr(self.module, "pretrained_cfg", {}).get("architecture") or type(self.module).__name__,
            input_size=self.input_size,
            patch=layout.patch,
            grid=layout.grid,
            prefix=layout.prefix,
            layers=layout.layers,
            points=tuple(layout.taps),
            classes=_classes(self.module),
            no_attention=layout.no_attention,
            labels=class_names(self.module),
            features=_features(self.module, self.reference, layout.prefix),
            reconstructs=self.decoder is not None,
            interrupted=layout.interrupted,
            blocks=layout.blocks,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.module.parameters()).device

    @property
    def bytes(self) -> int:
        """Memory of the parameters and buffers, bytes."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return sum(t.numel() * t.element_size() for t in tensors)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and values of all weights: two models with one digest are the same."""
        digest = hashlib.sha256()
        decoder = self.decoder.state_dict() if self.decoder is not None else {}
        for name, tensor in [*sorted(self.module.state_dict().items()), *sorted(decoder.items())]:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @cached_property
    def transform(self) -> Any:
        """Timm's evaluation transform, or the whole image resized to the chosen height and width."""
        if isinstance(self.image_size, tuple):
            interpolation = timm.data.transforms.str_to_interp_mode(self.config["interpolation"])
            return v2.Compose(
                [
                    v2.Resize(self.image_size, interpolation=interpolation, antialias=True),
                    v2.PILToTensor(),
                    v2.ToDtype(torch.float32, scale=True),
                    v2.Normalize(self.config["mean"], self.config["std"]),
                ]
            )
        config = dict(self.config)
        if self.image_size is not None:
            config["input_size"] = (3, *self.input_size)
        return timm.data.create_transform(**config)

    def preprocess(self, image: Image.Image) -> Tensor:
        """The model's input for an RGB image: (3, height, width), normalised as the checkpoint expects."""
        return self.transform(image)

    def geometry(self, size: tuple[int, int]) -> Geometry:
        """Where the model's input lies in an original of the given width and height."""
        if isinstance(self.image_size, tuple):
            return Geometry(size, (0.0, 0.0, float(size[0]), float(size[1])), self.input_size)
        mode: CropMode = self.config.get("crop_mode") or "center"
        return Geometry(size, _seen(size, self.input_size, self.config["crop_pct"], mode), self.input_size)


def _classes(module: nn.Module) -> int:
    """Classes of the classifier; none where the head projects into a space shared with text (CLIP not fine-tuned)."""
    config = getattr(module, "pretrained_cfg", {})
    projects = "_clip_" in (config.get("architecture") or "") and "ft_in" not in (config.get("tag") or "")
    return 0 if projects else int(getattr(module, "num_classes", 0) or 0)


def _features(module: nn.Module, reference: ModelReference | None, prefix: tuple[str, ...]) -> Features:
    """By the catalog, whether the model was named by its key or by timm's name of the same weights; else by timm."""
    if reference is not None:
        name = reference.timm_name if reference.weights == "hub" else None
        for entry in CATALOG.values():
            if reference.key == entry.key or name == entry.timm_name:
                return entry.features
    reads_cls = getattr(module, "global_pool", "token") in ("token", "")
    return "cls" if "cls" in prefix and reads_cls else "mean"


def _seen(
    size: tuple[int, int], target: tuple[int, int], crop_pct: float, mode: CropMode
) -> tuple[float, float, float, float]:
    """The box of the original that timm's evaluation transform keeps, in original pixels."""
    width, height = size
    target_h, target_w = target
    scale_h, scale_w = (math.floor(side / crop_pct) for side in target)
    if mode == "squash":
        resized_w, resized_h = scale_w, scale_h
    elif mode == "border" or scale_h != scale_w:
        choose = max if mode == "border" else min
        ratio = choose(height / scale_h, width / scale_w)
        resized_w, resized_h = round(width / ratio), round(height / ratio)
    elif width <= height:
        resized_w, resized_h = scale_w, int(scale_w * height / width)
    else:
        resized_w, resized_h = int(scale_h * width / height), scale_h
    left = round((resized_w - target_w) / 2.0)
    top = round((resized_h - target_h) / 2.0)
    x, y = width / resized_w, height / resized_h
    return left * x, top * y, (left + target_w) * x, (top + target_h) * y
