"""Films as files that play anywhere: H.264 in MP4, and short animations for slides."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image

from probes.core.video.clip import VideoError

SUFFIXES = (".mp4", ".gif", ".webp")
CLOCK = 90_000
"""Ticks of a film's clock a second."""
QUALITY = {"crf": "20", "preset": "veryfast", "threads": "2"}
MOST_ANIMATED = 100
"""Frames of an animation; of a longer film as many are taken, spread evenly."""
ANIMATED_WIDTH = 960
ANIMATED_RATE = 12.0


class Film:
    """An MP4 being written: yuv420p, its index in front, frames at times of their own.

    Args:
        path: where to.
        size: width and height, even.
        rate: frames a second, a hint.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        self._file = av.open(path, "w", format="mp4", options={"movflags": "+faststart"})
        stream = self._file.add_stream("libx264", Fraction(max(rate, 1.0)).limit_denominator(1000), options=QUALITY)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.codec_context.max_b_frames = 0  # so that a film begins at 0 and no frame is written before its time
        self._stream = stream
        self._waiting: tuple[int, np.ndarray] | None = None
        self._lengths: dict[int, int] = {}
        self._pause = round(CLOCK / max(rate, 0.1))

    def add(self, pixels: np.ndarray, seconds: float) -> None:
        """Add a frame, RGB, to be shown from ``seconds`` on until the next."""
        at = round(seconds * CLOCK)
        if self._waiting is not None:
            at = max(at, self._waiting[0] + 1)
            self._pause = at - self._waiting[0]
            self._write()
        self._waiting = at, pixels

    def _write(self) -> None:
        assert self._waiting is not None
        frame = av.VideoFrame.from_ndarray(self._waiting[1], format="rgb24")
        frame.pts, frame.time_base = self._waiting[0], Fraction(1, CLOCK)
        self._lengths[frame.pts] = self._pause
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: Iterable[av.Packet]) -> None:
        """Write what the encoder gives; it knows no lengths, and without one the last frame would be cut short."""
        for packet in packets:
            if packet.pts is not None and packet.time_base is not None:
                length = self._lengths.pop(round(packet.pts * packet.time_base * CLOCK), self._pause)
                packet.duration = round(Fraction(length, CLOCK) / packet.time_base)
            self._file.mux(packet)

    def close(self) -> None:
        """Finish the file; the last frame stays as long as the one before."""
        if self._waiting is not None:
            self._write()
        self._mux(self._stream.encode(None))
        self._file.close()

    def drop(self) -> None:
        """Close the file without an end; it was closed already unless something went wrong."""
        with suppress(FFmpegError, ValueError):
            self._file.close()


@contextmanager
def film(path: Path, size: tuple[int, int], rate: float) -> Iterator[Film]:
    """A film that is closed in the end, whatever comes."""
    writer = Film(path, size, rate)
    try:
        yield writer
    finally:
        writer.drop()


@contextmanager
def whole_or_nothing(path: Path) -> Iterator[Path]:
    """A place beside ``path`` to write to, which becomes it at the end, or is gone after an error."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def check_out(path: Path) -> None:
    """Find out before any work whether a film can be written.

    Raises:
        VideoError: an ending that is none of ``SUFFIXES``, a folder that is missing, or a place that is no file.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise VideoError(f"--out is {path}; a film's name ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    if not path.parent.is_dir():
        raise VideoError(f"The folder {path.parent} does not exist; create it or choose another place for --out.")
    if path.exists() and not path.is_file():
        raise VideoError(f"{path} is no file; choose another name for --out.")


def animate(film: Path, out: Path, duration: float) -> None:
    """Make a GIF or WebP of a film: at most ``MOST_ANIMATED`` frames and ``ANIMATED_WIDTH`` pixels wide.

    Args:
        film: an MP4.
        out: ends in ``.gif`` or ``.webp``.
        duration: of the film, seconds.
    """
    pause = max(1 / ANIMATED_RATE, duration / MOST_ANIMATED)
    pictures: list[Image.Image] = []
    times: list[float] = []
    with av.open(film) as container:
        for frame in container.decode(video=0):
            seconds = frame.time or 0.0
            if len(times) < MOST_ANIMATED and (not times or seconds >= times[-1] + pause - 1e-3):
                width = min(ANIMATED_WIDTH, frame.width)
                small = frame.reformat(width=width, height=round(frame.height * width / frame.width))
                picture = small.to_image()
                pictures.append(picture.quantize(256) if out.suffix.lower() == ".gif" else picture)
                times.append(seconds)
    lengths = [round(1000 * pause) for pause in np.diff([*times, max(duration, times[-1] + 0.02)])]
    more: dict[str, Any] = {"quality": 80, "method": 2} if out.suffix.lower() == ".webp" else {"optimize": False}
    first: Image.Image = pictures[0]
    first.save(out, save_all=True, append_images=pictures[1:], duration=lengths, loop=0, **more)
