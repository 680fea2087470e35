"""Patch similarity: which patches of these images are like one patch of one image, and which correspond."""

import re
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model_zoo.adapter import ModelSpec
from probes.core.base import Probe, one_of
from probes.core.capture import Tokens
from probes.core.layers import check_layer, layer_point, no_layer

POINT = re.compile(r"(0(?:\.\d{1,6})?),(0(?:\.\d{1,6})?)")
FACETS = ("token", "query", "key", "value")
VARIABLES = {
    "similarity": "cosine similarity",
    "match": "index of the patch, row by row",
    "match_similarity": "cosine similarity",
    "mutual": "1 where mutual",
}


@dataclass
class _State:
    spec: ModelSpec
    grid: tuple[int, int] = (0, 0)
    reference: Tensor | None = None  # unit features (patch, channel) of the image asked about
    waiting: dict[int, Tensor] = field(default_factory=dict)  # unit features of images that came before it
    found: dict[int, np.ndarray] = field(default_factory=dict)  # image -> (variable, patch)


@dataclass(frozen=True)
class PatchSimilarity(Probe):
    r"""Cosine similarity of one patch to every patch of every image, and the best match of every patch.

    .. math:: s_j = \frac{f_q \cdot f_j}{\lVert f_q\rVert\,\lVert f_j\rVert}

    with :math:`f_q` the feature of the query patch in image ``of``. Patch i of image ``of`` and patch j of another
    match mutually when each is the other's most similar patch ("best buddies").

    Args:
        query: ``center``; ``ROW:COL``, a patch of the model's input grid, from 0 (of the layer's own grid in a network
            without patches); or ``U,V``, the patch under a point of the input, as fractions of its width and height.
        of: the image that the query patch is in, by its place in the run, from 0.
        facet: ``token``, or what the layer's attention compares: its ``query``, ``key`` or ``value`` vectors, heads
            side by side, after any rotary embedding and normalisation.
        layer: ``last`` or an index from 0. For tokens ``last`` is after the final norm, where the model has one.

    Returns:
        ``similarity`` (image, y, x): −1 to 1; 1 at the query patch itself. For every patch (y, x) of image ``of`` and
        every image: ``match``, the most similar patch there (row × grid width + column), ``match_similarity``, and
        ``mutual``, 1 where that patch's best match leads back.

    Note:
        Features hold position as well as content: patches at the same place are alike for that alone. A large part
        common to all patches raises every similarity; compare within a model, by order. In the last layers of some
        models a few patches hold global information instead of their own.

    Reference:
        Amir et al. 2021, arXiv:2112.05814 (facets, best buddies).
    """

    query: str = "center"
    of: int = 0
    facet: str = "token"
    layer: str = "last"
    title: ClassVar[str] = "Patch similarity"
    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def __post_init__(self) -> None:
        if not (self.query == "center" or re.fullmatch(r"\d{1,4}:\d{1,4}", self.query) or POINT.fullmatch(self.query)):
            raise ValueError(
                f"query is {self.query!r}; it must be center, ROW:COL such as 3:7, or U,V such as 0.2,0.5."
            )
        if self.of < 0:
            raise ValueError(f"of is {self.of!r}; it must be the place of an image in the run, from 0.")
        one_of("facet", self.facet, FACETS)
        check_layer(self.layer)

    def undefined(self, spec: ModelSpec) -> str | None:
        """Facets that cannot be read, layers and patches that there are not."""
        if self.facet == "token":
            if reason := no_layer(spec, self.layer):
                return reason
        elif not self.taps(spec):
            if not any(point.startswith(f"{self.facet}.") for point in spec.points):
                return f"{spec.name} has no layer whose {self.facet} vectors can be read for every patch; choose token"
            return f"layer {self.layer} of {spec.name} has no {self.facet} vectors that can be read; choose another"
        row, column = self._patch(spec.grid)
        if spec.is_transformer and not (row < spec.grid[0] and column < spec.grid[1]):
            return f"{spec.name} has {spec.grid[0]}×{spec.grid[1]} patches: there is no patch {self.query}"
        return None

    def taps(self, spec: ModelSpec) -> tuple[str, ...]:
        """The chosen layer's tokens or facet."""
        if self.facet == "token":
            point = layer_point(spec, self.layer)
        else:
            every = [p for p in spec.points if p.startswith(f"{self.facet}.")]
            wanted = every[-1:] if self.layer == "last" else [f"{self.facet}.{int(self.layer)}"]
            point = next((p for p in wanted if p in every), "")
        return (point,) if point else ()

    def _patch(self, grid: tuple[int, int]) -> tuple[int, int]:
        if self.query == "center":
            return grid[0] // 2, grid[1] // 2
        if point := POINT.fullmatch(self.query):
            return int(float(point[2]) * grid[0]), int(float(point[1]) * grid[1])
        row, column = self.query.split(":")
        return int(row), int(column)

    def init(self, spec: ModelSpec) -> _State:
        """Nothing seen."""
        return _State(spec)

    def update(self, state: _State, seen: Tokens) -> _State:
        """Keep unit features, and compare as soon as the image asked about is there."""
        values = seen.patches if seen.values.dtype == torch.float64 else seen.patches.float()
        state.grid = seen.grid
        state.waiting |= dict(zip(seen.images, torch.nn.functional.normalize(values, dim=-1), strict=True))
        return self._settle(state)

    def merge(self, a: _State, b: _State) -> _State:
        """Images of both."""
        reference = a.reference if a.reference is not None else b.reference
        grid = a.grid if any(a.grid) else b.grid
        return self._settle(_State(a.spec, grid, reference, a.waiting | b.waiting, a.found | b.found))

    def _settle(self, state: _State) -> _State:
        if self.of in state.waiting:
            state.reference = state.waiting[self.of]
        if state.reference is not None:
            for image, features in state.waiting.items():
                state.found[image] = self._compare(state, features).cpu().numpy()
            state.waiting = {}
        return state

    def _compare(self, state: _State, features: Tensor) -> Tensor:
        """`VARIABLES` of one image: (variable, patch)."""
        height, width = state.grid
        row, column = self._patch(state.spec.grid if state.spec.is_transformer else state.grid)
        if state.spec.is_transformer:  # a later stage of a windowed model has a coarser grid
            row, column = row * height // state.spec.grid[0], column * width // state.spec.grid[1]
        with torch.autocast(features.device.type, enabled=False):
            every = (state.reference @ features.T).clamp(-1, 1)  # type: ignore[operator]
        best, match = every.max(1)
        mutual = every.argmax(0)[match] == torch.arange(len(match), device=match.device)
        query = every[min(row, height - 1) * width + min(column, width - 1)]
        return torch.stack([query, match.to(every), best, mutual.to(every)])

    def compute(self, state: _State) -> xr.Dataset:
        """Lay the comparisons out over the images."""
        if state.reference is None:
            seen = len(state.waiting)
            return xr.Dataset(attrs={"undefined": f"there is no image {self.of} among the {seen} of this run, from 0"})
        images = sorted(state.found)
        stacked = np.stack([state.found[image] for image in images]).reshape(len(images), len(VARIABLES), *state.grid)
        variables = {}
        for i, (name, units) in enumerate(VARIABLES.items()):
            kind = np.int32 if name in ("match", "mutual") else np.float32
            variables[name] = (("image", "y", "x"), stacked[:, i].astype(kind), {"units": units})
        point = self.taps(state.spec)[0]
        attrs = {"query": self.query, "of": self.of, "facet": self.facet, "point": point}
        return xr.Dataset(variables, coords={"image": images}, attrs=attrs)
