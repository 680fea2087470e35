"""Variance of feature maps over space, along the residual stream."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr

from model_zoo.adapter import ModelSpec
from probes.core.base import Probe
from probes.core.capture import Tokens
from probes.core.moments import Moments, images, merge
from probes.core.stream import UNKNOWN, Changes, stream_coordinates, stream_points


@dataclass
class _State:
    spec: ModelSpec
    moments: dict[int, Moments] = field(default_factory=dict)  # place of the point -> over images
    grids: dict[int, tuple[int, int]] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)


@dataclass(frozen=True)
class FeatureVariance(Probe):
    r"""How much a feature map varies over the image, after every attention and every MLP.

    .. math::
        v_l = \frac1{IC}\sum_{i,c} \frac1{N-1}\sum_{j} \bigl(x^{(l)}_{ijc} - \bar x^{(l)}_{ic}\bigr)^2, \qquad
        \bar x^{(l)}_{ic} = \frac1N \sum_j x^{(l)}_{ijc}

    over I images, C channels and the N positions of the grid, without prefix tokens. The points are the embedding, then
    the residual stream after the attention and after the MLP of every block; see `probes.core.stream`.

    Returns:
        ``variance`` (point): squares of the model's own units, 0 or more, NaN where the map has one position;
        ``variance_sem``: standard error over images; ``change_sem``: that of the change since the point before, taken
        image by image. ``span`` says what lies before a point.

    Note:
        In units of the model: compare how it changes across a span, not its level between models, and not across the
        merging of patches. A residual stream grows with depth by itself. A few channels of large values can carry the
        mean. Low variance does not say that positions are alike in direction.

    Reference:
        Park & Kim 2022, arXiv:2202.06709, Fig. 9 ("MSAs reduce the variance of feature maps").
    """

    title: ClassVar[str] = "Feature map variance"
    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models whose blocks are not known."""
        return None if stream_points(spec) else UNKNOWN

    def taps(self, spec: ModelSpec) -> tuple[str, ...]:
        """The residual stream."""
        return stream_points(spec)

    def init(self, spec: ModelSpec) -> _State:
        """Nothing seen."""
        return _State(spec)

    def update(self, state: _State, seen: Tokens) -> _State:
        """Add a point of a batch."""
        place = stream_points(state.spec).index(seen.point)
        state.grids[place] = seen.grid
        maps = seen.patches if seen.patches.dtype == torch.float64 else seen.patches.float()
        freedom = max(maps.shape[1] - 1, 0) * maps.shape[2]
        deviations = maps - maps.mean(1, keepdim=True)
        squares = deviations.square_().sum((1, 2), dtype=torch.float64)

        def add(squares: np.ndarray) -> None:
            variance = squares / freedom if freedom else np.full(squares.shape, np.nan)
            state.moments[place] = state.moments.get(place, Moments()) + Moments.of(variance)
            state.changes.add(place, variance)

        seen.send(squares, add)
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Moments over the images of both."""
        return _State(a.spec, merge(a.moments, b.moments), a.grids | b.grids, a.changes + b.changes)

    def compute(self, state: _State) -> xr.Dataset:
        """Means and standard errors."""
        places, nothing = range(len(stream_points(state.spec))), Moments(mean=np.nan)
        moments = [state.moments.get(place, nothing) for place in places]
        units = {"units": "squared units of the model"}
        mean = np.array([float(one.mean) for one in moments])
        error = np.array([float(one.standard_error()) for one in moments])
        change = np.array([float(state.changes.moments.get(place, nothing).standard_error()) for place in places])
        return xr.Dataset(
            {
                "variance": ("point", mean, units),
                "variance_sem": ("point", error, units),
                "change_sem": ("point", change, units),
            },
            coords=stream_coordinates(state.spec, state.grids),
            attrs={"n": images(state.moments)},
        )
