"""What figures call a model, and its colour and mark: the same on every page."""

from functools import lru_cache

from model_zoo.catalog import CATALOG
from model_zoo.reference import ModelReference, parse

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's colours, told apart with any common colour vision. The n-th chosen model has the n-th colour."""

MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star")
"""Plotly markers that go with the colours: colour is never the only difference."""

MOST_MODELS = len(COLOURS)


@lru_cache(maxsize=512)
def reference(model: str) -> ModelReference:
    """What a MODEL string stands for; never a file of this machine, as links come from anyone.

    Raises:
        ModelError: it names no model.
    """
    return parse(model, allow_files=False)


def title(model: str) -> str:
    """What figures call a model: the catalog's title, else the label made from its timm name."""
    named = reference(model)
    if named.key is None:
        return named.label
    return CATALOG[named.key].title + (f", step {named.step}" if named.step is not None else "")


def learned_scenes(model: str) -> bool:
    """Whether a model's weights were trained on the procedural scenes, as the catalog says."""
    key = reference(model).key
    return key is not None and CATALOG[key].data == "procedural scenes"


def colour(index: int) -> str:
    """Colour of the ``index``-th chosen model."""
    return COLOURS[index % MOST_MODELS]
