"""A bank of periodic grey textures and the colours that go with them.

Surfaces are drawn by sampling a fixed, seeded bank of tiles that repeat without a seam, at any angle and zoom, and by
mapping grey to a line between two colours. The bank holds five families with several variants each.
"""

import functools
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model_zoo.decoding import open_image

FAMILIES = ("marble", "stripes", "checks", "dots", "bricks")
VARIANTS = 6
TILE = 128
CROPS = 4

HUES = {"red": 0.99, "amber": 0.11, "green": 0.34, "blue": 0.58, "violet": 0.78}
"""The five palettes of object surfaces: hue on the colour circle, 0 to 1."""

SURFACES: tuple[tuple[str, str], ...] = tuple(
    (FAMILIES[k % 5], list(HUES)[(k % 5 + 2 * (k // 5)) % 5]) for k in range(10)
)
"""Texture family and palette typical of class k. Neither alone names the class: each serves two classes."""


def _pink_noise(rng: np.random.Generator, exponent: float) -> np.ndarray:
    """Gaussian noise with amplitude 1/f**exponent, periodic, stretched to [0, 1] through its own ranks."""
    f = np.sqrt(np.add.outer(np.fft.fftfreq(TILE) ** 2, np.fft.fftfreq(TILE) ** 2))
    f[0, 0] = np.inf
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((TILE, TILE))) * f**-exponent).real
    ranks = field.ravel().argsort().argsort().reshape(TILE, TILE)
    return ranks / (TILE * TILE - 1)


def _tile(family: str, variant: int) -> np.ndarray:
    rng = np.random.default_rng([FAMILIES.index(family), variant])
    v, u = np.meshgrid(np.arange(TILE) / TILE, np.arange(TILE) / TILE, indexing="ij")
    warp = 0.012 * np.sin(2 * math.pi * (u + v) + rng.uniform(0, 6)) + 0.03 * (_pink_noise(rng, 2.0) - 0.5)
    if family == "marble":
        return _pink_noise(rng, (1.3, 1.6, 1.9)[variant % 3])
    if family == "stripes":
        wave = np.sin(2 * math.pi * (6 + variant % 3) * (u + warp))
        grey = 0.5 + 0.5 * np.clip(wave * 2.5, -1, 1)
    elif family == "checks":
        count = 4 + variant % 3
        grey = 0.5 + 0.5 * np.clip(
            4 * np.sin(2 * math.pi * count * (u + warp)) * np.sin(2 * math.pi * count * (v + warp)), -1, 1
        )
    elif family == "dots":
        count = 6 + 2 * (variant % 3)
        du, dv = (u * count) % 1 - 0.5, (v * count + 0.5 * (np.floor(u * count) % 2)) % 1 - 0.5
        grey = np.clip((0.3 - np.hypot(du, dv)) * 10 + 0.5, 0, 1)
    else:
        rows = 6 + 2 * (variant % 3)
        du = (u * rows / 2 + 0.5 * (np.floor(v * rows) % 2)) % 1
        dv = (v * rows) % 1
        joint = np.minimum(np.minimum(du, 1 - du) * 2, np.minimum(dv, 1 - dv))
        grey = np.clip((joint - 0.07) * 14, 0, 1)
    return np.clip(0.88 * grey + 0.12 * _pink_noise(rng, 1.4), 0, 1)


@functools.cache
def _bank_cpu(texels: int) -> Tensor:
    tiles = np.stack([_tile(family, variant) for family in FAMILIES for variant in range(VARIANTS)])
    bank = torch.from_numpy(tiles).float()[:, None]
    return F.avg_pool2d(bank, TILE // texels) if texels < TILE else bank


@functools.cache
def bank(texels: int, device: torch.device) -> Tensor:
    """The tiles (family x variant, 1, texels + 1, texels + 1): averaged down, first row and column repeated at the end.

    Args:
        texels: side of a tile, a power of two up to 128.
        device: where the tiles are kept.
    """
    wrapped = F.pad(_bank_cpu(texels), (0, 1, 0, 1), mode="circular")
    return wrapped.to(device)


@functools.cache
def photograph_bank(paths: tuple[Path, ...], texels: int, device: torch.device) -> Tensor:
    """Grey tiles cut from photographs, mirrored so that they repeat without a seam; laid out as :func:`bank`.

    Each photograph gives ``CROPS`` seeded square crops of half to all of its shorter side, every one stretched to
    [0, 1] through its own ranks.
    """
    tiles = []
    for number, path in enumerate(paths):
        picture = np.asarray(open_image(path).convert("L"), dtype=np.float32)
        rng = np.random.default_rng([1, number])
        for _ in range(CROPS):
            side = int(min(picture.shape) * rng.uniform(0.5, 1))
            top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape)
            crop = torch.from_numpy(picture[top : top + side, left : left + side])[None, None]
            small = F.interpolate(crop, size=TILE // 2, mode="area")[0, 0].numpy()
            ranks = small.ravel().argsort(kind="stable").argsort(kind="stable").reshape(small.shape) / (small.size - 1)
            tiles.append(np.pad(ranks, (0, TILE // 2), mode="symmetric"))
    cut = torch.from_numpy(np.stack(tiles)).float()[:, None]
    cut = F.avg_pool2d(cut, TILE // texels) if texels < TILE else cut
    return F.pad(cut, (0, 1, 0, 1), mode="circular").to(device)


def texels_for(size: int) -> int:
    """The tile resolution that neither aliases nor blurs in an image of ``size`` pixels."""
    return min(TILE, max(16, 2 ** round(math.log2(size / 1.7))))


def sample(tiles: Tensor, which: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Bilinear samples of one tile per image, repeated over the plane.

    Args:
        tiles: a bank, (T, 1, t + 1, t + 1).
        which: tile of each image, (B,).
        u: tile coordinate across of every pixel, (B, H, W); one unit is one tile.
        v: the same, down.

    Returns:
        grey values (B, H, W) in [0, 1].
    """
    grid = torch.stack([u - u.floor(), v - v.floor()], dim=-1) * 2 - 1
    grey = F.grid_sample(tiles[which], grid, mode="bilinear", padding_mode="border", align_corners=True)
    return grey[:, 0]


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Colours (B, 3) in [0, 1] from hue (turns), saturation and value, each (B,)."""
    offsets = torch.tensor([5.0, 3.0, 1.0], device=hue.device)
    k = (offsets + hue[:, None] * 6) % 6
    ramp = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * ramp)
