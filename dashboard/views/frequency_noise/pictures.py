"""A picture with noise of one frequency, as a model's input would have it; no model is run. Pure."""

import numpy as np
from PIL import Image

from model_zoo.adapter import Geometry
from probes.core import ring_noise

LARGE = 448
"""Pixels of the shorter side at which pictures are drawn, each pixel of the input a square."""


def cut(picture: Image.Image, geometry: Geometry | None, size: tuple[int, int]) -> np.ndarray:
    """What a model sees of a picture, (height, width, 3) from 0 to 1: its own cut, else the middle square."""
    width, height = picture.size
    side = min(width, height)
    middle = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    left, top, right, bottom = geometry.box if geometry is not None else middle
    box = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC, box=box), float) / 255


def noise(size: tuple[int, int], frequency: float, *, epsilon: float, width: float, power: str) -> np.ndarray:
    """What the probe adds to the first image, (height, width, 3), in units of the pixels' range."""
    spectrum = np.fft.rfft2(ring_noise.signs(size, 0, 0))
    return epsilon * ring_noise.banded(spectrum, size, frequency, width=width, power=power).transpose(1, 2, 0)


def shown(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 as uint8, each pixel enlarged to a square; beyond the range they are cut off."""
    times = max(LARGE // min(values.shape[:2]), 1)
    pixels = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return pixels.repeat(times, 0).repeat(times, 1)
