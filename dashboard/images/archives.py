"""Images out of a zip that nobody vouches for. Nothing is written to disk and no name is used as a path."""

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from model_zoo.command_line import printable
from model_zoo.decoding import ImageError, check_image

BROKEN = (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError)
"""What a zip raises whose list or entries are damaged or of an unknown kind."""
MOST_ENTRIES = 20_000
MOST_IMAGES = 2_000
MOST_BYTES = 200 * 2**20
MOST_BYTES_EACH = 20 * 2**20
MOST_RATIO = 200
MOST_PIXELS = 1_000_000_000
"""Pixels of all images together: about 20 s of decoding; photographs of `MOST_BYTES` have fewer."""


@dataclass(frozen=True)
class Unpacked:
    """What a zip held.

    Attributes:
        images: name, class and bytes of each; the class is the folder it lay in, empty without one.
        skipped: entries that are no images, or are too large.
        notes: what else is to be said, one sentence each.
    """

    images: tuple[tuple[str, str, bytes], ...]
    skipped: int
    notes: tuple[str, ...] = ()


def unpack(data: bytes) -> Unpacked:
    """Read the images of a zip, within limits of number, size, compression and pixels.

    What an entry claims about its size is not believed: reading stops at the limit. Of an image only the header is
    read; whether the rest can be decoded shows when it is opened.

    Raises:
        ImageError: it is no zip, holds far too many entries, or holds no image that can be read.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except BROKEN:
        raise ImageError("The file is not a zip that can be read; pack the images again and retry.") from None
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
        if len(entries) > MOST_ENTRIES:
            raise ImageError(f"The zip holds {len(entries):,} files; at most {MOST_ENTRIES:,} are looked at.")
        contents = ((e.filename, _content(archive, e)) for e in sorted(entries, key=lambda entry: entry.filename))
        found = within_limits(contents, "zip", "unpacks to")
    if not found.images and not found.notes:
        raise ImageError(f"The zip holds no image that can be read ({found.skipped} other files).")
    return found


def within_limits(contents: Iterable[tuple[str, bytes]], source: str, holds: str) -> Unpacked:
    """The images among files, up to the limits of number, bytes and pixels.

    Args:
        contents: names and bytes, taken one by one.
        source: what they come from, for a person.
        holds: the verb that goes with it.
    """
    images: list[tuple[str, str, bytes]] = []
    skipped, total, pixels = 0, 0, 0
    for name, content in contents:
        if len(images) == MOST_IMAGES:
            return Unpacked(
                tuple(images), skipped, (f"Only the first {MOST_IMAGES:,} images of the {source} are shown.",)
            )
        total += len(content)
        try:
            width, height = check_image(content)
        except ImageError:
            skipped += 1
            width = height = 0
        pixels += width * height
        if total > MOST_BYTES or pixels > MOST_PIXELS:
            much = f"{MOST_BYTES >> 20} MiB" if total > MOST_BYTES else f"{MOST_PIXELS // 10**6:,} million pixels"
            note = f"The {source} {holds} more than {much}: only the images up to there are shown."
            return Unpacked(tuple(images), skipped, (note,))
        if width:
            images.append((*_named(name), content))
    return Unpacked(tuple(images), skipped)


def _named(filename: str) -> tuple[str, str]:
    """An entry's own name and its folder's, of which either may be empty or say nothing."""
    parts = ["", "", *(part for part in filename.replace("\\", "/").split("/") if part not in ("", ".", ".."))]
    return printable(parts[-1])[:80] or "unnamed", printable(parts[-2])[:40]


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """An entry's bytes; none of what is hidden, encrypted, damaged, too large or packed suspiciously tight."""
    packed = max(entry.compress_size, 1)
    if entry.flag_bits & 1 or entry.file_size > MOST_BYTES_EACH or entry.file_size / packed > MOST_RATIO:
        return b""
    if PurePosixPath(entry.filename).name.startswith("."):
        return b""
    try:
        with archive.open(entry) as file:
            content = file.read(MOST_BYTES_EACH + 1)
    except (*BROKEN, OSError, RuntimeError, zlib.error, lzma.LZMAError):
        return b""
    return content if len(content) <= MOST_BYTES_EACH else b""
