"""One vector for each image under each model, at the chosen layer, and what they say about how two models agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from dashboard.compute.asking import ModelResult
from dashboard.draw.palette import number
from dashboard.images.sets import ImageSet
from dashboard.state.selection import Depth
from dashboard.views.embeddings import projection, similarity

POOLS = {"card": "by each model's card", "cls": "CLS", "mean": "mean of patches", "logits": "logits"}


@dataclass(frozen=True)
class ImageVectors:
    """One model's vectors at the chosen layer."""

    title: str
    colour: str
    note: str
    square: np.ndarray
    vectors: np.ndarray

    @cached_property
    def digest(self) -> str:
        """Names the vectors, for what is computed from them once."""
        return projection.digest(self.vectors)


def chosen_layer(model: ModelResult, depth: Depth) -> ImageVectors | None:
    """The chosen layer of one model; the last layer is what comes out of the final norm."""
    dataset = model.datasets.get("embedding-similarity")
    if dataset is None:
        return None
    index = layer_index(dataset, depth)
    one = dataset.isel(layer=index)
    width = int(one["feature_count"])
    point = str(one["point"].values)
    where = {"norm": "after the final norm", "logits": "logits"}.get(point) or f"layer {int(point.split('.')[1]) + 1}"
    used = str(one["pool_used"].values)
    asked = str(dataset.attrs["pool"])
    if asked == "card" and model.spec is not None:
        asked = model.spec.features
    said = " (it has no CLS there)" if asked == "cls" and used == "mean" else ""
    note = where if used == "logits" else f"{where} · {POOLS[used]}{said}"
    return ImageVectors(model.title, model.colour, note, one["similarity"].values, one["embedding"].values[:, :width])


def layer_index(dataset: xr.Dataset, depth: Depth) -> int:
    """Where a depth lies among a model's blocks; the last entry for the last layer."""
    points = dataset["point"].values.tolist()
    blocks = [i for i, point in enumerate(points) if point.startswith("resid_post.")]
    if depth.layer == depth.of or not blocks:
        return len(points) - 1
    return blocks[depth.index(len(blocks))]


def agreement(found: Sequence[ImageVectors]) -> pd.DataFrame:
    """Numbers for every two models."""
    if len(found) < 2:
        return pd.DataFrame()
    n = len(found[0].square)
    k = similarity.neighbours_of(n)
    near = [similarity.members(one.square, k) for one in found] if k else []
    grams = [similarity.gram(one.vectors) for one in found] if n >= 4 else []
    rows = []
    for a, b in combinations(range(len(found)), 2):
        rows.append(
            {
                "models": f"{found[a].title} and {found[b].title}",
                "neighbour overlap": similarity.overlap(near[a], near[b]) if k else np.nan,
                "by chance": k / (n - 1) if k else np.nan,
                "k": k,
                "CKA": similarity.aligned(grams[a], grams[b]) if n >= 4 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def reading(found: Sequence[ImageVectors], chosen: ImageSet, table: pd.DataFrame) -> str:
    """What the numbers say, with n."""
    n = len(chosen.images)
    if n < 2:
        return "One image has nothing to be compared with: choose more images."
    said = []
    for one in found:
        mean, deviation = similarity.spread(one.square)
        own = similarity.own_class(one.square, chosen.classes)
        share = f", {number(100 * own)}% have their nearest image in their own class" if np.isfinite(own) else ""
        said.append(f"**{one.title}**: two images have similarity {number(mean)} ± {number(deviation)}{share}")
    text = "; ".join(said) + f" (mean ± standard deviation over pairs, n = {n} images)."
    if len(table) and np.isfinite(table["neighbour overlap"][0]):
        row = table.iloc[0]
        text += (
            f" {row['models']} share {number(100 * row['neighbour overlap'])}% of the {row['k']} nearest images"
            f" ({number(100 * row['by chance'])}% by chance)"
        )
        text += f"; CKA {number(row['CKA'])}." if np.isfinite(row["CKA"]) else "."
    if all(np.nanmin(one.square) > 1 - 1e-6 for one in found):
        text += " All images are the same to every model."
    return text


def pairs(found: Sequence[ImageVectors], chosen: ImageSet) -> pd.DataFrame:
    """Similarities of every two images of every model."""
    names = np.array(chosen.images)
    first, second = np.triu_indices(len(names), 1)
    tables = [
        pd.DataFrame(
            {
                "model": one.title,
                "image": names[first],
                "image_b": names[second],
                "cosine_similarity": one.square[first, second],
            }
        )
        for one in found
    ]
    return pd.concat(tables, ignore_index=True)
