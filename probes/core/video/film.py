"""From a clip and models to a film and its numbers, in two ways through the clip: compute, then draw."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from model_zoo.adapter import Adapter
from probes.core.precision import Dtype
from probes.core.video import writing
from probes.core.video.clip import Clip, Frame, VideoError
from probes.core.video.framing import Framing
from probes.core.video.maps import Maps, Show
from probes.core.video.screen import Screen, Style
from probes.core.video.stability import Stability
from probes.core.video.tape import Tape, clip_scale, smoothed

FIT_FRAMES = 16
"""Frames, spread over the clip, on which the components of patch colours are chosen."""

PREVIEW_SECONDS = 1.0

Progress = Callable[[str, int, int | None], None]
Preview = Callable[[np.ndarray], None]


@dataclass(frozen=True)
class Made:
    """What came of a clip.

    Attributes:
        frames: how many.
        duration: of the film, seconds.
        size: width and height of the film.
        region: what part of the clip it shows, in one sentence.
        scale: value of the last colour over the clip; None where each frame has its own, or colours mean no number.
        notes: what could not be read.
        models: label to its numbers.
    """

    frames: int
    duration: float
    size: tuple[int, int]
    region: str
    scale: float | None
    notes: tuple[str, ...]
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def make(
    models: Mapping[str, Adapter],
    clip: Clip,
    framing: Framing,
    out: Path,
    *,
    show: Show | None = None,
    style: Style | None = None,
    colours: Mapping[str, tuple[int, int, int]] | None = None,
    batch_size: int = 8,
    dtype: Dtype = "auto",
    on_progress: Progress = lambda stage, done, total: None,
    on_preview: Preview | None = None,
) -> Made:
    """Make a film of the clip and what each model shows of it, side by side.

    Memory holds one batch of frames; maps lie on disk between the two ways through the clip.

    Args:
        models: label to model, built for the framing's size.
        clip: the frames.
        framing: which part of them, and at which size, the models see.
        out: where the film goes: ``.mp4``, ``.gif`` or ``.webp``; it is there whole, or not at all.
        show: what is shown of each model.
        style: how.
        colours: label to the RGB of its stroke.
        batch_size: frames in a forward pass.
        dtype: of forward passes.
        on_progress: called with a stage, frames done and about how many there are; it may raise to cancel.
        on_preview: called now and then with a frame of the film.

    Raises:
        VideoError: nothing can be shown of any model, or the clip has no frame.
    """
    show, style = show or Show(), style or Style()
    if show.kind == "pca" and style.drawn == "cutout":
        raise VideoError("Patch colours have no mass to cut out by: draw them as overlay or map.")
    if not models:
        raise VideoError("There is no model to show: choose at least one.")
    on_progress("preparing", 0, None)
    maps = {label: Maps(adapter, show, dtype) for label, adapter in models.items()}
    shown = {label: one for label, one in maps.items() if one.undefined is None}
    if not shown:
        label, one = next(iter(maps.items()))
        raise VideoError(f"Nothing can be shown of {label}: {one.undefined}.")
    screen = Screen(framing, maps, show, style, colours or {})
    if show.kind == "pca":
        step = max(1, (clip.expected or 0) // FIT_FRAMES)
        sample = [framing.seen(frame.pixels) for frame in islice(clip.frames(), 0, FIT_FRAMES * step, step)]
        for one in shown.values():
            one.fit(sample)
    with ExitStack() as stack:
        tapes = {label: stack.enter_context(Tape()) for label in shown}
        numbers = {label: Stability(show.tau) for label in shown}
        times: list[float] = []
        looked = time.monotonic()
        for batch in _batches(clip.frames(), batch_size):
            seen = [framing.seen(frame.pixels) for frame in batch]
            last: dict[str, np.ndarray] = {}
            for label, one in shown.items():
                found = one.of(seen)
                tapes[label].append(found)
                last[label] = found[-1]
                for values, frame in zip(found, batch, strict=True):
                    numbers[label].add(values, None if frame.mask is None else framing.cut(frame.mask))
            times += [frame.seconds for frame in batch]
            on_progress("computing", len(times), max(clip.expected or 0, len(times)))
            if on_preview and time.monotonic() - looked >= PREVIEW_SECONDS:
                screen.settle(*clip_scale(tapes.values()))
                on_preview(screen.frame(batch[-1], last))
                looked = time.monotonic()
        if not times:
            raise VideoError(f"{clip.name} has no frame in the chosen part: choose another start and end.")
        screen.settle(*clip_scale(tapes.values()))
        duration = _draw(clip, tapes, screen, times, out, on_progress)
    return Made(
        len(times),
        duration,
        screen.size,
        framing.said,
        screen.high if screen.has_scale and style.scale == "clip" else None,
        tuple(clip.notes),
        {label: _numbers(one, numbers.get(label)) for label, one in maps.items()},
    )


def _draw(
    clip: Clip, tapes: Mapping[str, Tape], screen: Screen, times: Sequence[float], out: Path, on_progress: Progress
) -> float:
    """The second way through the clip; gives the film's duration in seconds."""
    span = times[-1] - times[0]
    rate = (len(times) - 1) / span if span > 0 else 25.0
    duration = span + (times[-1] - times[-2] if len(times) > 1 else 1 / rate)
    with ExitStack() as stack:
        draft = film = stack.enter_context(writing.whole_or_nothing(out))
        if out.suffix.lower() != ".mp4":
            film = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "film.mp4"
        written = stack.enter_context(writing.film(film, screen.size, rate))
        played = {label: smoothed(iter(tape), screen.smooth) for label, tape in tapes.items()}
        for count, (frame, *maps) in enumerate(zip(clip.frames(), *played.values(), strict=False), 1):
            written.add(screen.frame(frame, dict(zip(played, maps, strict=True))), frame.seconds - times[0])
            on_progress("drawing", count, len(times))
        written.close()
        if film is not draft:
            writing.animate(film, draft, duration)
    return duration


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    while batch := list(islice(frames, size)):
        yield batch


def _numbers(maps: Maps, numbers: Stability | None) -> dict[str, Any]:
    if numbers is None:
        return {"undefined": maps.undefined}
    height, width = maps.adapter.input_size
    each = {"stability": numbers.successive, "stability_on_object": numbers.moved, "iou": numbers.overlap}
    return {"shown": maps.note, "input": [height, width], **numbers.means(), "each": each}
