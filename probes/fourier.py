"""Fourier spectrum of feature maps, along the residual stream."""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model_zoo.adapter import ModelSpec
from probes.core.base import Probe, one_of
from probes.core.capture import Tokens
from probes.core.moments import Moments, images, merge
from probes.core.stream import UNKNOWN, Changes, stream_coordinates, stream_points

FLOOR = 1e-6
"""Added to an amplitude before its logarithm, as in the paper's code."""


@dataclass
class _State:
    spec: ModelSpec
    moments: dict[int, Moments] = field(default_factory=dict)  # place of the point -> over images, (2, frequency)
    grids: dict[int, tuple[int, int]] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)  # of ΔS


@dataclass(frozen=True)
class Fourier(Probe):
    r"""Log amplitude of feature maps over spatial frequency, after every attention and every MLP.

    .. math::
        S_l(f) = \frac1{IC} \sum_{i,c} \log\bigl(\bigl|(\mathcal F z^{(l)}_{ic})(f)\bigr| + 10^{-6}\bigr), \qquad
        \Delta S_l(f) = S_l(f) - S_l(0)

    with :math:`z_{ic}` one channel of one image on its grid of gh × gw positions, without prefix tokens, and
    :math:`\mathcal F` the two-dimensional discrete Fourier transform, not normalised. The points are the embedding,
    then the residual stream after the attention and after the MLP of every block; see `probes.core.stream`. With g the
    shorter side of the grid, frequencies are :math:`f_k = 2\pi k/g`, radians per position.

    Args:
        spectrum: ``diagonal``: the bins (k, k) for k = 0 … ⌈g/2⌉ − 1, which are the diagonal of the shifted spectrum
            from index ⌊g/2⌋; on a grid that is not square the bin of the longer side n is the one nearest to the same
            frequency, ⌊kn/g + ½⌋. ``radial``: the mean over the bins whose distance from 0 is within half a
            step of π/g of f_k (the lower end counts), k = 0 … ⌊g/2⌋; the corners beyond π are in none.

    Returns:
        ``log_amplitude`` (point, frequency): S, natural logarithm. ``relative`` (point, frequency): ΔS, 0 at
        frequency 0; its standard error over images is ``relative_sem``, and ``change_sem`` that of its change since the
        point before, image by image, NaN where the grid is another. ``frequency`` runs from 0 towards π: π is the
        finest pattern that a grid can hold, which a diagonal of even side stops one step short of, as in the paper,
        whose axis calls its last bin π. Where grids differ (Swin, convolutional networks) frequencies are those of all
        grids and NaN stands where a grid has none. ``span`` says what lies before a point.

    Note:
        White noise is flat above 0 but ΔS is then ln(2)/2 = 0.35, not 0, as the amplitude at 0 is that of a real
        number and all others are complex. π means another size in the picture wherever the grid has another size:
        compare ΔS across a span that merges no patches. Position embeddings that stay in the stream count as pattern.
        A mean of logarithms weighs all channels alike, however weak. Low-pass says nothing of what is useful.

    Raises:
        ValueError: an unknown spectrum.

    Reference:
        Park & Kim 2022, arXiv:2202.06709, Fig. 2a and Fig. 8.
    """

    spectrum: str = "diagonal"
    title: ClassVar[str] = "Fourier spectrum of feature maps"
    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def __post_init__(self) -> None:
        one_of("spectrum", self.spectrum, ("diagonal", "radial"))

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
        spectrum = _diagonal if self.spectrum == "diagonal" else _radial
        seen.send(spectrum(maps, seen.grid), partial(self._add, state, place))
        return state

    def _add(self, state: _State, place: int, spectra: np.ndarray) -> None:
        both = np.stack([spectra, spectra - spectra[:, :1]], 1)
        state.moments[place] = state.moments.get(place, Moments()) + Moments.of(both)
        state.changes.add(place, both[:, 1])

    def merge(self, a: _State, b: _State) -> _State:
        """Moments over the images of both."""
        return _State(a.spec, merge(a.moments, b.moments), a.grids | b.grids, a.changes + b.changes)

    def compute(self, state: _State) -> xr.Dataset:
        """Means, each at its frequency among those of all grids."""
        own = {place: self._frequencies(grid) for place, grid in state.grids.items()}
        axis = sorted({frequency for frequencies in own.values() for frequency in frequencies})
        values = np.full((4, len(stream_points(state.spec)), len(axis)), np.nan)
        for place, moments in state.moments.items():
            at = [axis.index(frequency) for frequency in own[place]]
            values[:2, place, at], values[2, place, at] = moments.mean, moments.standard_error()[1]
            change = state.changes.moments.get(place)
            if change is not None and state.grids[place] == state.grids[place - 1]:
                values[3, place, at] = change.standard_error()
        units, dims = {"units": "natural logarithm of the amplitude"}, ("point", "frequency")
        names = ("log_amplitude", "relative", "relative_sem", "change_sem")
        frequency = ("frequency", [np.pi * float(one) for one in axis], {"units": "radians per position"})
        return xr.Dataset(
            {name: (dims, one, units) for name, one in zip(names, values, strict=True)},
            coords=stream_coordinates(state.spec, state.grids) | {"frequency": frequency},
            attrs={"spectrum": self.spectrum, "n": images(state.moments)},
        )

    def _frequencies(self, grid: tuple[int, int]) -> list[Fraction]:
        """In units of π."""
        side = min(grid)
        return [Fraction(2 * k, side) for k in range(side // 2 + 1 if self.spectrum == "radial" else (side + 1) // 2)]


def _diagonal(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean log amplitudes (images, frequency) of maps (images, positions, channels).

    Only the bins of the diagonal are computed, as one product: cheaper than all bins by the fast transform.
    """
    real, imaginary = (_waves(grid, maps.device, maps.dtype) @ maps).chunk(2, 1)
    return (torch.hypot(real, imaginary) + FLOOR).log_().mean(-1, dtype=torch.float64)


def _radial(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """The same over rings; the half of the bins that a real map repeats is counted, not computed."""
    amplitude = torch.fft.rfft2(maps.unflatten(1, grid), dim=(1, 2)).abs()
    mean = (amplitude + FLOOR).log_().mean(-1, dtype=torch.float64)
    return mean.flatten(1) @ _rings(grid, maps.device)


@lru_cache(maxsize=32)
def _waves(grid: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Cosines and then sines of the diagonal's bins over all positions: (2 × bins, positions)."""
    height, width = grid
    side = min(grid)
    k = np.arange((side + 1) // 2)
    down, across = ((2 * k * n + side) // (2 * side) for n in grid)
    y, x = np.indices(grid).reshape(2, -1)
    turns = np.outer(down, y) / height + np.outer(across, x) / width
    waves = np.concatenate([np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)])
    return torch.from_numpy(waves).to(device, dtype)


@lru_cache(maxsize=32)
def _rings(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Weights of the bins of the real transform in the mean of every ring: (bins, rings)."""
    height, width = grid
    side = min(grid)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    ring = np.floor(np.hypot(down, across) * side + 0.5 + 1e-9).astype(int).ravel()
    twice = np.broadcast_to(1.0 + ((across > 0) & (across < 0.5)), (height, across.size)).ravel()
    weights = twice[:, None] * (ring[:, None] == np.arange(side // 2 + 1))
    return torch.from_numpy(weights / weights.sum(0)).to(device)
