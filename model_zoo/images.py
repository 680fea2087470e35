"""Opening images that nobody vouches for, and naming the images of a run."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 100_000_000
MAX_SIDE = 20_000
MIN_SIDE = 8
Image.init()  # opening by a list of formats needs all of their decoders registered
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}


class ImageError(ValueError):
    """An image that cannot be shown right; the message is one sentence for a person."""


def open_image(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """Open an image as upright 8-bit RGB.

    EXIF rotation is applied; transparency is laid on white; CMYK is converted; 16-bit and float grey is scaled from
    its own range (the full 16-bit range for integers) to 8 bits; of an animation the first frame is taken.

    Args:
        source: a path, the file's bytes, or an open binary file.

    Raises:
        ImageError: not an image, truncated, larger than 64 MiB or 100 million pixels, or smaller than 8 px.
    """
    name = source if isinstance(source, (str, Path)) else getattr(source, "name", "the image")
    name = Path(str(name)).name
    try:
        data = _bytes(source)
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror or error}.") from None
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES >> 20} MiB; save it smaller and try again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning; the limit below is ours
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(name, *image.size)
                image.load()
                upright = ImageOps.exif_transpose(image)
                return _to_rgb(upright)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image that can be read; use JPEG, PNG, WebP, GIF, BMP or TIFF.") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} unpacks to more than {MAX_PIXELS:,} pixels; scale it down first.") from None
    except Exception:
        raise ImageError(f"{name} is damaged or cut off and cannot be decoded; save it again and retry.") from None


def _bytes(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, Path)):
        with Path(source).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    return source.read(MAX_BYTES + 1)


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(f"{name} has {width:,} × {height:,} pixels; at most {MAX_PIXELS:,} are read, scale it down.")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name} has {width} × {height} pixels; at least {MIN_SIDE} on each side are needed.")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float64)
        if image.mode.startswith("I"):
            low, high = 0.0, 65535.0 if values.max() > 255 else 255.0
        else:
            finite = values[np.isfinite(values)]
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        scaled = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12), 0, 1)
        return Image.fromarray((scaled * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class ImageSource:
    """One image of a run: its name, and how to get its pixels when they are needed.

    Attributes:
        name: name in results.
        open: gives the RGB picture.
        mask: gives the true object mask, boolean (height, width) in the picture's pixels; None where there is none.
    """

    name: str
    open: Callable[[], Image.Image]
    mask: Callable[[], np.ndarray] | None = None


def sources(paths: Sequence[str | Path], limit: int | None = None) -> list[ImageSource]:
    """Name the images behind paths, without opening them.

    Args:
        paths: image files, folders (searched recursively, in sorted order) or ``scenes:N`` (N procedural held-out
            scenes with a fixed seed).
        limit: keep at most this many.

    Raises:
        ImageError: a path that does not exist, a folder without images, or a malformed ``scenes:N``.
    """
    found: list[ImageSource] = []
    for path in paths:
        found.extend(_expand(path))
        if limit is not None and len(found) >= limit:
            return found[:limit]
    return found


def _expand(path: str | Path) -> Iterator[ImageSource]:
    text = str(path)
    if text.startswith("scenes:"):
        yield from _scenes(text)
        return
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise ImageError(f"The folder {path} holds no image ({', '.join(sorted(SUFFIXES))}).")
        yield from (ImageSource(str(p.relative_to(path)), partial(open_image, p)) for p in files)
    elif path.is_file():
        yield ImageSource(path.name, partial(open_image, path))
    else:
        raise ImageError(f"{path} is neither an image file nor a folder; give a file, a folder or scenes:N.")


def _scenes(text: str) -> Iterator[ImageSource]:
    count = text.removeprefix("scenes:")
    if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= 1_000_000:
        raise ImageError(f"{text!r} is not understood; write scenes:N with N from 1 to 1,000,000.")
    from model_zoo.scenes import Scenes

    scenes = Scenes()  # the held-out ones
    for index in range(int(count)):
        yield ImageSource(f"scene-{index:06d}", partial(scenes.image, index), partial(scenes.mask, index))
