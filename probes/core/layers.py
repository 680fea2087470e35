"""Naming one layer of a model in a parameter: ``last`` or an index from 0."""

import re

from model_zoo.adapter import ModelSpec


def check_layer(layer: str) -> None:
    """Raise a ValueError unless a layer is ``last`` or an index."""
    if layer != "last" and not re.fullmatch(r"\d{1,4}", layer):
        raise ValueError(f"layer is {layer!r}; it must be last or an index from 0, such as 5.")


def layer_point(spec: ModelSpec, layer: str) -> str:
    """The point that a layer's tokens are read at; empty where the model has none."""
    blocks = [point for point in spec.points if point.startswith("resid_post.")]
    if layer == "last":
        return "norm" if "norm" in spec.points else next(reversed(blocks), "")
    return f"resid_post.{int(layer)}" if f"resid_post.{int(layer)}" in blocks else ""


def no_layer(spec: ModelSpec, layer: str) -> str | None:
    """Why there is no such layer, in one sentence; None where there is."""
    if layer_point(spec, layer):
        return None
    count = sum(point.startswith("resid_post.") for point in spec.points)
    if not count:
        return f"the blocks of {spec.name} are not known here, so no layer can be read"
    return f"{spec.name} has the blocks 0 to {count - 1}: there is no block {layer}"
