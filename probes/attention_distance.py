"""Mean attention distance: how far, in pixels, every head looks."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model_zoo.adapter import ModelSpec
from model_zoo.layout import AttentionLayer
from probes.core.attention import AttentionRows
from probes.core.base import Probe, layer_coordinates
from probes.core.moments import Moments, by_layer, images, merge

WHOLE = 4096
"""Up to so many patches all distances between them are kept, 64 MiB; of more they are made block by block."""


@dataclass
class _State:
    spec: ModelSpec
    moments: dict[int, Moments] = field(default_factory=dict)  # layer -> over images, of (distance or CLS mass, head)
    open: dict[int, Tensor] = field(default_factory=dict)  # (image, distance or CLS mass, head), batch under way


@dataclass(frozen=True)
class AttentionDistance(Probe):
    r"""Mean distance between a patch and the patches it attends to, per layer and head.

    .. math:: d_{lh} = \frac1{IN} \sum_i \sum_{q} \sum_{k} \tilde A^{(l,h)}_{iqk} \; p\,\lVert x_q - x_k \rVert_2

    over :math:`I` images and :math:`N` patch queries, :math:`x` in patches, :math:`p` the side of a patch in pixels of
    the model's input. Prefix tokens neither ask nor answer.

    Args:
        renormalise: whether :math:`\tilde A` is divided by its sum over the patches (true; as cl-vs-mim does), or left
            as it is so that attention to CLS and registers counts as distance 0 (false; as Google's code and
            probing-vits do). With half of the attention on CLS the two differ by a factor of two.

    Returns:
        (layer, head) each: ``distance``: mean over images, input pixels, 0 to the diagonal between patch centres;
        ``distance_sem``: its standard error over the images (NaN for one image); ``cls_mass``: what patch queries give
        to CLS, 0 to 1 (NaN without CLS). ``uniform_distance`` and ``largest_distance``: the value of uniform attention
        and the largest possible one on the model's own grid (in later stages of a hybrid a little less).
        NaN in a layer in which it is not defined; ``reason`` (layer) says why.

    Note:
        The mean says nothing about shape: half near and half far reads like all at middle distance. Border patches
        reach farther than central ones. Not comparable across input sizes; divide by ``diagonal`` first.

    Reference:
        Dosovitskiy et al. 2021, Fig. 7 right, arXiv:2010.11929; Raghu et al. 2021, arXiv:2108.08810.
    """

    renormalise: bool = True
    title: ClassVar[str] = "Mean attention distance"
    reads: ClassVar[frozenset[str]] = frozenset({"attention"})

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models in which no layer lets every patch attend to every other with weights that are shares."""
        if not spec.layers:
            return super().undefined(spec)
        reasons = [reason(layer) for layer in spec.layers]
        return None if "" in reasons else f"in this model {reasons[0]}"

    def queries(self, spec: ModelSpec, layer: int) -> slice | None:
        """Every row of the layers where it is defined."""
        return None if reason(spec.layers[layer]) else slice(None)

    def init(self, spec: ModelSpec) -> _State:
        """Nothing counted."""
        return _State(spec)

    def update(self, state: _State, seen: AttentionRows) -> _State:
        """Add a block of query rows; close its images with their last row."""
        index, layer = seen.layer, state.spec.layers[seen.layer]
        sums = self._sums(state.spec, layer, seen)
        if seen.layer in state.open:
            sums = state.open.pop(seen.layer) + sums
        if not seen.ends(layer):
            state.open[seen.layer] = sums
            return state

        def add(sums: np.ndarray) -> None:
            values = Moments.of(sums / (layer.queries - layer.prefix))
            state.moments[index] = state.moments.get(index, Moments()) + values

        seen.send(sums, add)
        return state

    def _sums(self, spec: ModelSpec, layer: AttentionLayer, seen: AttentionRows) -> Tensor:
        """Sums over the block's patch queries of Σ A D and of the attention on CLS: (image, 2, head)."""
        first = seen.before(layer.prefix)
        weights = seen.weights[:, :, first:]
        start = max(int(seen.queries[0]) - layer.prefix, 0)
        lengths = _lengths(
            layer.grid, _side(spec, layer), start, start + weights.shape[2], weights.dtype, weights.device
        )
        inside = weights[..., layer.prefix :]
        if len(inside) == 1:  # of one image, one product for each query is faster than all products of numbers
            distance = torch.einsum("bhqk,qk->bhq", inside, lengths).double()
        else:
            distance = (inside * lengths).sum(-1).double()
        if self.renormalise:
            distance = distance / inside.sum(-1).clamp_min(torch.finfo(weights.dtype).tiny)
        cls = weights[..., 0] if _has_cls(spec, layer) else weights.new_zeros(weights.shape[:3])
        return torch.stack([distance.sum(-1), cls.sum(-1, dtype=torch.float64)], 1)

    def merge(self, a: _State, b: _State) -> _State:
        """Merge the moments."""
        return _State(a.spec, merge(a.moments, b.moments))

    def compute(self, state: _State) -> xr.Dataset:
        """Means and standard errors."""
        spec = state.spec
        mean, sem = by_layer(spec, state.moments, 2)
        distance, cls = mean
        cls[[not _has_cls(spec, layer) for layer in spec.layers]] = np.nan
        height, width = spec.grid
        pixels = {"units": "px of the model's input"}
        everything = torch.arange(height * width)
        return xr.Dataset(
            {
                "distance": (("layer", "head"), distance, pixels | {"long_name": "mean attention distance"}),
                "distance_sem": (("layer", "head"), sem[0], pixels | {"long_name": "standard error over images"}),
                "cls_mass": (
                    ("layer", "head"),
                    cls,
                    {"units": "fraction of attention", "long_name": "attention on CLS"},
                ),
                "uniform_distance": ((), uniform_distance(spec.grid, spec.patch), pixels),
                "largest_distance": ((), float(distances(spec.grid, spec.patch, everything[:1]).max()), pixels),
            },
            coords={**layer_coordinates(spec), "reason": ("layer", [reason(layer) for layer in spec.layers])},
            attrs={
                "n": images(state.moments),
                "renormalise": self.renormalise,
                "patch": spec.patch,
                "diagonal": float(np.hypot(*spec.input_size)),
            },
        )


def _side(spec: ModelSpec, layer: AttentionLayer) -> int:
    """Side of a layer's patch in pixels of the input: later stages of a hybrid have fewer and larger ones."""
    return spec.patch * round(spec.grid[0] / layer.grid[0])


def reason(layer: AttentionLayer) -> str:
    """Why the distance is not defined in a layer; empty where it is."""
    if layer.kind == "window":
        return f"patches attend within windows of {layer.window[0]}×{layer.window[1]}, which bounds the distance"
    if layer.kind in ("class", "pool"):
        return "only one token asks here, and it has no place in the image"
    if not layer.is_distribution:
        return "heads are mixed after the softmax, so the weights are no shares to average distances with"
    return ""


def distances(grid: tuple[int, int], patch: int, queries: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Euclidean distance in pixels from some patches to all: (queries, patches); patches row by row."""
    height, width = grid
    windows = _offsets(grid, patch, dtype, queries.device).unfold(0, height, 1).unfold(1, width, 1)
    row, column = queries.div(width, rounding_mode="floor"), queries.remainder(width)
    return windows[height - 1 - row, width - 1 - column].flatten(1)


def _lengths(
    grid: tuple[int, int], patch: int, start: int, stop: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Distances from the patches ``start`` to ``stop``; those of a grid of usual size are made once."""
    if grid[0] * grid[1] <= WHOLE:
        return _all_lengths(grid, patch, dtype, device)[start:stop]
    return distances(grid, patch, torch.arange(start, stop, device=device), dtype)


@lru_cache(maxsize=4)
def _all_lengths(grid: tuple[int, int], patch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return distances(grid, patch, torch.arange(grid[0] * grid[1], device=device), dtype)


@lru_cache(maxsize=8)
def _offsets(grid: tuple[int, int], patch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Length of every offset between two patches: (2 height − 1, 2 width − 1), offset zero in the middle.

    The window of the grid's size that starts at (height − 1 − row, width − 1 − column) holds the distances of the
    patch at (row, column).
    """
    rows, columns = (torch.arange(1 - side, side, dtype=torch.float64, device=device) for side in grid)
    return (patch * torch.hypot(rows[:, None], columns[None])).to(dtype)


def uniform_distance(grid: tuple[int, int], patch: int) -> float:
    """The mean distance of attention that is the same everywhere, pixels: 116.5 for 14×14 patches of 16."""
    height, width = grid
    # a pair of patches that lie (r, c) apart occurs (height − r)(width − c) times in each of its directions
    r, c = np.arange(-height + 1, height), np.arange(-width + 1, width)
    pairs = np.outer(height - np.abs(r), width - np.abs(c))
    return float(patch * (pairs * np.hypot(*np.meshgrid(r, c, indexing="ij"))).sum() / (height * width) ** 2)


def _has_cls(spec: ModelSpec, layer: AttentionLayer) -> bool:
    return layer.prefix > 0 and spec.prefix[:1] == ("cls",)
