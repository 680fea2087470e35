"""Procedural scenes: one object of ten classes on a textured background, with its label and its exact mask.

A class is a shape and a typical surface (texture family and palette), correlated but not tied, as in nature. A scene
is a pure function of the seed and its index: it is the same in whatever batch, order or company it is drawn. Random
numbers come from Philox, a counter-based generator keyed by (seed, index), and a batch is rendered as a whole.

References:
    Geirhos et al. 2019, arXiv:1811.12231 (cue conflict, shape bias). Learning from procedural images: Baradad et al.
    2021, arXiv:2106.05963; Kataoka et al. 2020, arXiv:2101.08515; Nakashima et al. 2021, arXiv:2103.13023.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_zoo import textures
from model_zoo.shapes import SHAPES

CLASSES: tuple[str, ...] = tuple(SHAPES)
HELD_OUT_SEED = 1 << 40
"""Seed of ``scenes:N``. Training takes seeds below 2**32 only, so no training ever sees these scenes."""
PROBE_BANK_SEED = HELD_OUT_SEED + 1
"""Seed of the labelled scenes on which k-NN and linear probes are fitted."""
DISTRACTORS = 4
PHOTOGRAPHED = 0.5
DARK, LIGHT = 0.35, 0.75  # greys of backgrounds and objects without texture
CHUNK_PIXELS = 150_000

_OBJECT = (
    "label",
    "own",
    "other",
    "variant",
    "hue",
    "saturation",
    "light",
    "dark",
    "swap",
    "zoom",
    "angle",
    "du",
    "dv",
)
_REPAINTED = 1_000  # the stream of random numbers of a view's own surface, beyond those of all settings
_SETTING = (
    *("x", "y", "scale", "rotation", "aspect", "light_angle", "light_tilt", "relief", "shadow"),
    *("b_family", "b_variant", "b_hue", "b_hue_step", "b_saturation", "b_value", "b_contrast"),
    *("b_zoom", "b_angle", "b_du", "b_dv"),
)
_PHOTOGRAPH = ("p_there", "p_which")
_DISTRACTOR = ("x", "y", "radius", "aspect", "angle", "hue", "value", "there")


@dataclass(frozen=True)
class SceneBatch:
    """Rendered scenes.

    Attributes:
        images: uint8 (B, 3, H, W), RGB.
        labels: int64 (B,), the class whose shape is drawn.
        masks: bool (B, H, W), pixels whose centre lies inside the object.
        surfaces: int64 (B,), the class whose surface is drawn.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    surfaces: Tensor


@dataclass(frozen=True)
class Scenes:
    """An endless, seeded collection of scenes.

    Attributes:
        seed: which collection.
        size: side of the square images in pixels. A scene has the same content at every size.
        surface_correlation: how often the surface is the class's own; otherwise it is one of the nine others.
        cue_conflict: the surface is always another class's.
        difficulty: 0 (upright, centred, large) to 1: rotation up to 45 degrees either way, the centre anywhere that
            keeps the object almost wholly inside, its area about 8% to 45% of the image. Every held-out figure is
            taken at 1.
        photographs: pictures whose crops are the background's texture, instead of a procedural one, in a share
            ``PHOTOGRAPHED`` of the scenes. Held-out scenes have none.
        texture: contrast and colour of surfaces and backgrounds, from 0 (light grey objects on dark grey, where only
            the shape is left to see) to 1. Held-out scenes have 1.
    """

    seed: int = HELD_OUT_SEED
    size: int = 224
    surface_correlation: float = 0.7
    cue_conflict: bool = False
    difficulty: float = 1.0
    photographs: tuple[Path, ...] = ()
    texture: float = 1.0

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096:
            raise ValueError(f"size must be 8 to 4096 pixels, got {self.size}")
        for name in ("surface_correlation", "difficulty", "texture"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0 to 1, got {getattr(self, name)}")

    def batch(self, indices: Sequence[int], device: torch.device | str = "cpu") -> SceneBatch:
        """Renders the scenes of the given indices."""
        return self._render(self._draw(indices, setting=0), torch.device(device))

    def views(
        self, indices: Sequence[int], count: int, device: torch.device | str = "cpu", repainted: bool = False
    ) -> list[SceneBatch]:
        """The same objects met ``count`` times, each time in another pose, light and place.

        View 0 is the scene that :meth:`batch` gives.

        Args:
            indices: of the scenes.
            count: how many views of each.
            device: where to render.
            repainted: further views wear another surface, drawn as that of view 0 was, so that only the shape is
                shared.
        """
        drawn = [self._draw(indices, setting=view) for view in range(count)]
        if repainted:
            for view in range(1, count):
                paint = np.stack([_uniforms(self.seed, i, _REPAINTED + view, len(_OBJECT)) for i in indices])
                drawn[view] |= dict(zip(_OBJECT[1:], paint.T[1:], strict=True))
        return [self._render(view, torch.device(device)) for view in drawn]

    def clip(self, index: int, frames: int, device: torch.device | str = "cpu") -> SceneBatch:
        """One scene whose object moves, turns and breathes along a smooth closed path before a still background.

        Args:
            index: the scene; frame 0 of every clip shows its object on its background.
            frames: how many; the path closes after the last.
            device: where to render.

        Returns:
            a batch whose first dimension is time, with a mask for every frame.
        """
        if frames < 1:
            raise ValueError(f"a clip needs at least one frame, got {frames}")
        scene = self._draw([index], setting=0)
        phase = np.arange(frames) / frames * 2 * math.pi
        clip = {name: np.repeat(value, frames, axis=0) for name, value in scene.items()}
        turn = 2 * math.pi * scene["light_tilt"][0]
        clip["x"] = 0.5 + 0.45 * np.sin(phase + turn)
        clip["y"] = 0.5 + 0.45 * np.sin(2 * phase + turn)
        clip["scale"] = 0.45 + 0.35 * np.sin(phase + 2 * turn)
        clip["rotation"] = 0.5 + 0.5 * np.sin(phase)
        return self._render(clip, torch.device(device))

    def image(self, index: int) -> Image.Image:
        """One scene as an RGB picture."""
        return Image.fromarray(self.batch([index]).images[0].permute(1, 2, 0).numpy())

    def label(self, index: int) -> str:
        """Name of the class whose shape one scene shows; nothing is drawn for it."""
        return CLASSES[int(self._labels(self._draw([index], 0))[0][0])]

    def mask(self, index: int) -> np.ndarray:
        """The object's mask in that picture: boolean (height, width)."""
        return self.batch([index]).masks[0].numpy()

    def at(self, size: int) -> "Scenes":
        """The same scenes rendered at another size."""
        return dataclasses.replace(self, size=size)

    def _draw(self, indices: Sequence[int], setting: int) -> dict[str, np.ndarray]:
        """Uniform numbers in [0, 1) by name, (B,) or (B, DISTRACTORS); ``setting`` changes all but the object."""
        shared = np.stack([_uniforms(self.seed, i, 0, len(_OBJECT)) for i in indices])
        specked = len(_SETTING) + DISTRACTORS * len(_DISTRACTOR)
        count = specked + len(_PHOTOGRAPH)
        varied = np.stack([_uniforms(self.seed, i, 1 + setting, count) for i in indices])
        drawn = dict(zip(_OBJECT, shared.T, strict=True))
        drawn |= dict(zip(_SETTING, varied.T, strict=False))
        drawn |= dict(zip(_PHOTOGRAPH, varied[:, specked:].T, strict=True))
        specks = varied[:, len(_SETTING) : specked].reshape(len(indices), DISTRACTORS, len(_DISTRACTOR))
        return drawn | {f"d_{name}": specks[:, :, k] for k, name in enumerate(_DISTRACTOR)}

    def _labels(self, drawn: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
        count = len(CLASSES)
        labels = (drawn["label"] * count).astype(np.int64)
        others = (labels + 1 + (drawn["other"] * (count - 1)).astype(np.int64)) % count
        own = (drawn["own"] < self.surface_correlation) & (not self.cue_conflict)
        return torch.from_numpy(labels), torch.from_numpy(np.where(own, labels, others))

    def _render(self, drawn: dict[str, np.ndarray], device: torch.device) -> SceneBatch:
        """Renders in chunks that fit the processor's cache; on a GPU all at once."""
        count = len(drawn["label"])
        chunk = count if device.type == "cuda" else max(1, CHUNK_PIXELS // self.size**2)
        parts = [
            self._render_chunk({name: value[k : k + chunk] for name, value in drawn.items()}, device)
            for k in range(0, count, chunk)
        ]
        fields = [field.name for field in dataclasses.fields(SceneBatch)]
        return SceneBatch(**{name: torch.cat([getattr(part, name) for part in parts]) for name in fields})

    def _render_chunk(self, drawn: dict[str, np.ndarray], device: torch.device) -> SceneBatch:
        labels, surfaces = self._labels(drawn)
        u = {name: torch.from_numpy(value.astype(np.float32)).to(device) for name, value in drawn.items()}
        pixel = 2 / self.size
        line = (torch.arange(self.size, device=device, dtype=torch.float32) + 0.5) * pixel - 1
        x = line[None, None, :].expand(len(labels), self.size, self.size)
        y = -line[None, :, None].expand(len(labels), self.size, self.size)
        tiles = textures.bank(textures.texels_for(self.size), device)

        image = DARK + (self._background(u, x, y, tiles) - DARK) * self.texture
        light = u["light_angle"] * 2 * math.pi
        lx, ly = torch.cos(light)[:, None, None], torch.sin(light)[:, None, None]

        px, py, scale = self._object_frame(u, x, y)
        by_class = labels.to(device)
        distance = _shape_distance(by_class, px, py) * scale
        reach = 0.12 * scale
        cast_x, cast_y, _ = self._object_frame(u, x + lx * reach, y + ly * reach)
        shadow = torch.sigmoid(-_shape_distance(by_class, cast_x, cast_y) * scale / 0.05)
        image = image * (1 - (0.25 + 0.35 * u["shadow"])[:, None, None] * shadow)[:, None]

        surface = LIGHT + (self._surface(u, surfaces.to(device), px, py, tiles) - LIGHT) * self.texture
        rim = (-distance / (0.45 * scale)).clamp(0, 1)
        height = torch.sqrt((1 - (1 - rim) ** 2).clamp(min=1e-6)) * scale * 0.6
        slope_y, slope_x = torch.gradient(height, spacing=pixel, dim=(1, 2))
        lit = (-(slope_x * lx - slope_y * ly) * (0.15 + 0.2 * u["relief"])[:, None, None]).clamp(-0.45, 0.35)
        surface = surface * (0.92 + lit)[:, None]

        alpha = (0.5 - distance / pixel).clamp(0, 1)[:, None]
        image = image + (surface - image) * alpha
        tilt = (0.05 + 0.2 * u["light_tilt"])[:, None, None]
        image = image * (1 + tilt * (x * lx + y * ly))[:, None]
        return SceneBatch(
            images=(image.clamp(0, 1) * 255).round().to(torch.uint8),
            labels=by_class,
            masks=distance < 0,
            surfaces=surfaces.to(device),
        )

    def _object_frame(self, u: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points in the object's own frame, and the object's radius (B, 1, 1) in half image sides."""
        easy = 1 - self.difficulty
        scale = (0.52 + 0.22 * easy + (0.38 - 0.22 * easy) * u["scale"])[:, None, None]
        room = (1.06 - scale).clamp(min=0) * self.difficulty
        cx = (2 * u["x"] - 1)[:, None, None] * room
        cy = (2 * u["y"] - 1)[:, None, None] * room
        angle = ((2 * u["rotation"] - 1) * (math.pi / 4) * self.difficulty)[:, None, None]
        stretch = torch.exp((u["aspect"] - 0.5) * 0.24)[:, None, None]
        cos, sin = torch.cos(angle), torch.sin(angle)
        dx, dy = (x - cx) / scale, (y - cy) / scale
        return (dx * cos + dy * sin) / stretch, (dy * cos - dx * sin) * stretch, scale

    def _surface(self, u: dict[str, Tensor], surfaces: Tensor, px: Tensor, py: Tensor, tiles: Tensor) -> Tensor:
        """The object's colours (B, 3, H, W), fixed to the object's frame."""
        device = px.device
        families = torch.tensor([textures.FAMILIES.index(family) for family, _ in textures.SURFACES], device=device)
        hues = torch.tensor([textures.HUES[palette] for _, palette in textures.SURFACES], device=device)
        hue = (hues[surfaces] + (u["hue"] - 0.5) * 0.08) % 1
        saturation = 0.6 + 0.35 * u["saturation"]
        bright = textures.hsv_to_rgb(hue, saturation * 0.8, 0.8 + 0.2 * u["light"])
        dim = textures.hsv_to_rgb((hue + 0.02) % 1, saturation, 0.2 + 0.25 * u["dark"])
        swap = (u["swap"] < 0.5)[:, None]
        first, second = torch.where(swap, bright, dim), torch.where(swap, dim, bright)
        which = families[surfaces] * textures.VARIANTS + _pick(u["variant"], textures.VARIANTS)
        zoom = 0.42 + 0.2 * u["zoom"]
        grey = _texture(tiles, which, px, py, zoom, u["angle"] * math.pi, u["du"], u["dv"])
        return _blend(first, second, grey)

    def _background(self, u: dict[str, Tensor], x: Tensor, y: Tensor, tiles: Tensor) -> Tensor:
        """A muted texture with distractors, (B, 3, H, W)."""
        hue, saturation, value = u["b_hue"], 0.08 + 0.34 * u["b_saturation"], 0.35 + 0.4 * u["b_value"]
        step = 0.1 + 0.25 * u["b_contrast"]
        first = textures.hsv_to_rgb(hue, saturation, (value + step).clamp(max=1))
        second = textures.hsv_to_rgb(
            (hue + 0.2 * (u["b_hue_step"] - 0.5)) % 1, saturation, (value - step).clamp(min=0.05)
        )
        families = _pick(u["b_family"], len(textures.FAMILIES))
        which = families * textures.VARIANTS + _pick(u["b_variant"], textures.VARIANTS)
        zoom = 0.3 + 0.45 * u["b_zoom"]
        if self.photographs:
            cut = textures.photograph_bank(self.photographs, tiles.shape[-1] - 1, tiles.device)
            there = u["p_there"] < PHOTOGRAPHED
            which = torch.where(there, len(tiles) + _pick(u["p_which"], len(cut)), which)
            tiles = torch.cat([tiles, cut])
        grey = _texture(tiles, which, x, y, zoom, u["b_angle"] * math.pi, u["b_du"], u["b_dv"])
        image = _blend(first, second, grey)
        for k in range(DISTRACTORS):
            d = {name: u[f"d_{name}"][:, k] for name in _DISTRACTOR}
            angle = (d["angle"] * math.pi)[:, None, None]
            dx, dy = x - (2 * d["x"] - 1)[:, None, None], y - (2 * d["y"] - 1)[:, None, None]
            along, across = dx * torch.cos(angle) + dy * torch.sin(angle), dy * torch.cos(angle) - dx * torch.sin(angle)
            half = (0.14 * d["aspect"])[:, None, None]
            beyond = (along.abs() - half).clamp(min=0)
            distance = torch.sqrt(beyond**2 + across**2) - (0.03 + 0.04 * d["radius"])[:, None, None]
            colour = textures.hsv_to_rgb(d["hue"], 0.25 + 0.45 * d["there"], 0.25 + 0.7 * d["value"])
            alpha = ((0.5 - distance * (self.size / 2)).clamp(0, 1) * (d["there"] < 0.7)[:, None, None])[:, None]
            image = image + (colour[:, :, None, None] - image) * alpha
        return image


def _uniforms(seed: int, index: int, stream: int, count: int) -> np.ndarray:
    bits = np.random.Philox(key=[seed, index], counter=[0, 0, 0, stream])
    return np.random.Generator(bits).random(count)


def _pick(u: Tensor, count: int) -> Tensor:
    return (u * count).long().clamp(max=count - 1)


def _blend(first: Tensor, second: Tensor, grey: Tensor) -> Tensor:
    return second[:, :, None, None] + (first - second)[:, :, None, None] * grey[:, None]


def _texture(
    tiles: Tensor, which: Tensor, x: Tensor, y: Tensor, zoom: Tensor, angle: Tensor, du: Tensor, dv: Tensor
) -> Tensor:
    cos, sin = (torch.cos(angle) * zoom)[:, None, None], (torch.sin(angle) * zoom)[:, None, None]
    u = x * cos + y * sin + du[:, None, None]
    v = y * cos - x * sin + dv[:, None, None]
    return textures.sample(tiles, which, u, v)


def _shape_distance(labels: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance of every image's own shape, in the object's units."""
    distance = torch.empty_like(x)
    for label, shape in enumerate(SHAPES.values()):
        rows = torch.nonzero(labels == label)[:, 0]
        if len(rows):
            distance[rows] = shape(x[rows], y[rows])
    return distance
