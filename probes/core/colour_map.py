"""The colours of maps, as tables and arrays: the same on pages, in files and in films (decision 0012)."""

from functools import cache

import cv2
import numpy as np

INK = 0.65
"""Under a map a photograph is grey, and lightened: this share of it and the rest white."""
MIDDLE_GREY = 255 - INK * 127
"""What a photograph's middle grey is then; colour bars are drawn over it."""
_INFERNO_UP_TO = 225
_DIVERGING_ANCHORS = ("#00507d", "#5aa7d6", "#f3f2ee", "#f0a35e", "#9c4400")


@cache
def sequential() -> np.ndarray:
    """Inferno as (256, 3) uint8: black for low, over purple and red to yellow for high.

    Its palest end is left out: without the blue cones of the eye it is the white of a photograph.
    """
    ramp = np.linspace(0, _INFERNO_UP_TO, 256).round().astype(np.uint8)[:, None]
    return cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[:, 0, ::-1].copy()


@cache
def diverging() -> np.ndarray:
    """Blue over near-white to orange as (256, 3) uint8, for signed values with 0 in the middle."""
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _DIVERGING_ANCHORS], float)
    position = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(position, np.arange(len(anchors)), anchors[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def colours(values: np.ndarray, low: float, high: float, *, signed: bool = False) -> np.ndarray:
    """Values (...) to RGB (..., 3) uint8 on the scale from ``low`` to ``high``; NaN becomes mid-grey."""
    table = diverging() if signed else sequential()
    rgb = table[np.rint(_position(values, low, high) * 255).astype(int)]
    return np.where(np.isnan(values)[..., None], np.uint8(128), rgb)


def overlay(values: np.ndarray, low: float, high: float, *, signed: bool = False) -> np.ndarray:
    """Values (...) to RGBA (..., 4) uint8 to lie over a photograph: the nearer to 0, the more of it is seen.

    With v the place on the scale, 0 to 1, or on a signed one how far it is from the middle, the opacity is
    0.05 + 1.1 v^0.7, at most 0.92. NaN is opaque grey.
    """
    place = _position(values, low, high)
    strength = np.abs(2 * place - 1) if signed else place
    opacity = np.where(np.isnan(values), 1.0, np.minimum(0.05 + 1.1 * strength**0.7, 0.92))
    rgb = colours(values, low, high, signed=signed)
    return np.concatenate([rgb, np.rint(255 * opacity)[..., None].astype(np.uint8)], axis=-1)


def _position(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Places on a scale, 0 to 1; of NaN 0."""
    span = high - low
    return np.clip((np.nan_to_num(values, nan=low) - low) / span, 0, 1) if span > 0 else np.zeros(np.shape(values))


def ramp(*, signed: bool = False, flat: bool = True, steps: int = 17) -> np.ndarray:
    """The colours of a colour bar from left to right, (steps, 3) uint8: of a flat map, or over a middle grey."""
    at = np.linspace(0, 1, steps)
    if flat:
        return colours(at, 0, 1, signed=signed)
    rgba = overlay(at, 0, 1, signed=signed).astype(float)
    opacity = rgba[:, 3:] / 255
    return np.rint(opacity * rgba[:, :3] + (1 - opacity) * MIDDLE_GREY).astype(np.uint8)
