"""Small clips for tests, written by PyAV: a bright square that moves over a dark ground."""

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def pictures(count: int, size: tuple[int, int] = (64, 48), still: bool = False) -> list[np.ndarray]:
    """RGB frames of a width and height: the upper left quarter is red, and a white square moves to the right."""
    width, height = size
    frames = []
    for index in range(count):
        frame = np.full((height, width, 3), 30, np.uint8)
        frame[: height // 2, : width // 2] = (200, 20, 20)
        at = 0 if still else index * 2 % max(width - 8, 1)
        frame[height // 2 : height // 2 + 8, at : at + 8] = 255
        frames.append(frame)
    return frames


def clip(
    frames: list[np.ndarray],
    *,
    times: list[float] | None = None,
    rate: int = 10,
    form: str = "mp4",
    codec: str = "libx264",
    rotation: int = 0,
    wide: int = 1,
    faststart: bool = True,
    pix_fmt: str = "yuv444p",
    options: dict[str, str] | None = None,
) -> bytes:
    """A video file of frames, at times of their own or at a rate, its pixels ``wide`` times as wide as high."""
    options = options or ({"movflags": "+faststart"} if form == "mp4" and faststart else {})
    with tempfile.NamedTemporaryFile() as file, av.open(file.name, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate, options={"g": "5"} if codec == "libx264" else {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.max_b_frames = 0
        stream.codec_context.sample_aspect_ratio = Fraction(wide, 1)
        if rotation:
            stream.set_display_rotation(rotation)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            seconds = times[index] if times else index / rate
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        container.close()
        return Path(file.name).read_bytes()


def recording(frames: list[np.ndarray], times: list[float], form: str = "webm") -> bytes:
    """A file as a browser's MediaRecorder writes it: in one go, so that no header says its duration or frame rate."""
    codec, options = {
        "webm": ("libvpx", {"live": "1"}),
        "mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    }[form]
    written = _Pipe()
    with av.open(written, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, 30)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, seconds in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return bytes(written.data)


class _Pipe:
    """What can be written to but not gone back in."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def sound(seconds: float = 1.0) -> bytes:
    """A file that holds only sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", 16_000, layout="mono")
        for start in range(0, int(16_000 * seconds), 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
