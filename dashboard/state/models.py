"""What figures call a model, and its colour and mark: the same on every page."""

import re
from dataclasses import replace
from functools import lru_cache

from model_zoo.catalog import CATALOG
from model_zoo.reference import ModelReference, parse

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's colours, told apart with any common colour vision. The n-th chosen model has the n-th colour."""

MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star")
"""Plotly markers that go with the colours: colour is never the only difference."""

MOST_MODELS = len(COLOURS)


_SIZES = {"tiny": "Ti", "small": "S", "base": "B", "large": "L", "huge": "H"}
_FAMILIES = {"vit": "ViT", "deit": "DeiT", "deit3": "DeiT III", "beit": "BEiT", "beitv2": "BEiT v2"}
_OWN = {"scenes_vit": "ViT", "scenes_deit_distilled": "DeiT", "scenes_resnet": "ResNet"}
_PLAIN = re.compile(rf"({'|'.join(_FAMILIES)})_({'|'.join(_SIZES)})_patch(\d+)_\d+")
_KEYS = {entry.timm_name: key for key, entry in CATALOG.items() if entry.weights == "hub"}


@lru_cache(maxsize=512)
def reference(model: str) -> ModelReference:
    """What a MODEL string stands for, labelled with its title.

    Never a file of this machine, as links come from anyone. A timm name whose weights are in the catalog is that model.

    Raises:
        ModelError: it names no model.
    """
    named = parse(model, allow_files=False)
    if named.weights == "hub" and named.key is None and named.timm_name in _KEYS:
        named = parse(_KEYS[named.timm_name])
    return replace(named, label=_title(named))


def title(model: str) -> str:
    """What people call a model, on every page, in every file and in every message."""
    return reference(model).label


def _title(named: ModelReference) -> str:
    if named.key is not None:
        return CATALOG[named.key].title + (f", step {named.step}" if named.step is not None else "")
    if named.weights == "random":
        return f"{architecture(named.timm_name)}, untrained (seed {named.seed})"
    return named.timm_name


def architecture(timm_name: str) -> str:
    """What people call an architecture: ``ViT-S/16``; timm's own name where it is none of the plain ones."""
    name = timm_name.partition(".")[0]
    if plain := _PLAIN.fullmatch(name):
        return f"{_FAMILIES[plain[1]]}-{_SIZES[plain[2]]}/{plain[3]}"
    return _OWN.get(name, timm_name)


def colour(index: int) -> str:
    """Colour of the ``index``-th chosen model."""
    return COLOURS[index % MOST_MODELS]
