"""The work behind the page: films and single frames, made in a queue of their own and kept by content."""

import io
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

from dashboard.compute import work
from dashboard.compute.background import Background
from dashboard.compute.jobs import Job, Jobs
from dashboard.images import gallery
from dashboard.state import models
from dashboard.state.models import reference
from dashboard.views.video import clips
from model_zoo.input_size import step_of
from model_zoo.reference import ModelError
from probes.core.video import film, writing
from probes.core.video.clip import Part, VideoError
from probes.core.video.framing import framing
from probes.core.video.maps import Show
from probes.core.video.screen import Style

FILMS_BYTES = 256 * 2**20
PREVIEW_WIDTH = 900
BATCH = 4


@dataclass(frozen=True)
class Order:
    """All that a film depends on."""

    clip: str
    models: tuple[str, ...]
    colours: tuple[str, ...]
    show: Show
    style: Style
    part: Part
    short_side: int

    @property
    def labels(self) -> tuple[str, ...]:
        """What the film calls the models: their titles, or their whole names where two have one title."""
        titles = [models.title(model) for model in self.models]
        return tuple(m if titles.count(t) > 1 else t for m, t in zip(self.models, titles, strict=True))


class Film(NamedTuple):
    """A finished film: the MP4, what came of the clip, and why models are not in it, by label."""

    mp4: bytes
    made: film.Made
    missing: Mapping[str, str]


@cache
def films() -> Background[Film]:
    """Finished films of this process; one is made at a time, beside the other pages' computations."""
    return Background(FILMS_BYTES, Jobs(workers=1, most_waiting=16, most_each_browser=3, explain=work.explain))


@cache
def _frames() -> Background[str]:
    return Background(2**20, films().jobs)


_PREVIEWS: WeakKeyDictionary[Job, bytes] = WeakKeyDictionary()


def preview(job: Job) -> bytes | None:
    """A frame of the film under way as JPEG; None before the first."""
    return _PREVIEWS.get(job)


def fetch(order: Order, visitor: str) -> Film | Job | str:
    """The film, the job that makes it, or why there is none."""
    return films().fetch(order, f"Film of {clips.title(order.clip)}", lambda job: _make(order, job), visitor)


def again(order: Order, visitor: str) -> None:
    """This visitor asks once more: for what they stopped, what failed, and a film in which models are missing."""
    films().again(visitor)
    kept = films().kept(order)
    if kept is not None and kept.missing:
        films().forget(order)


def _make(order: Order, job: Job) -> Film:
    job.report("opening the clip")
    clip = clips.opened(order.clip, order.part)
    wanted = dict(zip(order.labels, (reference(model) for model in order.models), strict=True))
    frame = framing(clip.size, [step_of(one.timm_name) for one in wanted.values()], order.short_side)

    def look(pixels: np.ndarray) -> None:
        small = Image.fromarray(pixels)
        small.thumbnail((PREVIEW_WIDTH, PREVIEW_WIDTH))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        _PREVIEWS[job] = buffer.getvalue()

    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        adapters, missing = {}, {}
        for label, one in wanted.items():
            try:
                lease = work.zoo().lease(one, image_size=frame.size, on_progress=job.report)
                adapters[label] = stack.enter_context(lease)
            except ModelError as error:
                missing[label] = str(error)
        if not adapters:
            raise ModelError(" ".join(dict.fromkeys(missing.values())))
        out = Path(folder) / "film.mp4"
        made = film.make(
            adapters,
            clip,
            frame,
            out,
            show=order.show,
            style=order.style,
            colours={label: _rgb(colour) for label, colour in zip(order.labels, order.colours, strict=True)},
            batch_size=BATCH,
            on_progress=job.report,
            on_preview=look,
        )
        return Film(out.read_bytes(), made, missing)


def fetch_frame(clip: str, part: Part, place: int, visitor: str) -> str | Job:
    """The id of one frame of a clip's part as a picture of the gallery, the job that reads it, or why there is none."""

    def read(job: Job) -> str:
        job.report("reading the frame")
        found = next(islice(clips.opened(clip, part).frames(), place, None), None)
        if found is None:
            raise VideoError(f"The clip has no frame {place + 1}.")
        buffer = io.BytesIO()
        Image.fromarray(found.pixels).save(buffer, "PNG", compress_level=1)
        return gallery.UPLOADS.add(buffer.getvalue(), f"{clips.title(clip)} at {found.seconds:.2f} s.png")

    known = _frames().kept((clip, part, place))
    if known is not None and gallery.missing(known) is not None:
        _frames().forget((clip, part, place))
    return _frames().fetch((clip, part, place), "A frame", read, visitor)


def again_frame(visitor: str) -> None:
    """Let this visitor ask for a frame that could not be read."""
    _frames().again(visitor)


def animated(mp4: bytes, duration: float, suffix: str) -> bytes:
    """A finished film as GIF or WebP."""
    with tempfile.TemporaryDirectory() as folder:
        (source := Path(folder) / "film.mp4").write_bytes(mp4)
        writing.animate(source, out := Path(folder) / f"film{suffix}", duration)
        return out.read_bytes()


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
