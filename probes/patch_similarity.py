"""Patch similarity: which patches of these images are like one patch of one image, and which correspond."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model_zoo.adapter import ModelSpec
from probes.core.base import ReferenceProbe, one_of
from probes.core.capture import Tokens
from probes.core.layers import check_layer, is_last, layer_index, layer_point, no_layer
from probes.core.queries import Patch, Query, read_query, scaled

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
    asked: Patch | None = None  # of the layer's grid, in the image asked about; None outside of what the model sees
    reference: Tensor | None = None  # unit features (patch, channel) of that image
    waiting: dict[int, Tensor] = field(default_factory=dict)  # unit features of images that came before it, if any did
    found: dict[int, np.ndarray] = field(default_factory=dict)  # image -> (variable, patch)


@dataclass(frozen=True)
class PatchSimilarity(ReferenceProbe):
    r"""Cosine similarity of one patch to every patch of every image, and the best match of every patch.

    .. math:: s_j = \frac{f_q \cdot f_j}{\lVert f_q\rVert\,\lVert f_j\rVert}

    with :math:`f_q` the feature of the query patch in image ``of``. Patch i of image ``of`` and patch j of another
    match mutually when each is the other's most similar patch ("best buddies").

    Args:
        query: ``center``; ``ROW:COL``, a patch of the model's input grid, from 0 (of the layer's own grid in a network
            without patches); or a point, as fractions of width and height: ``@X,Y`` of the image ``of``, ``U,V`` of the
            model's input.
        of: the image that the query patch is in, by its place in the run, from 0.
        facet: ``token``, or what the layer's attention compares: its ``query``, ``key`` or ``value`` vectors, heads
            side by side, after any rotary embedding and normalisation.
        layer: ``last``, an index from 0, or a relative depth from 0.0 to 1.0 over the blocks, of which 1.0 is
            ``last``, see `probes.core.layers`. For tokens ``last`` is after the final norm, where the model has one.

    Returns:
        ``similarity`` (image, y, x): −1 to 1; 1 at the query patch itself, which the coordinates ``query_row`` and
        ``query_column`` name in the layer's own grid; NaN and −1 where the model sees no such patch. For every patch
        (y, x) of image ``of`` and every image: ``match``, the most similar patch there (row × grid width + column),
        ``match_similarity``, and ``mutual``, 1 where that patch's best match leads back.

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
        self._query()
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
                return f"this model has no layer whose {self.facet} vectors can be read for every patch; choose token"
            return f"layer {self.layer} of this model has no {self.facet} vectors that can be read; choose another"
        if spec.is_transformer and self._query().patch and self._query().patch_of(spec.grid) is None:
            return f"this model has {spec.grid[0]}×{spec.grid[1]} patches: there is no patch {self.query}"
        return None

    def taps(self, spec: ModelSpec) -> tuple[str, ...]:
        """The chosen layer's tokens or facet."""
        if self.facet == "token":
            point = layer_point(spec, self.layer)
        else:
            every = [p for p in spec.points if p.startswith(f"{self.facet}.")]
            blocks = sum(p.startswith("resid_post.") for p in spec.points)
            wanted = every[-1:] if is_last(self.layer) else [f"{self.facet}.{layer_index(self.layer, blocks)}"]
            point = next((p for p in wanted if p in every), "")
        return (point,) if point else ()

    def _query(self) -> Query:
        return read_query(self.query, ("center",), input_points=True)

    def init(self, spec: ModelSpec) -> _State:
        """Nothing seen."""
        return _State(spec)

    def update(self, state: _State, seen: Tokens) -> _State:
        """Keep unit features, and compare as soon as the image asked about is there."""
        features = _unit_features(seen)
        if state.reference is None and self.of in seen.images:
            self._ask(state, seen, features)
        state.waiting |= dict(zip(seen.images, features, strict=True))
        return self._settle(state)

    def refer(self, state: _State, seen: Tokens) -> _State:
        """Keep what all images are compared with."""
        self._ask(state, seen, _unit_features(seen))
        return state

    def _ask(self, state: _State, seen: Tokens, features: Tensor) -> None:
        place = seen.images.index(self.of)
        geometry = seen.geometries[place] if seen.geometries else None
        # A windowed model's later stages have coarser grids; a network without patches is asked in the layer's own.
        grid = state.spec.grid if state.spec.is_transformer else seen.grid
        patch = self._query().patch_of(grid, geometry)
        state.asked = None if patch is None else scaled(patch, grid, seen.grid)
        state.grid, state.reference = seen.grid, features[place].clone()

    def merge(self, a: _State, b: _State) -> _State:
        """Images of both."""
        reference = a.reference if a.reference is not None else b.reference
        grid = a.grid if any(a.grid) else b.grid
        return self._settle(
            _State(a.spec, grid, a.asked or b.asked, reference, a.waiting | b.waiting, a.found | b.found)
        )

    def _settle(self, state: _State) -> _State:
        if state.reference is not None:
            for image, features in state.waiting.items():
                state.found[image] = self._compare(state, features).cpu().numpy()
            state.waiting = {}
        return state

    def _compare(self, state: _State, features: Tensor) -> Tensor:
        """`VARIABLES` of one image: (variable, patch)."""
        with torch.autocast(features.device.type, enabled=False):
            every = (state.reference @ features.T).clamp(-1, 1)  # type: ignore[operator]
        best, match = every.max(1)
        mutual = every.argmax(0)[match] == torch.arange(len(match), device=match.device)
        if state.asked is None:
            query = torch.full_like(best, torch.nan)
        else:
            query = every[state.asked[0] * state.grid[1] + state.asked[1]]
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
        row, column = state.asked or (-1, -1)
        coordinates = {"image": images, "query_row": row, "query_column": column}
        return xr.Dataset(variables, coords=coordinates, attrs=attrs)


def _unit_features(seen: Tokens) -> Tensor:
    """Of every patch, (image, patch, channel)."""
    values = seen.patches if seen.values.dtype == torch.float64 else seen.patches.float()
    return torch.nn.functional.normalize(values, dim=-1)
