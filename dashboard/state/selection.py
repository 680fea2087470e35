"""What is chosen, as text that fits into a link, and back. Pure functions: no page, no widgets.

A link carries ``model`` and ``image`` (repeated), ``layer`` as ``8/12`` (so that it means something for a model of
another depth), ``head``, ``query`` and ``at`` (a point of the original image as fractions of its width and height).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dashboard.images import gallery
from dashboard.state import models
from dashboard.state.models import reference
from model_zoo.reference import ModelError, ModelReference

MOST_IMAGES = 32
MOST_CHARACTERS = 200
_LAYER = re.compile(r"([1-9][0-9]{0,2})/([1-9][0-9]{0,2})")
_POINT = re.compile(r"(0(?:\.[0-9]{1,6})?),(0(?:\.[0-9]{1,6})?)")
_HEAD = re.compile(r"mean|max|[1-9][0-9]{0,2}")

Point = tuple[float, float]
"""Fractions u, v of the original image's width and height, each at least 0 and below 1."""


@dataclass(frozen=True)
class Depth:
    """A layer, counted from 1, out of how many there are; the only one of one is the last of any model."""

    layer: int
    of: int

    @property
    def parameter(self) -> str:
        """The layer as a probe takes it, the same for models of any depth: ``last``, or the relative depth.

        All digits count: a rounded depth may fall on the other side of the half between two layers.
        """
        return "last" if self.layer == self.of else repr((self.layer - 1) / (self.of - 1))

    def index(self, layers: int) -> int:
        """Index, from 0, of the layer at the same relative depth in a model with this many layers."""
        if layers == self.of:
            return self.layer - 1
        relative = (self.layer - 1) / (self.of - 1) if self.of > 1 else 1.0
        return round(relative * (layers - 1))


@dataclass(frozen=True)
class Selection:
    """What the sidebar says: the models and the images, each at least one.

    Attributes:
        models: MODEL strings in order.
        images: picture ids in order; see ``dashboard.images.gallery``.
        colours: colours that models have already; the others have their own, or the first that is free.
    """

    models: tuple[str, ...]
    images: tuple[str, ...]
    colours: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def references(self) -> tuple[ModelReference, ...]:
        """What the models' names stand for."""
        return tuple(reference(model) for model in self.models)

    def colour(self, model: str) -> str:
        """The model's colour, the same on every page."""
        return models.colours(self.models, self.colours)[model]


def read_models(values: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Models of a link that can be used, and one sentence for each that cannot."""
    kept: list[str] = []
    notes: list[str] = []
    for text in dict.fromkeys(values):
        try:
            if len(text) > MOST_CHARACTERS:
                raise ModelError(f"A model's name has at most {MOST_CHARACTERS} characters; that one was left out.")
            source = reference(text).source
        except ModelError as error:
            notes.append(str(error))
            continue
        if source not in kept:
            kept.append(source)
    if len(kept) > models.MOST_MODELS:
        notes.append(f"At most {models.MOST_MODELS} models are compared at once; the others were left out.")
    return tuple(kept[: models.MOST_MODELS]), notes


def read_images(values: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Images of a link that are at hand, and one sentence for each that is not."""
    kept: list[str] = []
    notes: list[str] = []
    for text in dict.fromkeys(values):
        reason = gallery.missing(text)
        if reason is None:
            kept.append(text)
        else:
            notes.append(reason)
    if len(kept) > MOST_IMAGES:
        notes.append(f"At most {MOST_IMAGES} images are shown at once; the others were left out.")
    return tuple(kept[:MOST_IMAGES]), notes


def read_depth(text: str) -> Depth | None:
    """``8/12`` as a layer of how many, None when it is not that."""
    match = _LAYER.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        return None
    return Depth(int(match[1]), int(match[2]))


def write_depth(depth: Depth) -> str:
    """The layer as a link carries it."""
    return f"{depth.layer}/{depth.of}"


def read_point(text: str) -> Point | None:
    """``0.25,0.5`` as a point of the image, None when it is not one."""
    match = _POINT.fullmatch(text)
    return (float(match[1]), float(match[2])) if match else None


def write_point(point: Point) -> str:
    """The point with four decimals: finer than any patch of any image that is shown."""
    u, v = (min(max(int(value * 10_000), 0), 9_999) / 10_000 for value in point)
    return f"{u:.4f},{v:.4f}"


def read_head(text: str) -> str | None:
    """``mean``, ``max`` or a head counted from 1; None when it is neither."""
    return text if _HEAD.fullmatch(text) else None
