"""Decoding images that nobody vouches for, within bounds of memory, passes and time."""

import io
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from model_zoo.command_line import printable

MAX_BYTES = 64 * 2**20

MAX_PIXELS = 100_000_000
MAX_SIDE = 20_000
MIN_SIDE = 8
MAX_SCANS = 100
MAX_SCANNED = 3_000_000_000
"""Pixels of a progressive JPEG times its passes; encoders write about ten, and each walks over the whole picture."""
MAX_SECONDS = 20.0
"""Processor time of one decoding; looked at whenever the decoder asks for more of the file."""
LARGE_PIXELS = 25_000_000
"""Larger pictures are decoded one at a time, so that several at once do not fill the memory."""
STRIP_PIXELS = 4_000_000
Image.init()  # opening by a list of formats needs all of their decoders registered
# Once and for the whole process, for to change the filters per call is not safe between threads: of sizes Pillow warns
# where the limit below refuses, and of damage where decoding fails.
warnings.filterwarnings("ignore", module=r"PIL\.")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
_LARGE: AbstractContextManager[object] = Lock()
_MARKER = re.compile(rb"\xff+([^\x00\xff\x01\xd0-\xd8])", re.DOTALL)


class ImageError(ValueError):
    """An image that cannot be shown right; the message is one sentence for a person."""


class _Patient(io.BytesIO):
    """A file that a decoder can read for `MAX_SECONDS` of this thread's processor time."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._name = name
        self._until = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1) -> bytes:
        if time.thread_time() > self._until:
            raise ImageError(f"{self._name} takes longer than {MAX_SECONDS:.0f} s to decode; save it as PNG or JPEG.")
        return super().read(size)


def one_large_at_a_time(lock: AbstractContextManager[object]) -> None:
    """Decode large pictures under a lock that is shared with other processes, whose memory is the same."""
    global _LARGE
    _LARGE = lock


def open_image(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """Open an image as upright 8-bit RGB.

    EXIF rotation is applied; transparency is laid on white; CMYK is converted; 16-bit and float grey is scaled from
    its own range (the full 16-bit range for integers) to 8 bits; of an animation the first frame is taken. A baseline
    JPEG of more than 100 million pixels, up to about 178, is decoded at half its width and height. Memory while
    decoding is at most 8 bytes a pixel, 10 in a progressive JPEG.

    Args:
        source: a path, the file's bytes, or an open binary file.

    Raises:
        ImageError: not an image, truncated, larger than 64 MiB or 100 million pixels, smaller than 8 px, a JPEG of more
            than 100 passes (30 at 100 million pixels), or decoding takes longer than 20 s of processor time.
        MemoryError: no memory is left for it now.
    """
    name, data = _read(source)
    try:
        with Image.open(_Patient(data, name), formats=FORMATS) as image:
            _check(name, image, data)
            with _LARGE if image.width * image.height > LARGE_PIXELS else nullcontext():
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _to_rgb(image)
    except MemoryError:  # says nothing of the file
        raise
    except Exception as error:
        raise _explained(name, error) from None


def check_image(source: str | Path | bytes | BinaryIO) -> tuple[int, int]:
    """Width and height that a file claims, before rotation; nothing is decoded, so it may still be damaged.

    Raises:
        ImageError: as for `open_image`, as far as the header tells.
    """
    name, data = _read(source)
    try:
        with Image.open(_Patient(data, name), formats=FORMATS) as image:
            _check(name, image, data)
            return image.size
    except MemoryError:  # says nothing of the file
        raise
    except Exception as error:
        raise _explained(name, error) from None


def _explained(name: str, error: Exception) -> ImageError:
    if isinstance(error, ImageError):
        return error
    if isinstance(error, UnidentifiedImageError):
        return ImageError(f"{name} is not an image that can be read; use JPEG, PNG, WebP, GIF, BMP or TIFF.")
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(f"{name} unpacks to more than {MAX_PIXELS:,} pixels; scale it down first.")
    return ImageError(f"{name} is damaged or cut off and cannot be decoded; save it again and retry.")


def _read(source: str | Path | bytes | BinaryIO) -> tuple[str, bytes]:
    """What messages call a file, and its bytes."""
    path = source if isinstance(source, (str, Path)) else getattr(source, "name", "the image")
    name = printable(Path(str(path)).name)
    try:
        data = _bytes(source)
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror or error}.") from None
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES >> 20} MiB; save it smaller and try again.")
    return name, data


def _bytes(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, Path)):
        with Path(source).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    return source.read(MAX_BYTES + 1)


def _check(name: str, image: Image.Image, data: bytes) -> None:
    """Refuse what would cost too much, before anything is decoded."""
    if image.format == "JPEG":
        scans, pixels = _scans(data), image.width * image.height
        most = min(MAX_SCANS, MAX_SCANNED // max(pixels, 1))
        if scans > max(most, 1):
            raise ImageError(
                f"{name} is a JPEG of {scans:,} passes; at most {most} are read at its size, save it again."
            )
        if pixels > MAX_PIXELS and not image.info.get("progressive"):
            image.draft(None, (image.width // 2, image.height // 2))
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(f"{name} has {width:,} × {height:,} pixels; at most {MAX_PIXELS:,} are read, scale it down.")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name} has {width} × {height} pixels; at least {MIN_SIDE} on each side are needed.")


def _scans(data: bytes) -> int:
    """Scans of a JPEG up to its end marker, found as the decoder finds them: what is no marker is passed over."""
    scans, at = 0, 2
    while match := _MARKER.search(data, at):
        kind = match[1][0]
        if kind == 0xD9:
            break
        scans += kind == 0xDA
        at = match.end() + max(int.from_bytes(data[match.end() : match.end() + 2], "big"), 2)
    return scans


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The picture in strips of whole rows, each with its top."""
    rows = max(STRIP_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _to_rgb(image: Image.Image) -> Image.Image:
    """In strips, so that what lies between the decoded picture and the result stays small."""
    deep = image.mode.startswith(("I", "F"))
    convert = partial(_scaled, span=_span(image)) if deep else _flat
    result = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        converted = convert(strip)
        result.paste(converted, (0, top))
        result.info = converted.info
    return result


def _span(image: Image.Image) -> tuple[float, float]:
    """The values that become black and white."""
    if image.mode.startswith("I"):
        return 0.0, 65535.0 if max(np.asarray(strip).max() for _, strip in _strips(image)) > 255 else 255.0
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = np.asarray(strip)
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 1.0)


def _scaled(image: Image.Image, span: tuple[float, float]) -> Image.Image:
    low, high = span
    values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=low)
    with np.errstate(over="ignore"):  # infinite values become the brightest or darkest
        scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return Image.fromarray((scaled * 255).round().astype(np.uint8)).convert("RGB")


def _flat(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
