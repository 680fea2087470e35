"""The class of every image: from a table, or from the folders they lie in."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from model_zoo.adapter import Adapter
from model_zoo.decoding import ImageError
from model_zoo.images import ImageSource
from model_zoo.labels import WORDNET_ID, LabelError, outputs_of, wordnet_ids

WITH_BOXES = re.compile(r"(n\d{8})\s.*")
"""A class as Kaggle's table of ImageNet's validation images has it, followed by where the objects lie."""


def read_labels(images: Sequence[ImageSource], table: Path | None) -> list[str]:
    """The class of every image: from a table, else the name of its folder.

    Args:
        images: named by their path in the folder; the table may leave the ending (``.JPEG``) out.
        table: of lines ``image,class``, with a comma, a tab or blanks between; other lines are passed over.

    Raises:
        ImageError: an image without a class, or with two.
    """
    if table is None:
        names = [Path(image.name).parent.name for image in images]
        if not all(names):
            raise ImageError("Labels are needed: give --labels FILE with lines image,class, or one folder per class.")
        return names
    rows: dict[str, str] = {}
    try:
        for image, name in _rows(table):
            if rows.setdefault(image, name) != name:
                raise ImageError(f"{table} should have one class for {image}, and has {rows[image]!r} and {name!r}.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"The labels {table} cannot be read as a table of image,class: {error}.") from None
    found = [rows.get(image.name) or rows.get(str(Path(image.name).with_suffix(""))) for image in images]
    for source, label in zip(images, found, strict=True):
        if not label:
            raise ImageError(f"{table} should have a line image,class for every image, and has none for {source.name}.")
    return [name for name in found if name]


def _rows(table: Path) -> Iterator[tuple[str, str]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        for line in file:
            (row,) = csv.reader([line.strip()], delimiter="\t" if "\t" in line else ",")
            parts = row if len(row) >= 2 else line.rsplit(None, 1)
            if len(parts) >= 2:
                name = parts[1].strip()
                boxes = WITH_BOXES.fullmatch(name)
                yield parts[0].strip(), boxes[1] if boxes else name


def classifier_outputs(adapter: Adapter, names: Sequence[str], table: Path | None = None) -> dict[str, int]:
    """Which output of the model's classifier each class means, see :func:`model_zoo.labels.outputs_of`.

    Args:
        adapter: the model.
        names: classes of images.
        table: what the outputs are called, a line each, in order; a line may begin with the WordNet id. None takes what
            is known of the model.

    Raises:
        LabelError: a class that is none of the model's, or a table of another number of lines.
    """
    spec = adapter.spec
    if table is None:
        return outputs_of(names, spec.labels, wordnet_ids(adapter.module), spec.classes)
    try:
        lines = [line.strip() for line in table.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"The names of classes {table} cannot be read: {error}.") from None
    if len(lines) != spec.classes:
        raise LabelError(
            f"{table} should have a line for each of the model's {spec.classes} outputs, in order; it has {len(lines)}."
        )
    words = [line.partition(" ") for line in lines]
    if not all(WORDNET_ID.fullmatch(first) for first, _, _ in words):
        return outputs_of(names, lines, (), spec.classes)
    labels = [rest.strip() for _, _, rest in words]
    return outputs_of(names, labels if all(labels) else (), [first for first, _, _ in words], spec.classes)
