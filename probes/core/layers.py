"""Naming layers of a model in a parameter, so that one text means something in models of any depth.

A layer is an index from 0, ``last``, or a relative depth: a number with a decimal point from ``0.0``, the first layer,
to ``1.0``, which is the same as ``last``. A depth d among n layers is the layer round(d · (n − 1)), a half to the even
one; with all of Python's digits of i / (n − 1) it is the layer i of n again. Several layers are separated by commas,
or ``all``.
"""

import re

from model_zoo.adapter import ModelSpec

_LAYER = r"(?:last|[0-9]{1,4}|0\.[0-9]{1,20}|1\.0{1,20})"


def check_layer(layer: str, name: str = "layer") -> None:
    """Raise a ValueError unless the parameter ``name`` is one layer."""
    if not re.fullmatch(_LAYER, layer):
        raise ValueError(
            f"{name} is {layer!r}; it must be last or an index, 0 or more, such as 5, "
            "or a relative depth from 0.0 to 1.0, such as 0.5."
        )


def check_layers(layers: str) -> None:
    """Raise a ValueError unless the parameter ``layers`` is ``all`` or layers separated by commas."""
    if layers != "all" and not re.fullmatch(f"{_LAYER}(?:,{_LAYER})*", layers):
        raise ValueError(
            f"layers is {layers!r}; it must be all, last or indices such as 0,5,11, "
            "or relative depths from 0.0 to 1.0, such as 0.5."
        )


def is_last(layer: str) -> bool:
    """Whether a layer is ``last``, or 1.0, which is the same."""
    return layer == "last" or ("." in layer and float(layer) == 1)


def layer_index(layer: str, count: int, beyond: int = 0) -> int:
    """Index of a layer; it may be one that there is not.

    Args:
        layer: a text that `check_layer` lets pass.
        count: the layers that a relative depth runs over.
        beyond: what can be read after them, as the final norm; the end of it is ``last`` and 1.0.
    """
    if is_last(layer):
        return count + beyond - 1
    return round(float(layer) * (count - 1)) if "." in layer else int(layer)


def layer_indices(layers: str, count: int, beyond: int = 0) -> list[int]:
    """Indices of layers in order, each once; see `layer_index`."""
    if layers == "all":
        return list(range(count + beyond))
    return sorted({layer_index(layer, count, beyond) for layer in layers.split(",")})


def layer_point(spec: ModelSpec, layer: str) -> str:
    """The point that a layer's tokens are read at; empty where the model has none.

    ``last``, and so 1.0, is after the final norm where there is one; indices and depths below 1.0 are blocks.
    """
    blocks = [point for point in spec.points if point.startswith("resid_post.")]
    points = blocks if layer.isdigit() else [*blocks, *(point for point in spec.points if point == "norm")]
    index = layer_index(layer, len(blocks), len(points) - len(blocks))
    return points[index] if 0 <= index < len(points) else ""


def no_layer(spec: ModelSpec, layer: str) -> str | None:
    """Why there is no such layer, in one sentence; None where there is."""
    if layer_point(spec, layer):
        return None
    count = sum(point.startswith("resid_post.") for point in spec.points)
    if not count:
        return "the blocks of this model are not known here, so no layer can be read"
    return f"this model has the blocks 0 to {count - 1}: there is no block {layer}"
