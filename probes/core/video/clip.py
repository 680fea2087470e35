"""What a clip is: frames with their times, the part that is taken, and the most that is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class VideoError(ValueError):
    """A clip that cannot be taken, or a film that cannot be made; the message is one sentence for a person."""


@dataclass(frozen=True)
class Limits:
    """What is taken of a clip, enforced while it is decoded, whatever its header says.

    Attributes:
        seconds: duration of the chosen part.
        pixels: of a frame.
        frames: of the chosen part.
        decoded: frames that are decoded in all, also to reach the start.
    """

    seconds: float = 600.0
    pixels: int = 4096 * 2304
    frames: int = 36_000
    decoded: int = 80_000


@dataclass(frozen=True)
class Part:
    """The part of a clip: from ``start`` up to but excluding ``end``, in seconds, of that every ``stride``-th frame."""

    start: float = 0.0
    end: float | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1e6:
            raise VideoError(f"The start is {self.start:g} s; it must be 0 or more.")
        if self.end is not None and not self.start < self.end:
            raise VideoError(f"The end is {self.end:g} s; it must be after the start, {self.start:g} s.")
        if not 1 <= self.stride <= 10_000:
            raise VideoError(f"The stride is {self.stride}; it must be a whole number from 1 to 10000.")


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        seconds: when it is shown, from the beginning of the clip.
        pixels: uint8 (height, width, 3), RGB, upright.
        mask: the object's true mask, boolean (height, width), where it is known.
    """

    seconds: float
    pixels: np.ndarray
    mask: np.ndarray | None = None


class Clip(Protocol):
    """Frames that can be read several times, the same each time."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of an upright frame."""

    @property
    def expected(self) -> int | None:
        """About how many frames there are, None where nobody knows."""

    def frames(self) -> Iterator[Frame]:
        """The frames in order."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read, said after all frames were."""
