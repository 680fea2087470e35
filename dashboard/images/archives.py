"""Images out of a zip that nobody vouches for. Nothing is written to disk and no name is used as a path."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath

from model_zoo.images import ImageError, open_image

MOST_ENTRIES = 20_000
MOST_IMAGES = 2_000
MOST_BYTES = 200 * 2**20
MOST_BYTES_EACH = 20 * 2**20
MOST_RATIO = 200


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
    """Read the images of a zip, within limits of number, size and compression.

    What an entry claims about its size is not believed: reading stops at the limit.

    Raises:
        ImageError: it is no zip, holds far too many entries, or holds no image that can be read.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        raise ImageError("The file is not a zip that can be read; pack the images again and retry.") from None
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > MOST_ENTRIES:
            raise ImageError(f"The zip holds {len(entries):,} files; at most {MOST_ENTRIES:,} are looked at.")
        images: list[tuple[str, str, bytes]] = []
        skipped, total = 0, 0
        for entry in sorted(entries, key=lambda entry: entry.filename):
            if len(images) == MOST_IMAGES:
                return Unpacked(
                    tuple(images), skipped, (f"Only the first {MOST_IMAGES:,} images of the zip are shown.",)
                )
            content = _read(archive, entry)
            if content is None:
                skipped += 1
                continue
            total += len(content)
            if total > MOST_BYTES:
                note = f"The zip unpacks to more than {MOST_BYTES >> 20} MiB: only the images up to there are shown."
                return Unpacked(tuple(images), skipped, (note,))
            parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
            images.append((parts[-1][:80], parts[-2][:40] if len(parts) > 1 else "", content))
    if not images:
        raise ImageError(f"The zip holds no image that can be read ({skipped} other files).")
    return Unpacked(tuple(images), skipped)


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | None:
    """The bytes of an image, None for what is none, is encrypted, too large or packed suspiciously tight."""
    packed = max(entry.compress_size, 1)
    if entry.flag_bits & 1 or entry.file_size > MOST_BYTES_EACH or entry.file_size / packed > MOST_RATIO:
        return None
    if PurePosixPath(entry.filename).name.startswith("."):
        return None
    try:
        with archive.open(entry) as file:
            content = file.read(MOST_BYTES_EACH + 1)
        if len(content) > MOST_BYTES_EACH:
            return None
        open_image(content)
    except (ImageError, zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError):
        return None
    except Exception as error:  # zlib and lzma raise their own kinds on broken data
        if type(error).__module__.partition(".")[0] in ("zlib", "_lzma", "lzma", "bz2"):
            return None
        raise
    return content
