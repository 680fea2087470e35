"""Frames of a clip that nobody vouches for, one at a time, within bounds of duration, pixels and number."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from probes.core.video.clip import Frame, Limits, Part, VideoError

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,webp_anim,apng,ivf,h264,hevc"
"""Containers that are opened; none of them is a list that could name other files or addresses."""
THREADS = 2
SEEK_FROM = 2.0
"""Seconds from which on the start of a part is sought instead of decoded to."""
MOST_DAMAGED = 1000
"""Damaged packets in a row after which the rest is given up."""


class FileClip:
    """A clip in a file of any common container.

    Args:
        source: a path, or an open binary file.
        part: what is taken of it.
        limits: what may be taken.
        name: what a person calls it; a path's own name unless given.

    Raises:
        VideoError: it is no video, has no picture, or the chosen part is beyond the limits.
    """

    def __init__(
        self, source: Path | BinaryIO, part: Part | None = None, limits: Limits | None = None, name: str = ""
    ) -> None:
        self._source, self._part, self._limits = source, part or Part(), limits or Limits()
        self.name = name or (source.name if isinstance(source, Path) else "The clip")
        self.notes: tuple[str, ...] = ()
        with self._opened() as container:
            stream = _picture(container, self.name)
            self.duration = _duration(container, stream)
            self._check(stream)
            rate = float(stream.guessed_rate or stream.average_rate or 0)
            if self.duration is None:
                self.duration, rate = _measured(container, stream, self._limits.decoded) or (None, rate)
        first = next(self._upright(), None)
        if first is None:
            beyond = self._part.start and self.duration and self._part.start >= self.duration
            raise VideoError(
                f"{self.name} ends after {self.duration:.1f} s: choose an earlier start than {self._part.start:g} s."
                if beyond
                else f"{self.name} has no frame that can be read: it is empty or damaged."
            )
        self.size = first.pixels.shape[1], first.pixels.shape[0]
        self.expected = self._expected(rate)

    def frames(self) -> Iterator[Frame]:
        """The frames of the part in order; afterwards ``notes`` says what could not be read."""
        return self._upright()

    @contextmanager
    def _opened(self) -> Iterator[InputContainer]:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
        with ExitStack() as stack:
            file = self._source
            if isinstance(file, Path):
                try:
                    file = stack.enter_context(file.open("rb"))
                except OSError as error:
                    raise VideoError(f"{self._source} cannot be opened: {error.strerror}.") from None
            file.seek(0)
            try:
                container = av.open(file, "r", options=options, metadata_errors="replace")
            except (FFmpegError, ValueError, OSError):
                raise VideoError(_why_not(self.name, file)) from None
            stack.callback(container.close)
            yield container

    def _check(self, stream: Any) -> None:
        limits, part = self._limits, self._part
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.pixels:
            raise VideoError(
                f"{self.name} has frames of {width} × {height} px; at most {limits.pixels / 1e6:.1f} million pixels "
                "are taken, such as 3840 × 2160: make it smaller first."
            )
        end = min(filter(None, (part.end, self.duration)), default=None)
        asked = None if end is None else end - part.start
        if asked is not None and asked > limits.seconds + 0.5:
            raise VideoError(
                f"{self.name}: {_clock(asked)} are asked for, and at most {_clock(limits.seconds)} are taken: choose a "
                "part of it by its start and end."
            )

    def _expected(self, rate: float) -> int | None:
        end = min(filter(None, (self._part.end, self.duration)), default=None)
        if end is None or not rate:
            return None
        count = ceil(round((end - self._part.start) * rate, 6) / self._part.stride)
        return max(1, min(count, self._limits.frames))

    def _upright(self) -> Iterator[Frame]:
        """Frames of the part, turned as they are meant to be seen and all of one size."""
        part, limits = self._part, self._limits
        reading = _Reading(self.name)
        size: tuple[int, int] | None = None
        last, place = part.start, 0
        with self._opened() as container:
            stream = _picture(container, self.name)
            stream.codec_context.options = {"max_pixels": str(limits.pixels)}
            stream.codec_context.thread_count, stream.codec_context.thread_type = THREADS, "AUTO"
            end = min(part.start + limits.seconds, part.end if part.end is not None else np.inf)
            for seconds, frame in reading.frames(container, stream, part.start, limits.decoded):
                if seconds >= end:
                    if part.end is None or seconds < part.end:
                        reading.say(f"only the first {_clock(limits.seconds)} were taken, which is the most")
                    break
                if seconds < part.start - 1e-6:
                    continue
                last = seconds
                if place == limits.frames * part.stride:
                    reading.say(f"only the first {limits.frames} frames were taken, which is the most")
                    break
                if place % part.stride == 0:
                    pixels = _turned(frame, stream)
                    size = size or pixels.shape[:2]
                    if pixels.shape[:2] != size:
                        reading.say("frames change their size on the way and were brought to the first one's")
                        pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
                    yield Frame(seconds, pixels)
                place += 1
            else:
                wanted = min(end, self.duration or 0.0)
                if wanted - last > max(1.0, 0.05 * wanted):
                    reading.say(f"it breaks off at {last:.1f} s of {self.duration:.1f} s, and the rest is lost")
        self.notes = tuple(reading.notes())


class _Reading:
    """One way through a file: its frames with their times, and what was damaged."""

    def __init__(self, name: str) -> None:
        self._name, self._said, self._damaged = name, dict[str, None](), 0

    def say(self, text: str) -> None:
        self._said[text] = None

    def notes(self) -> list[str]:
        damaged = [f"{self._damaged} damaged pieces were left out"] if self._damaged > 1 else []
        damaged = ["a damaged piece was left out"] if self._damaged == 1 else damaged
        return [f"{self._name}: {text}." for text in (*damaged, *self._said)]

    def frames(self, container: InputContainer, stream: Any, start: float, most: int) -> Iterator[tuple[float, Any]]:
        """Times from the beginning of the clip, and frames; damaged ones are counted and left out."""
        if start > SEEK_FROM:
            with suppress(FFmpegError):
                container.seek(int((start + _begin(stream)) * av.time_base), backward=True)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        begin, last = _begin(stream), -1 / float(rate)
        for count, frame in enumerate(self._decoded(container, stream)):
            if count >= most:
                self.say(f"{most:,} frames were decoded, which is the most".replace(",", "\u202f"))
                return
            seconds = last + 1 / float(rate) if frame.time is None else frame.time - begin
            if seconds <= last and count:
                seconds = last + 1 / float(rate)
            last = seconds
            yield max(seconds, 0.0), frame

    def _decoded(self, container: InputContainer, stream: Any) -> Iterator[Any]:
        row = 0
        packets = container.demux(stream)
        while row < MOST_DAMAGED:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                decoded = packet.decode()
            except (FFmpegError, ValueError):
                row, self._damaged = row + 1, self._damaged + 1
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    self._damaged += 1
                else:
                    row = 0
                    yield frame
        self.say("the rest is damaged")


def _picture(container: InputContainer, name: str) -> Any:
    if not container.streams.video:
        what = "only sound" if container.streams.audio else "no picture"
        raise VideoError(f"{name} holds {what}: choose a file with a video in it.")
    stream = container.streams.video[0]
    if stream.codec_context is None or not stream.codec_context.width or not stream.codec_context.height:
        raise VideoError(f"{name} is a video in a form that cannot be read here: save it as H.264 in an MP4 file.")
    return stream


def _begin(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0


def _duration(container: InputContainer, stream: Any) -> float | None:
    """Seconds that the header claims; None where it claims nothing."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration and container.duration > 0 else None


def _measured(container: InputContainer, stream: Any, most: int) -> tuple[float, float] | None:
    """Seconds and frames a second by the times of packets, of a clip whose header claims nothing; nothing is decoded.

    None where packets have no times.
    """
    times = []
    with suppress(FFmpegError, ValueError):
        times = [float(p.pts * p.time_base) for p in islice(container.demux(stream), most) if p.pts is not None]
    if len(times) < 2 or (span := max(times) - min(times)) <= 0:
        return None
    rate = (len(times) - 1) / span
    return span + 1 / rate, rate


def _turned(frame: Any, stream: Any) -> np.ndarray:
    """RGB (height, width, 3) as it is meant to be seen: square pixels, upright."""
    wide = stream.sample_aspect_ratio or 1
    if wide != 1 and 0.1 < wide < 10:
        frame = frame.reformat(width=max(2, round(frame.width * wide)))
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _why_not(name: str, file: BinaryIO) -> str:
    with suppress(OSError, ValueError):
        file.seek(0)
        head = file.read(4096)
        if not head:
            return f"{name} is empty: choose a video file, such as an MP4."
        if head[4:8] == b"ftyp":
            return f"{name} was cut off or its index is damaged, so nothing of it can be read: save it again."
    return f"{name} is not a video that can be read here: choose a file such as MP4, MOV, WebM, MKV or AVI."


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
