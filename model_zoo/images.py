"""The images of a run: what they are called, and how to get their pixels when they are needed."""

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
    by the folder it lies in.

    Args:
        paths: image files, folders (searched recursively, in sorted order) or ``scenes:N`` (N procedural held-out
            scenes with a fixed seed).
        limit: keep at most this many.

    Raises:
        ImageError: a path that does not exist, a folder without images, or a malformed ``scenes:N``.
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
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise ImageError(f"The folder {shown} holds no image ({', '.join(sorted(SUFFIXES))}).")
        yield from (_file(p, str(p.relative_to(path))) for p in files)
    elif path.is_file():
        yield _file(path, path.name)
    else:
        raise ImageError(f"{shown} is neither an image file nor a folder; give a file, a folder or scenes:N.")


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
