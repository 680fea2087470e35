"""Maps of frames: what one model shows of each, through the probes that show it of images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

import probes
from model_zoo.adapter import Adapter
from model_zoo.images import sources
from probes.core import principal
from probes.core.base import Probe
from probes.core.capture import Batch, Tokens, forward, ready_to_copy, same_device
from probes.core.layers import check_layer, is_last, layer_index, layer_point, no_layer
from probes.core.precision import Dtype, autocast, choose
from probes.core.runner import Fold, run
from probes.core.video.clip import VideoError

KINDS = ("attention", "rollout", "mask", "pca")
DRAWN = ("overlay", "map", "cutout")
SCENES = 16
"""Procedural scenes with known objects on which the best head of a model is chosen."""


@dataclass(frozen=True)
class Show:
    """What a film shows of each model.

    Attributes:
        kind: ``attention`` of the CLS token (of the mean over patches where there is none); ``rollout``; ``mask``, the
            fewest patches that hold ``tau`` of the attention; ``pca``, the first three principal components of the
            patch features as colours.
        head: ``mean``, ``best`` (see `best_head`), or an index from 0; of attention and mask.
        layer: ``last``, an index from 0, or a relative depth, see `probes.core.layers`; not of rollout.
        tau: share of the attention in the mass mask.
    """

    kind: str = "attention"
    head: str = "mean"
    layer: str = "last"
    tau: float = 0.6

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise VideoError(f"What is shown is {self.kind!r}; it must be one of {', '.join(KINDS)}.")
        if self.head not in ("mean", "best") and not (self.head.isascii() and self.head.isdigit()):
            raise VideoError(f"The head is {self.head!r}; it must be mean, best, or an index such as 0.")
        if not 0 < self.tau <= 1:
            raise VideoError(f"tau is {self.tau:g}; it must be above 0 and at most 1.")
        try:
            check_layer(self.layer)
        except ValueError as error:
            raise VideoError(str(error)) from None
        if self.kind == "rollout" and not is_last(self.layer):
            raise VideoError("Rollout goes through all layers: leave the layer at last.")
        if self.head == "best" and self.kind in ("attention", "mask") and not is_last(self.layer):
            raise VideoError("The best head is chosen in the last layer: leave the layer at last, or name a head.")

    @property
    def by_head(self) -> bool:
        """Whether the head matters."""
        return self.kind in ("attention", "mask")


class Maps:
    """One model's maps of frames.

    Args:
        adapter: the model, built for the frames' size.
        show: what is wanted.
        dtype: of forward passes, see `probes.core.precision`.

    Attributes:
        undefined: why the model has no such map, else None.
        channels: 3 for colours, else 0.
        note: which layer and head it is, counted from 1.
    """

    def __init__(self, adapter: Adapter, show: Show, dtype: Dtype = "auto") -> None:
        self.adapter, self.show = adapter, show
        self._dtype = choose(dtype, adapter, 0)
        self.channels = 3 if show.kind == "pca" else 0
        self.undefined = self._undefined()
        self.head = -1
        self._basis: principal.Basis | None = None
        self._range = np.zeros(3), np.ones(3)
        if self.undefined is None and show.by_head and show.head != "mean":
            self.head = best_head(adapter, show.tau) if show.head == "best" else int(show.head)
        self.note = "" if self.undefined else self._note()

    def _undefined(self) -> str | None:
        spec, show = self.adapter.spec, self.show
        if show.kind == "pca":
            return no_layer(spec, show.layer)
        if (reason := self._probe().undefined(spec)) is not None:
            return reason
        if show.by_head and show.head.isdigit():
            heads = spec.layers[layer_index(show.layer, len(spec.layers))].heads
            if int(show.head) >= heads:
                return f"this layer has the heads 0 to {heads - 1}: there is no head {show.head}"
        return None

    def _probe(self) -> Probe:
        if self.show.kind == "rollout":
            return probes.load("attention-rollout")()
        return probes.load("attention-maps")(layers=self.show.layer)  # type: ignore[call-arg]

    def _note(self) -> str:
        spec = self.adapter.spec
        if self.show.kind == "rollout":
            return "rollout"
        if self.show.kind == "pca":
            point = layer_point(spec, self.show.layer)
            return f"PCA, {'after the final norm' if point == 'norm' else 'block ' + str(int(point.split('.')[1]) + 1)}"
        layer = layer_index(self.show.layer, len(spec.layers))
        head = "mean of heads" if self.head < 0 else f"head {self.head + 1}"
        best = f", best on {SCENES} scenes" if self.show.head == "best" else ""
        return f"layer {layer + 1}, {head}{best}"

    def fit(self, frames: Sequence[np.ndarray]) -> None:
        """Choose the components of colours, and their range, on sampled frames; they hold for all frames then."""
        features = self._features(frames)
        rows = features.reshape(-1, features.shape[-1])
        self._basis = principal.fit(rows)
        self._range = principal.colour_range(self._basis.scores(rows))

    def of(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Maps of frames (height, width, 3) of the model's input size.

        Returns:
            float32 (frames, rows, columns), not negative; (frames, rows, columns, 3), 0 to 1, of colours.
        """
        if self.show.kind == "pca":
            assert self._basis is not None, "colours are fitted first"
            scores = self._basis.scores(self._features(frames))
            return principal.as_colours(scores, *self._range).astype(np.float32)
        fold = Fold(self.adapter, {"map": self._probe()})
        with torch.inference_mode(), autocast(self.adapter, self._dtype):
            fold.take(self._batch(frames))
        found = fold.compute()["map"]
        if self.show.kind == "rollout":
            return np.nan_to_num(found["rollout"].values).astype(np.float32)
        layer = self.adapter.spec.layers[int(found["layer"].values[0])]
        heads = found["attention"].values[:, 0, : layer.heads, : layer.grid[0], : layer.grid[1]]
        chosen = heads.mean(1) if self.head < 0 else heads[:, self.head]
        return chosen.astype(np.float32)

    def _features(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Patch features (frames, rows, columns, channels)."""
        point = layer_point(self.adapter.spec, self.show.layer)
        kept: list[np.ndarray] = []

        def keep(tokens: Tokens) -> None:
            values = tokens.patches.float().cpu().numpy().astype(np.float64)
            kept.append(values.reshape(len(values), *tokens.grid, -1))

        batch = self._batch(frames)
        with torch.inference_mode(), autocast(self.adapter, self._dtype):
            forward(self.adapter, batch.inputs, batch.images, on_tokens=keep, points=(point,))
        return kept[0]

    def _batch(self, frames: Sequence[np.ndarray]) -> Batch:
        originals = [Image.fromarray(frame) for frame in frames]
        inputs = ready_to_copy(self.adapter, torch.stack([self.adapter.preprocess(image) for image in originals]))
        return Batch(self.adapter, range(len(frames)), same_device(self.adapter, inputs), originals)


def best_head(adapter: Adapter, tau: float) -> int:
    """The head of the last layer whose mass mask fits the object best, before the clip is seen.

    The mean IoU over held-out procedural scenes, stretched to the model's input; see `probes.saliency_score`.
    """
    score = probes.load("saliency-score")(steps=0, tau=tau)  # type: ignore[call-arg]
    found = run({"model": adapter}, sources([f"scenes:{SCENES}"]), {"score": score}, dtype="float32")
    return int(np.argmin(found["score"]["model"]["rank"].values))
