"""Which part of a frame all models see, at which size, and how the panels of a film stand beside each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from model_zoo.input_size import LARGEST_SIDE
from probes.core.video.clip import VideoError

WIDEST, TALLEST = 1440, 1080
"""A film's size at most, pixels: shown on a page or a slide its writing is then still large enough to read."""
PANEL_SIDE = 360
"""A small clip's panels are enlarged until their short side has so many pixels."""
SCREEN = 16 / 9


@dataclass(frozen=True)
class Framing:
    """The region of the clip that is shown to every model, the same for all.

    Attributes:
        clip: width and height of the clip's frames.
        box: left, top, right, bottom of the region in the clip, pixels.
        size: height and width of the models' input, pixels.
    """

    clip: tuple[int, int]
    box: tuple[int, int, int, int]
    size: tuple[int, int]

    @property
    def said(self) -> str:
        """What was cut off, in one sentence."""
        left, top, right, bottom = self.box
        if (right - left, bottom - top) == self.clip:
            return f"The whole frame, {self.clip[0]} × {self.clip[1]} px, seen at {self.size[1]} × {self.size[0]} px."
        return (
            f"The middle {right - left} × {bottom - top} px of {self.clip[0]} × {self.clip[1]} px, cut to whole "
            f"patches of all models and seen at {self.size[1]} × {self.size[0]} px."
        )

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The region of a frame or mask of the clip's size."""
        left, top, right, bottom = self.box
        return pixels[top:bottom, left:right]

    def seen(self, pixels: np.ndarray) -> np.ndarray:
        """The models' input of a frame before normalisation: uint8 (height, width, 3)."""
        return resized(self.cut(pixels), self.size[::-1])


def framing(clip: tuple[int, int], steps: Sequence[int], short_side: int) -> Framing:
    """The largest middle part of a clip that is whole patches of every model, at the clip's own aspect ratio.

    Args:
        clip: width and height.
        steps: what the sides of each model's input are multiples of, pixels.
        short_side: of the input, pixels; rounded to a common multiple of the steps.

    Raises:
        VideoError: an input that is too small for one patch, or larger than a model takes.
    """
    unit = math.lcm(*steps)
    if not unit <= short_side <= LARGEST_SIDE:
        raise VideoError(
            f"The short side is {short_side} px; these models take {unit} to {LARGEST_SIDE} px, in steps of {unit}."
        )
    width, height = clip
    small = int(short_side / unit + 0.5) * unit
    large = max(width, height) * small / min(width, height)
    long = int(large / unit + 1e-6) * unit
    if long > LARGEST_SIDE:
        raise VideoError(f"Frames of {width} × {height} px are too long and narrow: choose a smaller short side.")
    size = (long, small) if height > width else (small, long)
    scale = min(width, height) / small
    across, down = (min(side, round(seen * scale)) for side, seen in zip(clip, size[::-1], strict=True))
    left, top = (width - across) // 2, (height - down) // 2
    return Framing(clip, (left, top, left + across, top + down), size)


@dataclass(frozen=True)
class Sheet:
    """Where the panels of a film stand.

    Attributes:
        panel: width and height of a picture, pixels.
        columns: pictures beside each other.
        rows: of pictures.
    """

    panel: tuple[int, int]
    columns: int
    rows: int


def sheet(region: tuple[int, int], panels: int, above: int, below: int) -> Sheet:
    """The arrangement that fills a screen best; side by side where that is nearly as good, and no place left empty.

    Args:
        region: width and height of what is shown, pixels of the clip.
        panels: how many, the original among them.
        above: pixels over every picture, for its label.
        below: pixels under all of them, for the scale.
    """
    ratio = region[0] / region[1]

    def off(columns: int) -> float:
        rows = -(-panels // columns)
        return abs(math.log(columns * ratio / rows / SCREEN)) + 0.3 * rows + 0.85 * (columns * rows - panels)

    columns = min(range(1, panels + 1), key=off)
    rows = -(-panels // columns)
    wish = max(1.0, PANEL_SIDE / min(region))
    scale = min(wish, WIDEST / columns / region[0], (TALLEST - below - rows * above) / rows / region[1])
    width, height = (max(2, 2 * int(side * scale / 2)) for side in region)
    return Sheet((width, height), columns, rows)


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels at another width and height: averaged when they get fewer, interpolated when they get more."""
    if pixels.shape[1::-1] == size:
        return np.ascontiguousarray(pixels)
    way = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(pixels), size, interpolation=way)
