"""Zips of odd names, claims and contents, and mutations of valid ones."""

import io
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from dashboard.images import archives
from model_zoo.decoding import ImageError
from tests.fuzz import images

EXPECTED = (ImageError,)

NAMES = (
    ".", "..", "./", "a/.", "/", "//", "\\", "C:\\x.png", "../../x.png", "a/b/c.png", ".hidden.png", "__MACOSX/._x.png",
    "x\x01.png", "x\x1b[2J.png", "x\n.png", "\u202egpj.exe", "ﬁ.png", " ", "x" * 5_000, "/".join("a" * 300),
    "é\ud7ff.png",
)  # fmt: skip
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def cases(seed: int, count: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Packed at random, half of them mutated."""
    chance = random.Random(seed)
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(buffer, "PNG")
    contents = [buffer.getvalue(), b"", b"no image", bytes(3_000_000), images.png(9_999, 9_999)]
    contents += [data for _, data in list(images.valid())[::9]]
    for number in range(count):
        name, data = packed(chance, contents)
        if number % 2:
            data = damaged(chance, data)
        yield f"{number} {name}", partial(unpacked, data)


def unpacked(data: bytes) -> None:
    """What comes out is within bounds, and named so that it can be shown."""
    found = archives.unpack(data)
    assert len(found.images) <= archives.MOST_IMAGES
    assert sum(len(content) for _, _, content in found.images) <= archives.MOST_BYTES
    for name, folder, _ in found.images:
        assert name
        assert name.isprintable()
        assert folder.isprintable()
        assert not {"/", "\\"} & {*name.replace("\\x", "").replace("\\u", "").replace("\\n", ""), *folder}


def packed(chance: random.Random, contents: list[bytes]) -> tuple[str, bytes]:
    """A zip of a few entries."""
    buffer = io.BytesIO()
    method = chance.choice(METHODS)
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.comment = chance.randbytes(chance.choice((0, 20)))
        for name in chance.sample(NAMES, chance.randrange(1, 8)):
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            if entry.is_dir():
                archive.writestr(entry, b"")
                continue
            archive.writestr(entry, chance.choice(contents))
            if chance.random() < 0.3:
                entry.file_size = chance.choice((0, 1, 2**31, 2**40))
            if chance.random() < 0.2:
                entry.header_offset = chance.choice((0, 1, 10**6))
            if chance.random() < 0.2:
                entry.filename = chance.choice(("", "."))
    return f"of method {method}", buffer.getvalue()


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Fields of the directory at the end overwritten, or bytes anywhere."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 3, 10))):
        start = found.rfind(b"PK\x01\x02") if chance.random() < 0.7 else 0
        at = min(max(start, 0) + chance.randrange(64), len(found) - 4)
        found[at : at + 2] = struct.pack("<H", chance.choice((0, 1, 9, 99, 0x7FFF, 0xFFFF)))
    return bytes(found)
