"""What figures call a model, and its colour and mark: the same on every page, in every preset and beside any other.

A colour is the model's own, not that of its place in the list; see decision 0015.
"""

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from model_zoo.catalog import CATALOG
from model_zoo.reference import ModelReference, parse

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's colours, told apart with any common colour vision."""

NAMES = ("blue", "orange", "green", "pink", "sky", "vermilion")
"""What links call the colours."""

MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star")
"""Plotly markers that go with the colours: colour is never the only difference."""

MOST_MODELS = len(COLOURS)

OWN = {
    "blue": "scenes-vit-supervised vit-t16-in21k vit-s16-in1k vit-b16-in1k vit-b16-in21k vit-b32-in21k vit-l16-in21k "
    "eva02-s14 eva02-b14 eva02-s14-336",
    "orange": "scenes-deit-distilled scenes-hybrid deit-s16 deit-t16-distilled dino-b8 dinov2-s14 mae-b16",
    "green": "scenes-vit-dino vit-s16-in21k deit-b16-distilled dino-b16 dinov2-reg-b14 dinov3-s16 dinov3-b16",
    "pink": "scenes-vit-mae deit-t16 dino-s16 dinov2-b14 mae-l16 clip-b16 clip-b16-laion cait-xxs24 cait-s24",
    "sky": "scenes-resnet deit-s16-distilled dino-s8 siglip-b16 siglip2-b16 resnet50",
    "vermilion": "scenes-vit-supervised-seed1 deit-b16 deit3-s16 deit3-b16 deit3-b16-in21k dinov2-reg-s14 beit-b16 "
    "beitv2-b16 swin-tiny swin-base swinv2-tiny",
}
"""Keys of the catalog by their own colour: no preset holds two of one colour."""
_OWN = {key: COLOURS[NAMES.index(name)] for name, keys in OWN.items() for key in keys.split()}


_SIZES = {"tiny": "Ti", "small": "S", "base": "B", "large": "L", "huge": "H"}
_FAMILIES = {"vit": "ViT", "deit": "DeiT", "deit3": "DeiT III", "beit": "BEiT", "beitv2": "BEiT v2"}
_SHIPPED = {"scenes_vit": "ViT", "scenes_deit_distilled": "DeiT", "scenes_resnet": "ResNet", "scenes_hybrid": "Hybrid"}
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
    if named.weights == "trained":
        return named.label
    if named.weights == "random":
        return f"{architecture(named.timm_name)}, untrained (seed {named.seed})"
    return named.timm_name


def architecture(timm_name: str) -> str:
    """What people call an architecture: ``ViT-S/16``; timm's own name where it is none of the plain ones."""
    name = timm_name.partition(".")[0]
    if plain := _PLAIN.fullmatch(name):
        return f"{_FAMILIES[plain[1]]}-{_SIZES[plain[2]]}/{plain[3]}"
    return _SHIPPED.get(name, timm_name)


def own_colour(model: str) -> str:
    """The colour that a model has wherever no other model has it already; its snapshots have the same."""
    key, name = reference(model).key, reference(model).timm_name
    return _OWN.get(key or "") or COLOURS[zlib.crc32((key or name).encode()) % MOST_MODELS]


def colours(chosen: Iterable[str], kept: Mapping[str, str] | None = None) -> dict[str, str]:
    """Model to colour, no colour twice among the first six.

    Args:
        chosen: MODEL strings in order.
        kept: colours that models have already and keep.

    Returns:
        The kept colour; else the model's own; else, where a model that comes before has that, the first that is free.
    """
    given = {model: (kept or {}).get(model, "") for model in chosen}
    for model in given:
        if not given[model] and own_colour(model) not in given.values():
            given[model] = own_colour(model)
    for model in given:
        free = (colour for colour in COLOURS if colour not in given.values())
        given[model] = given[model] or next(free, own_colour(model))
    return given


def mark(colour: str) -> str:
    """The marker that goes with a colour."""
    return MARKS[COLOURS.index(colour)] if colour in COLOURS else MARKS[0]


def read_colours(values: Iterable[str], chosen: Iterable[str]) -> dict[str, str]:
    """Colours that a link gives to chosen models, as ``NAME:MODEL``; what is none of that is passed over."""
    wanted = {model: name for name, _, model in (value.partition(":") for value in values) if name in NAMES}
    given: dict[str, str] = {}
    for model in chosen:
        colour = COLOURS[NAMES.index(wanted[model])] if model in wanted else ""
        if colour and colour not in given.values():
            given[model] = colour
    return given


def write_colours(given: Mapping[str, str]) -> tuple[str, ...]:
    """What a link has to carry: the colours that are not the models' own."""
    return tuple(
        f"{NAMES[COLOURS.index(colour)]}:{model}" for model, colour in given.items() if colour != own_colour(model)
    )


def learned_scenes(model: str) -> bool:
    """Whether a model's weights were trained on the procedural scenes, as the catalog says."""
    key = reference(model).key
    return key is not None and CATALOG[key].data == "procedural scenes"
