"""Patch PCA: patches that a model represents alike get the same colour, over all images at once."""

from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import numpy as np
import xarray as xr

from model_zoo.adapter import Adapter, ModelSpec
from probes.core.base import Probe, one_of
from probes.core.capture import Tokens
from probes.core.layers import check_layer, layer_point, no_layer
from probes.core.memory import token_shape
from probes.core.principal import COMPONENTS, as_colours, colour_range, fit_blocks


@dataclass
class _State:
    spec: ModelSpec
    grid: tuple[int, int] = (0, 0)
    features: dict[int, np.ndarray] = field(default_factory=dict)  # image -> (patch, channel)


@dataclass(frozen=True)
class PatchPCA(Probe):
    r"""First three principal components of the patch features, fitted over all images of the run, as RGB.

    .. math:: X - \bar X = U S V^\top, \qquad t_k = (X - \bar X) V_k

    with X the patch features of all images, one row a patch. The sign of a component is arbitrary: the entry of
    :math:`V_k` of largest magnitude is made positive. Each component is scaled from its 1st to its 99th percentile
    over all images to 0 to 1 and clipped.

    Args:
        layer: ``last`` (after the final norm where there is one, else the last block), a block, from 0, or a relative
            depth from 0.0 to 1.0 over the blocks, of which 1.0 is ``last``, see `probes.core.layers`.
        foreground: ``none``, or ``first``: patches are split in two by Otsu's threshold on the first component, the
            part that covers less of the images' borders is the foreground, and the PCA is fitted again on it alone.

    Returns:
        ``rgb`` (image, y, x, c): 0 to 1; NaN in the background. ``component`` (image, y, x, c): the three components
        unscaled. ``explained`` (c): fraction of the variance of the patches that the fit was made on.

    Note:
        Colours mean something within one model and one set of images only: red in two models is not the same. A
        component is a direction of variance, not an object; strong position or high-norm patches can take the first.

    Reference:
        Oquab et al. 2023, Fig. 1, arXiv:2304.07193; Amir et al. 2021, arXiv:2112.05814.
    """

    layer: str = "last"
    foreground: str = "none"
    title: ClassVar[str] = "Patch PCA"
    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def __post_init__(self) -> None:
        one_of("foreground", self.foreground, ("none", "first"))
        check_layer(self.layer)

    def undefined(self, spec: ModelSpec) -> str | None:
        """Layers that there are not."""
        return no_layer(spec, self.layer)

    def taps(self, spec: ModelSpec) -> tuple[str, ...]:
        """The chosen layer."""
        return (layer_point(spec, self.layer),)

    def held_bytes(self, adapter: Adapter, images: int, batch: int) -> int:
        """The patch features of all images."""
        return 4 * images * prod(token_shape(adapter, self.taps(adapter.spec)[0]))

    def init(self, spec: ModelSpec) -> _State:
        """No features yet."""
        return _State(spec)

    def update(self, state: _State, seen: Tokens) -> _State:
        """Keep the patch features of every image."""
        state.grid = seen.grid
        for image, values in zip(seen.images, seen.patches.float().cpu().numpy(), strict=True):
            state.features[image] = values.copy()
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Features of both."""
        return _State(a.spec, a.grid if a.features else b.grid, a.features | b.features)

    def compute(self, state: _State) -> xr.Dataset:
        """Fit over all patches of all images, then colour."""
        images = sorted(state.features)
        height, width = state.grid
        inside = np.ones(len(images) * height * width, dtype=bool)
        scores, explained = _principal(state, inside)
        if self.foreground == "first":
            inside = _foreground(scores[:, 0], len(images), state.grid)
            scores, explained = _principal(state, inside)
        rgb = as_colours(scores, *colour_range(scores[inside]))
        rgb[~inside] = np.nan
        shape = (len(images), height, width, COMPONENTS)
        dims = ("image", "y", "x", "c")
        return xr.Dataset(
            {
                "rgb": (dims, rgb.reshape(shape).astype(np.float32), {"units": "fraction of full intensity"}),
                "component": (dims, scores.reshape(shape).astype(np.float32), {"units": "activation"}),
                "explained": ("c", explained, {"units": "fraction of variance"}),
            },
            coords={"image": images, "c": ["first", "second", "third"]},
            attrs={
                "point": self.taps(state.spec)[0],
                "foreground": self.foreground,
                "foreground_fraction": float(inside.mean()),
                "n": len(images),
            },
        )


def _principal(state: _State, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all patches on the components of those ``inside``, and what they explain; one image at a time."""
    every = [state.features[image] for image in sorted(state.features)]
    chosen = inside.reshape(len(every), -1)
    basis = fit_blocks(lambda: (rows[here] for rows, here in zip(every, chosen, strict=True)))
    return np.concatenate([basis.scores(rows) for rows in every]), basis.explained


def _foreground(first: np.ndarray, images: int, grid: tuple[int, int]) -> np.ndarray:
    """The side of Otsu's threshold on the first component that covers less of the borders; all where it is constant."""
    from skimage.filters import threshold_otsu

    values, counts = np.unique(first, return_counts=True)  # every value a bin of its own: no rounding to 256
    if len(values) < 2:
        return np.ones(len(first), dtype=bool)
    above = first > threshold_otsu(hist=(counts, values))
    border = np.ones((images, *grid), dtype=bool)
    border[:, 1:-1, 1:-1] = False
    covered = above[border.ravel()].mean()
    return above if covered <= 0.5 else ~above
