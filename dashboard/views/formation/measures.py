"""What can be followed along a training: one entry a quantity of a layer, read from a probe's dataset."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from dashboard.compute.asking import Ask, Params
from dashboard.images import sets
from model_zoo.scenes import CLASSES
from model_zoo.training.snapshots import Moment

Read = Callable[[xr.Dataset], xr.DataArray]


@dataclass(frozen=True)
class Measure:
    """A quantity of the layers of a model.

    Attributes:
        title: in the list of what can be chosen.
        label: the quantity and its unit, for axes.
        column: its name in the table, with the unit.
        probe: whose dataset it is read from.
        read: the dataset to ``(layer, head)``, ``(layer)``, ``(head)`` or one number.
        params: of the probe.
        against_final: the probe compares each moment with the finished model.
        even: what the probe says of attention that is even over all patches.
        log: its axis is logarithmic.
        said: how it is meant, one or two sentences.
        labelled: it needs the classes of scenes.
        least: images that it takes at least to say something.
    """

    title: str
    label: str
    column: str
    probe: str
    read: Read
    said: str
    params: Params = field(default_factory=dict)
    against_final: bool = False
    even: str = ""
    log: bool = False
    labelled: bool = False
    least: int = 1

    def asks(self, courses: Sequence[Sequence[Moment]], images: int) -> list[Ask]:
        """What is asked of the moments of trainings, each in order with the finished model last."""
        if images < self.least:
            return []
        if not self.against_final:
            return [Ask(self.probe, self.params)]
        pairs = [(one.model, along[-1].model) for along in courses for one in along]
        return [Ask(self.probe, self.params, models=(moment,), against=final) for moment, final in pairs]

    def values(self, dataset: xr.Dataset, pictures: Sequence[str] = ()) -> np.ndarray:
        """The quantity as (layers, heads); a quantity without layers or heads has one of them.

        Args:
            dataset: of the probe.
            pictures: ids of the images behind it.
        """
        if self.labelled:
            dataset = dataset.assign(label=("image", scene_labels(pictures)))
        found = self.read(dataset)
        missing = [dimension for dimension in ("layer", "head") if dimension not in found.dims]
        return found.expand_dims(missing).transpose("layer", "head").values.astype(float)


def scene_labels(pictures: Sequence[str]) -> np.ndarray:
    """Numbers of the classes of scenes; NaN for all where one of the images is no scene."""
    names = sets.scene_classes_of(tuple(pictures))
    return np.array([CLASSES.index(name) for name in names], float) if names else np.full(len(pictures), np.nan)


def _to_itself(dataset: xr.Dataset) -> xr.DataArray:
    """CKA of each layer with the same layer of the other."""
    return xr.DataArray(np.diagonal(dataset["cka"].values), dims="layer")


def _after_blocks(variable: xr.DataArray) -> xr.DataArray:
    """What a probe of the stream says at the ends of the blocks: (point, ...) to (layer, ...)."""
    ends = variable["point"].str.startswith("resid_post").values
    return variable.isel(point=ends).drop_vars(list(variable.coords)).rename(point="layer")


def _finest(dataset: xr.Dataset) -> xr.DataArray:
    """Amplitude at the highest frequency that each grid has."""
    return xr.DataArray(
        [row[np.isfinite(row)][-1] if np.isfinite(row).any() else np.nan for row in _after_blocks(dataset["relative"])],
        dims="layer",
    )


def _right(dataset: xr.Dataset) -> xr.DataArray:
    """Share of the images whose largest logit is that of their class."""
    answers, labels = dataset["embedding"].isel(layer=-1).argmax("feature"), dataset["label"]
    return (answers == labels).where(labels.notnull()).mean()


MEASURES: Mapping[str, Measure] = {
    "distance": Measure(
        "Attention distance", "distance (px)", "distance_px", "attention-distance", lambda d: d["distance"],
        "Renormalised over the patches, in pixels of the input; whatever size a model was trained at, it is shown at "
        "its final one.",
        even="uniform_distance",
    ),
    "entropy": Measure(
        "Entropy of attention", "entropy (nats)", "entropy_nats", "attention-statistics", lambda d: d["entropy"],
        "0: a query reads one token only; mean over patch queries.",
    ),
    "nmi": Measure(
        "Dependence on the query", "mutual information (0 to 1)", "nmi", "attention-statistics", lambda d: d["nmi"],
        "Normalised mutual information of queries and keys. 0: all patches read the same; 1: each its own.",
    ),
    "norm": Measure(
        "Size of tokens", "L2 norm (units of the model)", "token_norm", "token-norm",
        lambda d: d["norm"].mean(("image", "y", "x")),
        "Mean over patches after each block. It is in each model's own units: compare how it changes, not its level.",
    ),
    "cka": Measure(
        "Likeness to the finished model", "CKA with the finished model", "cka", "cka", _to_itself,
        "CKA of each block with the same block of the finished model, 1 for that itself, over the images' vectors by "
        "each model's card. Few images make a noisy estimate, which can leave 0 to 1 a little.",
        params={"representation": "card", "points": "blocks", "minibatch": 32},
        against_final=True, least=16,
    ),
    "fourier": Measure(
        "High frequencies", "Δ log amplitude at the highest frequency", "log_amplitude_high", "fourier", _finest,
        "Natural logarithm against the amplitude at frequency 0, after each block; lower is smoother.",
    ),
    "variance": Measure(
        "Variance over the image", "variance (units of the model, squared)", "variance", "feature-variance",
        lambda d: _after_blocks(d["variance"]),
        "Of feature maps over their positions, after each block, in each model's own units: compare how it changes.",
        log=True,
    ),
    "lesion": Measure(
        "Without a block's attention", "cosine to the intact embedding", "cosine_without_attention", "lesion",
        lambda d: d["part_cosine"].reindex(part=["attention"]).isel(part=0),
        "1: nothing changes when the attention of this block alone is left out.",
        params={"heads": False},
    ),
    "sharpness": Measure(
        "Sharpness of the loss", "largest eigenvalue of the Hessian", "hessian_eigenvalue", "hessian-spectrum",
        lambda d: d["leading"].mean("batch"),
        "Of the loss over mini-batches of four of these scenes, by eight products with it; rough, and depends on how "
        "the weights are scaled.",
        params={"products": 8, "batch": 4}, least=4,
    ),
    "iou": Measure(
        "Overlap with the object", "IoU, heads of the last layer", "iou", "saliency-score",
        lambda d: d["iou"].mean("image"),
        "Of the patches that hold 60% of a head's attention, with the true object; even attention has about 0.26.",
        params={"steps": 0},
    ),
    "accuracy": Measure(
        "Right answers", "share of right answers (0 to 1)", "top1", "embedding-similarity", _right,
        "Top-1 over these scenes. Few images make steps: the cards have it over 2,000 scenes.",
        params={"pool": "logits"}, labelled=True,
    ),
}  # fmt: skip
"""By the name in the link."""
