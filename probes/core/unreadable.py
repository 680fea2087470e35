"""Images that cannot be opened: left out of a run and named, or refused before it."""

import sys
from collections.abc import Sequence

from model_zoo.command_line import printable
from model_zoo.decoding import ImageError
from model_zoo.images import ImageSource

NAMED = 5
"""Names that the message holds; the result has all."""


def refuse(images: Sequence[ImageSource]) -> None:
    """Open every image once.

    Raises:
        ImageError: some cannot be opened; the message says how many and names the first.
    """
    names = []
    for source in images:
        try:
            source.open()
        except ImageError:
            names.append(source.name)
    if names:
        raise ImageError(f"{_said(names, len(images))} With --strict nothing is measured then.")


def report(names: Sequence[str], count: int) -> None:
    """Say on stderr which images were left out."""
    if names:
        print(f"{_said(names, count)} The rest is measured without.", file=sys.stderr)


def _said(names: Sequence[str], count: int) -> str:
    first = ", ".join(printable(name) for name in names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} of {count} images cannot be read: {first}{more}."
