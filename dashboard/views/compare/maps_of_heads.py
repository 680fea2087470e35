"""The maps of a chosen layer and head on several images: what each model's is, on what it lies, a table and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboard.compute.asking import ModelResult, Outcome
from dashboard.controls import choices
from dashboard.draw import head_maps, sentences
from dashboard.images import masks
from dashboard.state.selection import Depth, Point
from probes.core.saliency import baselines, overlap


@dataclass(frozen=True)
class HeadMap:
    """One model's map of the chosen layer and head on one image, or why there is none.

    Attributes:
        values: attention weights (y, x).
        tokens: how many tokens share the attention.
        note: which layer, head and query it is.
        message: why there is no map.
        answering: the token that answers in the stead of CLS; empty where CLS does.
    """

    values: np.ndarray | None = None
    tokens: int = 1
    note: str = ""
    message: str = ""
    answering: str = ""


def head_map(model: ModelResult, depth: Depth, head: str, query: str) -> HeadMap:
    """The map of one model.

    Args:
        model: with its attention.
        depth: the layer.
        head: ``mean``, ``max`` or a number from 1.
        query: whose attention was asked.
    """
    dataset = model.datasets.get("attention-maps")
    if dataset is None or model.spec is None:
        return HeadMap(message=model.message)
    layers = dataset.sizes["layer"]
    layer = depth.index(layers)
    used = str(dataset["query_used"].values[layer])
    if used == "none":
        return HeadMap(message="In this layer only CLS asks: choose the CLS query.")
    one = head_maps.choose_head(head_maps.layer_heads(dataset["attention"], layer), head)
    if not np.isfinite(one.values).all():
        return HeadMap(message="The point lies outside this model's crop.")
    answering = choices.answering(model.spec.layers[layer], query)
    said = f" · {answering}" if answering else ""
    tokens = model.spec.layers[layer].shared_by(used)
    return HeadMap(one.values, tokens, f"layer {layer + 1} of {layers} · {one.head}{said}", answering=answering)


def head_maps_of(outcome: Outcome, depth: Depth, head: str, query: str) -> list[HeadMap]:
    """The maps of all models on one image, as `head_map` makes each."""
    return [head_map(model, depth, head, query) for model in outcome.models]


def on_object(picture: str, key: str, outcome: Outcome, found: Sequence[HeadMap], query: str) -> str:
    """What part of each model's map lies on the object of the picture, in words; empty where none is known."""
    shares: dict[str, float] = {}
    areas: list[float] = []
    centres: list[float] = []
    for model, one in zip(outcome.models, found, strict=True):
        if key and one.values is not None:
            geometry = model.geometries[0]
            covered = masks.covered(picture, key, geometry, one.values.shape)
            mask = masks.mask(picture, key)
            shares[model.title] = overlap(one.values, mask, geometry, 0.6, covered).mass_inside
            areas.append(float(covered.mean()))
            centres.append(baselines(mask, geometry, covered, 0.6)["centre"].mass_inside)
    return sentences.on_object(shares, areas, centres, masks.named(key), query)


def table(each: Mapping[str, Outcome], depth: Depth) -> pd.DataFrame:
    """The shown layer's maps of every image: model, layer, head, row and column from 1, attention weight."""
    parts = [
        head_maps.table(dataset["attention"], depth.index(dataset.sizes["layer"])).assign(image=picture, model=name)
        for picture, outcome in each.items()
        for name, dataset in outcome.ready("attention-maps").items()
    ]
    together = pd.concat(parts, ignore_index=True)
    return together[["image", "model", *(name for name in together if name not in ("image", "model"))]]


def in_words(
    each: Sequence[Outcome],
    found: Sequence[Sequence[HeadMap]],
    *,
    tau: float,
    head: str,
    query: str,
    point: Point | None,
) -> str:
    """How concentrated the maps of all rows are, in one sentence, and which patch was asked.

    Args:
        each: the models, of every row.
        found: their maps, of every row.
        tau: share of a map's sum that its mask holds.
        head: ``mean``, ``max`` or a number from 1.
        query: whose attention it is.
        point: the clicked patch, if one is asked.
    """
    counted = [
        sentences.concentration(model.title, one.values, tau)
        for outcome, ones in zip(each, found, strict=True)
        for model, one in zip(outcome.models, ones, strict=True)
        if one.values is not None
    ]
    which = {"mean": "Mean over heads", "max": "Maximum over heads"}.get(head, f"Head {head}")
    others = {
        model.title: one.answering
        for outcome, ones in zip(each, found, strict=True)
        for model, one in zip(outcome.models, ones, strict=True)
        if one.answering
    }
    whose = choices.QUERY_TEXT[query] + "".join(f" (in {name}: {token})" for name, token in others.items())
    said = sentences.sentence(counted, tau, whose, which, n=len(found), shares=head != "max")
    if said and point and len(found) > 1:
        across, down = (sentences.percent(value) for value in point)
        said += f" The clicked patch is the one at {across} of the width and {down} of the height, in every image."
    return said
