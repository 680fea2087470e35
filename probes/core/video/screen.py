"""What every frame of a film shows: the original and each model's panel, on a scale that is settled before."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from probes.core.video.clip import Frame, VideoError
from probes.core.video.drawing import BAR, LABEL, Bar, Canvas, Panel, paint
from probes.core.video.framing import Framing, resized, sheet
from probes.core.video.maps import DRAWN, Maps, Show


@dataclass(frozen=True)
class Style:
    """How maps are drawn.

    Attributes:
        drawn: ``overlay``, ``map`` or ``cutout``, see `probes.core.video.drawing.paint`.
        scale: ``clip``, one scale for all frames and models; or ``frame``, for the models of each frame.
        smooth: share of what was in exponential smoothing over frames, at least 0 and below 1.
    """

    drawn: str = "overlay"
    scale: str = "clip"
    smooth: float = 0.0

    def __post_init__(self) -> None:
        if self.drawn not in DRAWN:
            raise VideoError(f"Maps are drawn as {self.drawn!r}; it must be one of {', '.join(DRAWN)}.")
        if self.scale not in ("clip", "frame"):
            raise VideoError(f"The scale is {self.scale!r}; it must be clip or frame.")
        if not 0 <= self.smooth < 1:
            raise VideoError(f"Smoothing is {self.smooth:g}; it must be at least 0 and below 1.")


class Screen:
    """Draws the film's frames, on a scale that is settled before."""

    def __init__(
        self,
        framing: Framing,
        maps: Mapping[str, Maps],
        show: Show,
        style: Style,
        colours: Mapping[str, tuple[int, int, int]],
    ) -> None:
        self._framing, self._show, self._style = framing, show, style
        self._labels = list(maps)
        self._panels = [
            Panel(label, one.note, colours.get(label), f"Not defined here: {one.undefined}." if one.undefined else "")
            for label, one in maps.items()
        ]
        left, top, right, bottom = framing.box
        self._sheet = sheet((right - left, bottom - top), 1 + len(maps), LABEL, BAR)
        self.has_scale = show.kind in ("attention", "rollout") and style.drawn != "cutout"
        self.settle(1.0, False)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the film."""
        return self._canvas.size

    @property
    def smooth(self) -> float:
        """Share of what was in smoothing."""
        return self._style.smooth

    def settle(self, high: float, beyond: bool) -> None:
        """Take the value of the last colour, and whether some values lie beyond it."""
        self.high = high
        self._canvas = Canvas(self._sheet, self._panels, self._bar(beyond), self._said())

    def _bar(self, beyond: bool) -> Bar | None:
        if not self.has_scale:
            return None
        flat = self._style.drawn == "map"
        if self._style.scale == "frame":
            return Bar("0", "the largest of each frame", flat)
        what = "attention weight" if self._show.kind == "attention" else "share of the rollout"
        return Bar("0", f"{self.high:.2g} {what}{' or more' if beyond else ''}, all frames", flat)

    def _said(self) -> str:
        if self._show.kind == "pca":
            return "first three principal components as red, green and blue; each model has colours of its own"
        if not self.has_scale:
            what = "rollout" if self._show.kind == "rollout" else "attention"
            return f"the fewest patches that hold {100 * self._show.tau:.0f} % of the {what}"
        return f"smoothed over frames, {self._style.smooth:g} of what was" if self._style.smooth else ""

    def frame(self, frame: Frame, maps: Mapping[str, np.ndarray]) -> np.ndarray:
        """One frame of the film: RGB (height, width, 3)."""
        original = resized(self._framing.cut(frame.pixels), self._sheet.panel)
        high = self.high
        if self._style.scale == "frame":
            high = max(float(values.max()) for values in maps.values()) or 1.0
        show, drawn = self._show, self._style.drawn
        pictures = [
            paint(original, maps[label], high, show.kind, drawn, show.tau) if label in maps else None
            for label in self._labels
        ]
        return self._canvas.frame(original, pictures)
