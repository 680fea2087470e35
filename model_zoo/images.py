"""The images of a run: what they are called, and how to get their pixels when they are needed."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
from PIL import Image

from model_zoo.command_line import printable
from model_zoo.decoding import SUFFIXES, ImageError, open_image

ANY = "*"
"""Stands for the files of a folder that cannot be read."""


@dataclass(frozen=True)
class ImageSource:
    """One image of a run: its name, and how to get its pixels when they are needed.

    Attributes:
        name: name in results, another for each image of a run.
        open: gives the RGB picture.
        mask: gives the true object mask, boolean (height, width) in the picture's pixels; None where there is none.
        path: the file it is read from; None for what is drawn or held in memory.
        label: gives the name of its class; None where none is known. Of a file it is the folder that it lies in, if
            that is part of its name.
    """

    name: str
    open: Callable[[], Image.Image]
    mask: Callable[[], np.ndarray] | None = None
    path: Path | None = None
    label: Callable[[], str] | None = None


def sources(paths: Sequence[str | Path], limit: int | None = None) -> list[ImageSource]:
    """Name the images behind paths, without opening them.

    An image of a folder is named by its path in the folder, another by its file's name; where two would have one name,
    both have their whole path. Control characters in names are escaped. In a folder of folders each image is labelled
    by the folder it lies in. A folder in it that cannot be read counts as one image, ``FOLDER/*``, that cannot be read.

    Args:
        paths: image files, folders (searched recursively, in sorted order; links to folders are followed unless they
            lead back) or ``scenes:N`` (N procedural held-out scenes with a fixed seed).
        limit: keep at most this many.

    Raises:
        ImageError: a path that does not exist or cannot be read, a folder without images, or a malformed ``scenes:N``.
    """
    found = list(islice(chain.from_iterable(map(_expand, paths)), limit))
    return _distinct(found)


@dataclass(frozen=True)
class _Found:
    """An image behind a path: its name where that is its alone, and where it lies."""

    source: ImageSource
    path: str


def _distinct(found: Sequence[_Found]) -> list[ImageSource]:
    """Give images of the same name their whole paths, and number what was given more than once."""
    names = Counter(one.source.name for one in found)
    named: list[ImageSource] = []
    seen: Counter[str] = Counter()
    for one in found:
        name = one.source.name if names[one.source.name] == 1 else one.path
        seen[name] += 1
        again = f" ({seen[name]})" if seen[name] > 1 else ""
        named.append(replace(one.source, name=name + again))
    return named


def _expand(path: str | Path) -> Iterator[_Found]:
    text = str(path)
    if text.startswith("scenes:"):
        yield from _scenes(text)
        return
    path, shown = Path(path), printable(text)
    try:
        if path.is_dir():
            found = _below(path)
        elif path.is_file():
            found = [(path, path.name)]
        else:
            raise ImageError(f"{shown} is neither an image file nor a folder; give a file, a folder or scenes:N.")
    except OSError as error:
        raise ImageError(f"{shown} cannot be read: {error.strerror or error}.") from None
    if not found:
        raise ImageError(f"The folder {shown} holds no image ({', '.join(sorted(SUFFIXES))}).")
    yield from (_file(place, name) for place, name in found)


def _below(top: Path) -> list[tuple[Path, str]]:
    """Places and names of the images below a folder; one that cannot be read stands for what it holds, ``FOLDER/*``.

    Links to folders are followed, but for those that lead to where they lie or above.
    """
    found: list[Path] = []
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(top, (Path(os.path.realpath(top)),))]
    while waiting:
        folder, above = waiting.pop()
        try:
            with os.scandir(folder) as scanned:
                entries = list(scanned)
        except OSError:
            if folder == top:
                raise
            found.append(folder / ANY)
            continue
        for entry in entries:
            path = folder / entry.name
            try:
                if entry.is_dir():
                    waiting += _entered(path, entry.is_symlink(), above)
                elif path.suffix.lower() in SUFFIXES and entry.is_file():
                    found.append(path)
            except OSError:  # a link to what may not be seen: opening it says why
                found.append(path)
    return [(path.parent if path.name == ANY else path, str(path.relative_to(top))) for path in sorted(found)]


def _entered(folder: Path, is_link: bool, above: tuple[Path, ...]) -> list[tuple[Path, tuple[Path, ...]]]:
    """A folder with the real places that one came by; nothing where a link leads back to one or above it."""
    if not is_link:
        return [(folder, (*above[:-1], above[-1] / folder.name))]
    real = Path(os.path.realpath(folder))
    return [] if any(place.is_relative_to(real) for place in above) else [(folder, (*above, real))]


def _file(path: Path, name: str) -> _Found:
    folder = Path(name).parent.name
    label = partial(str, printable(folder)) if folder else None
    return _Found(ImageSource(printable(name), partial(open_image, path), path=path, label=label), printable(str(path)))


def _scenes(text: str) -> Iterator[_Found]:
    count = text.removeprefix("scenes:")
    if not count.isascii() or not count.isdigit() or len(count) > 7 or not 1 <= int(count) <= 1_000_000:
        raise ImageError(f"{text[:40]!r} is not understood; write scenes:N with N from 1 to 1,000,000.")

    for index in range(int(count)):
        name = f"scene-{index:06d}"
        label = partial(_scene_class, index)
        yield _Found(ImageSource(name, partial(_scene, index), partial(_scene_mask, index), label=label), name)


# The scenes bring torch, which naming the images does not need.


def _scene(index: int) -> Image.Image:
    from model_zoo.scenes import Scenes

    return Scenes().image(index)


def _scene_mask(index: int) -> np.ndarray:
    from model_zoo.scenes import Scenes

    return Scenes().mask(index)


def _scene_class(index: int) -> str:
    from model_zoo.scenes import Scenes

    return Scenes().label(index)
