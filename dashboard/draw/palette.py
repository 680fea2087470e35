"""The colours, and how numbers are written: one place, so that every page agrees."""

from functools import cache

import cv2
import numpy as np

MODEL_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's colours, told apart with any common colour vision. The n-th chosen model has the n-th colour."""

MODEL_MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star")
"""Plotly markers that go with the colours: colour is never the only difference."""

MOST_MODELS = len(MODEL_COLOURS)

_DIVERGING_ANCHORS = ("#00507d", "#5aa7d6", "#f3f2ee", "#f0a35e", "#9c4400")


def model_colour(index: int) -> str:
    """Colour of the ``index``-th chosen model."""
    return MODEL_COLOURS[index % MOST_MODELS]


@cache
def sequential() -> np.ndarray:
    """Cividis as (256, 3) uint8: dark blue for low, yellow for high, even for every colour vision."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return cv2.applyColorMap(ramp, cv2.COLORMAP_CIVIDIS)[:, 0, ::-1].copy()


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
    span = high - low
    position = (np.nan_to_num(values, nan=low) - low) / span if span > 0 else np.zeros_like(values, dtype=float)
    rgb = table[np.clip(np.rint(position * 255), 0, 255).astype(int)]
    return np.where(np.isnan(values)[..., None], np.uint8(128), rgb)


def plotly_scale(*, signed: bool = False) -> list[list[float | str]]:
    """The same colour map as a Plotly ``colorscale``."""
    table = diverging() if signed else sequential()
    return [[i / 16, "rgb({},{},{})".format(*table[round(i * 255 / 16)])] for i in range(17)]


def css_gradient(*, signed: bool = False) -> str:
    """The same colour map as a CSS gradient from left to right."""
    table = diverging() if signed else sequential()
    stops = ", ".join("rgb({},{},{})".format(*table[round(i * 255 / 16)]) for i in range(17))
    return f"linear-gradient(to right, {stops})"


def number(value: float, digits: int = 3) -> str:
    """A number with at most ``digits`` significant digits, as a person would write it."""
    if not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    if abs(rounded) >= 10**digits:
        return f"{rounded:,.0f}".replace(",", "\u202f")
    if abs(rounded) >= 1e-4:
        return f"{rounded:.10f}".rstrip("0").rstrip(".")
    mantissa, exponent = f"{rounded:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}·10^{int(exponent)}"


def megabytes(size: float) -> str:
    """A memory size in MB (10⁶ bytes) or GB."""
    return f"{number(size / 1e9)} GB" if size >= 1e9 else f"{number(size / 1e6)} MB"
