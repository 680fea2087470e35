"""Patch filters: the first linear map of a model, and the patterns it is made of."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from model_zoo.adapter import ModelSpec
from probes.core.base import Probe
from probes.core.capture import Weights

COMPONENTS = 28


@dataclass
class _State:
    spec: ModelSpec
    weight: Tensor | None = None  # (filter, channel, height, width)
    module: str = ""


@dataclass(frozen=True)
class PatchFilters(Probe):
    r"""Filters of the patch projection, or of a CNN's first convolution, and their principal components.

    With :math:`W` (filters × 3p²) and its columns centred over the filters, :math:`W - \bar W = U S V^\top`:

    .. math:: \text{component}_k = V_k, \qquad \text{explained}_k = S_k^2 / \textstyle\sum_j S_j^2

    The sign of a component is arbitrary; its entry of largest magnitude is made positive.

    Args:
        filters: keep at most this many filters, the first ones.

    Returns:
        ``filters`` (filter, c, fy, fx): weights as they are, for inputs normalised by the checkpoint's own mean and
        deviation. ``components`` (component, c, fy, fx): the first 28, of length 1. ``explained`` (component):
        fraction of the variance over filters. ``spectrum`` (rank): the same fraction for every rank, descending.
        ``amplitude`` (frequency_y, frequency_x): mean over filters and channels of the magnitude of each filter's
        2-D Fourier transform; frequencies in cycles per pixel, −0.5 to 0.5.

    Note:
        The order of filters means nothing. Filters that look like noise may be unused, and a component is a direction
        of variation among filters, not a filter. Fractions depend on how many filters there are.

    Reference:
        Dosovitskiy et al. 2021, Fig. 7 left, arXiv:2010.11929.
    """

    filters: int = 128
    title: ClassVar[str] = "Patch filters"
    reads: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __post_init__(self) -> None:
        if not 1 <= self.filters <= 100_000:
            raise ValueError(f"filters is {self.filters!r}; it must be from 1 to 100,000.")

    def init(self, spec: ModelSpec) -> _State:
        """Nothing read."""
        return _State(spec)

    def update(self, state: _State, seen: Weights) -> _State:
        """Read the first convolution."""
        module = seen.adapter.module
        name = getattr(module, "pretrained_cfg", {}).get("first_conv")
        convolutions = {n: m for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}
        name = name if name in convolutions else next(iter(convolutions), None)
        if name is not None:
            state.weight, state.module = convolutions[name].weight.detach().double().cpu(), name
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Either: they read the same weights."""
        return b if a.weight is None else a

    def compute(self, state: _State) -> xr.Dataset:
        """Decompose the filters."""
        from sklearn.decomposition import PCA

        if state.weight is None:
            return xr.Dataset(attrs={"undefined": "this model has no convolution that reads the image"})
        weight = state.weight.numpy()
        shape = weight.shape[1:]
        flat = weight.reshape(len(weight), -1)
        with np.errstate(invalid="ignore"):  # filters that are all the same have no variance to explain
            pca = PCA(svd_solver="full").fit(flat)
        components, fraction = pca.components_[:COMPONENTS], pca.explained_variance_ratio_
        transform = np.abs(torch.fft.fftshift(torch.fft.fft2(state.weight), (-2, -1)).numpy()).mean((0, 1))
        frequencies = [np.fft.fftshift(np.fft.fftfreq(side)) for side in shape[1:]]
        space = ("c", "fy", "fx")
        return xr.Dataset(
            {
                "filters": (("filter", *space), weight[: self.filters].astype(np.float32), {"units": "weight"}),
                "components": (
                    ("component", *space),
                    components.reshape(-1, *shape).astype(np.float32),
                    {"units": "unit-length weights"},
                ),
                "explained": ("component", fraction[:COMPONENTS], {"units": "fraction of variance"}),
                "spectrum": ("rank", fraction, {"units": "fraction of variance"}),
                "amplitude": (("frequency_y", "frequency_x"), transform, {"units": "mean magnitude"}),
            },
            coords={
                "frequency_y": ("frequency_y", frequencies[0], {"units": "cycles per pixel"}),
                "frequency_x": ("frequency_x", frequencies[1], {"units": "cycles per pixel"}),
            },
            attrs={"module": state.module, "filter_count": len(weight)},
        )
