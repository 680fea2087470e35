"""Odd image files, and mutations of valid ones in every format and mode that is opened."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from model_zoo.decoding import FORMATS, ImageError, open_image

EXPECTED = (ImageError,)

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
OPTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "JPEG": ({}, {"progressive": True}, {"quality": 100, "subsampling": 0}),
    "PNG": ({}, {"compress_level": 0}),
    "WEBP": ({}, {"lossless": True}),
    "TIFF": tuple({"compression": c} for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")),
}
ONLY: dict[object, tuple[str, ...]] = {"jpeg": ("L", "RGB", "CMYK"), "group4": ("1",)}
BYTES = (0, 1, 0x7F, 0x80, 0xD8, 0xD9, 0xDA, 0xFE, 0xFF)


def cases(seed: int, count: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Files of odd headers first, then mutations."""
    chance = random.Random(seed)
    odd = list(oddities())
    originals = list(valid())
    for number in range(count):
        name, data = odd[number] if number < min(len(odd), count // 2) else mutated(chance, chance.choice(originals))
        yield f"{number} {name}", partial(opened, data)


def opened(data: bytes) -> None:
    """What is opened is a picture as promised."""
    picture = open_image(data)
    assert picture.mode == "RGB"
    assert min(picture.size) >= 8
    assert np.asarray(picture).shape == (picture.height, picture.width, 3)


def valid() -> Iterator[tuple[str, bytes]]:
    """A small picture in every format, mode and way of writing that Pillow has."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    for mode in MODES:
        picture = noise.convert("L").convert("I").convert("I;16") if mode == "I;16" else noise.convert(mode)
        for kind in FORMATS:
            for options in OPTIONS.get(kind, ({},)):
                if mode not in ONLY.get(options.get("compression"), MODES):
                    continue
                exif = Image.Exif()
                exif[0x0112] = 6
                buffer = io.BytesIO()
                try:
                    picture.save(buffer, kind, exif=exif, **options)
                except (OSError, ValueError, RuntimeError):  # not every format holds every mode
                    continue
                yield f"{kind} {mode} {' '.join(map(str, options.values()))}".strip(), buffer.getvalue()
    frames = [noise.rotate(angle) for angle in (0, 90, 180)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        yield f"{kind} animated", buffer.getvalue()


def oddities() -> Iterator[tuple[str, bytes]]:
    """Headers that claim much and hold little, and slow ways to write a picture."""
    for side in (1, 7, 9_999, 20_000, 65_535, 2**31 - 1):
        yield f"PNG claims {side}²", png(side, side)
        yield f"PNG claims {side} × 8", png(side, 8)
        yield f"GIF claims {side}²", b"GIF89a" + struct.pack("<HHBBB", side & 0xFFFF, side & 0xFFFF, 0xF7, 0, 0)
        yield (
            f"BMP claims {side}²",
            b"BM"
            + struct.pack("<IHHI", 54, 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
        )
        for kind in range(1, 8):
            yield f"P{kind} claims {side}²", f"P{kind}\n{side} {side}\n255\n".encode() + b"1 0 " * 50
    yield (
        "RLE of nothing",
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 900, 900, 1, 8, 1, 0, 0, 0, 1, 0)
        + bytes(2**20),
    )
    yield "PPM of 7 bits", b"P6 400 400 127\n" + bytes(480_000)
    yield "16-bit PNG of nothing", png(6_000, 6_000, bits=16, colour=0, rows=zlib.compress(bytes(6_000 * 12_001)))
    yield "palette without colours", png(64, 64, colour=3, rows=zlib.compress(bytes(64 * 65)))
    for compression in (1, 2, 5, 6, 7, 8, 32773, 34925, 50000, 50001):
        for tags in ({256: 2**31, 257: 2**31}, {256: 64, 257: 64, 322: 2**24, 323: 2**24}, {258: 65_535, 277: 65_535}):
            yield f"TIFF {compression} {tags}", tiff({259: compression, **tags})
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x7f"
    base = io.BytesIO()
    Image.new("RGB", (900, 900), (90, 120, 30)).save(base, "JPEG", progressive=True)
    for times in (50, 5_000, 200_000):
        yield f"JPEG of {times} scans", base.getvalue()[:-2] + scan * times + b"\xff\xd9"
    yield "nothing", b""
    yield "zeros", bytes(100_000)


def png(width: int, height: int, *, bits: int = 8, colour: int = 2, rows: bytes = zlib.compress(b"")) -> bytes:
    """A PNG of this header and these rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(tags: dict[int, int]) -> bytes:
    """A grey TIFF whose strip holds nothing much."""
    whole = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: 256, **tags}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(whole.items()))
    strip = bytes(range(256))
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(whole)) + entries + bytes(4)


def mutated(chance: random.Random, original: tuple[str, bytes]) -> tuple[str, bytes]:
    """A valid file with bytes changed, cut, doubled or moved, most often where its header is."""
    name, data = original[0], bytearray(original[1])
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(min(len(data), chance.choice((64, 512, len(data)))))
        length = chance.choice((1, 2, 4, 64))
        match chance.randrange(5):
            case 0:
                data[at] = chance.choice(BYTES)
            case 1:
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                data[at : at + length] = chance.randbytes(length)
            case 3:
                data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
            case _ if len(data) > 100:
                del data[at : at + length]
    if chance.random() < 0.1:
        del data[chance.randrange(1, len(data)) :]
    return name, bytes(data)
