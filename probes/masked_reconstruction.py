"""Masked reconstruction: what a masked autoencoder puts in place of the patches that it does not see."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr

from model_zoo.adapter import Adapter, ModelSpec
from model_zoo.mae import encode, patch_moments, pixels, stays
from probes.core.base import Probe
from probes.core.capture import Batch
from probes.core.precision import full_precision


@dataclass
class _State:
    spec: ModelSpec
    patch_norm: bool = True
    found: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)  # image -> name -> values


@dataclass(frozen=True)
class MaskedReconstruction(Probe):
    r"""What the decoder of a masked autoencoder predicts for hidden patches, and how far that is from the truth.

    .. math::
        e_i = \frac1{3p^2} \lVert \hat x_i - n(x_i) \rVert^2 \;\text{for hidden } i, \qquad
        n(x_i) = \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + 10^{-4}}}, \qquad
        \hat y_i = \sqrt{\sigma_i^2 + 10^{-4}}\,\hat x_i + \mu_i

    with :math:`x_i` the pixels of patch i of side p, :math:`\mu_i` and :math:`\sigma_i` their mean and standard
    deviation over positions and colours, and :math:`\hat x_i` the prediction. The loss of the training is the mean of
    :math:`e_i` over hidden patches. Where the decoder was trained on plain pixels, n changes nothing.

    Args:
        mask_ratio: share of the patches that is hidden, above 0 and below 1; at least one stays.
        seed: of the choice of patches. It is the same for all images, and for all models with as many patches.

    Returns:
        ``error`` (image, y, x): :math:`e_i`, 0 or more, NaN where the patch is visible; predicting a patch's mean gives
        about 1. ``loss`` (image): its mean. ``hidden`` (image, y, x): yes or no. ``original`` and ``reconstruction``
        (image, row, column, colour): pixels of the model's input, black 0 and white 1; the prediction may leave this
        range. Colours are red, green and blue.

    Note:
        The decoder predicts a patch without its own mean and contrast. For display :math:`\hat y_i` is given those of
        the true patch, as the visualisation of the reference implementation does: the picture's brightness and
        contrast are not the model's, only the structure is, and ``error`` counts that alone. Visible patches are
        predicted too, but no training asked for them. A low error does not say that features are useful.

    Raises:
        ValueError: a parameter out of range.

    Reference:
        He et al. 2021, arXiv:2111.06377, Fig. 2 and section 3.
    """

    mask_ratio: float = 0.75
    seed: int = 0
    title: ClassVar[str] = "Masked reconstruction"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})
    per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}; it must be above 0 and below 1.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {2**32 - 1}.")

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models without a decoder: all but masked autoencoders with whose weights it was kept."""
        if spec.reconstructs:
            return None
        return "no decoder (decoder.safetensors) lies beside its weights, so nothing fills in the hidden patches"

    @property
    def autocasts(self) -> bool:
        """It runs in the model's own type."""
        return False

    def init(self, spec: ModelSpec) -> _State:
        """Nothing reconstructed."""
        return _State(spec)

    def update(self, state: _State, seen: Batch) -> _State:
        """Hide patches of a batch and predict them."""
        adapter, grid, patch = seen.adapter, state.spec.grid, state.spec.patch
        decoder = adapter.decoder
        assert decoder is not None
        count = grid[0] * grid[1]
        chosen = stays(1, count, self.mask_ratio, torch.Generator().manual_seed(self.seed))
        visible = chosen.to(seen.inputs.device).expand(len(seen.inputs), -1)
        with adapter.lock, torch.no_grad(), full_precision(adapter):
            predicted = decoder(encode(adapter.module, seen.inputs, visible), visible, grid)
        truth, predicted = pixels(seen.inputs, patch).double(), predicted.double()
        mean, deviation = patch_moments(truth) if decoder.patch_norm else (0.0, 1.0)
        error = ((predicted - (truth - mean) / deviation) ** 2).mean(-1).scatter(1, visible, torch.nan)
        size = (grid[0] * patch, grid[1] * patch)
        drawn = F.fold((predicted * deviation + mean).transpose(1, 2), size, patch, stride=patch)
        values = {
            "error": error.unflatten(1, grid),
            "original": _colours(adapter, seen.inputs.double()),
            "reconstruction": _colours(adapter, drawn),
        }
        arrays = {name: value.cpu().numpy() for name, value in values.items()}
        for place, image in enumerate(seen.images):
            state.found[image] = {name: array[place] for name, array in arrays.items()}
        state.patch_norm = decoder.patch_norm
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Reconstructions of both."""
        return _State(a.spec, (a if a.found else b).patch_norm, a.found | b.found)

    def compute(self, state: _State) -> xr.Dataset:
        """Stack what was found."""
        images = sorted(state.found)
        stacked = {name: np.stack([state.found[i][name] for i in images]) for name in ("error", *_PIXELS)}
        error, hidden = stacked["error"], np.isfinite(stacked["error"])
        patches = "patches of mean 0 and deviation 1" if state.patch_norm else "the input"
        units = f"squared error of {patches}"
        variables: dict[str, Any] = {
            "error": (("image", "y", "x"), error, {"units": units}),
            "loss": ("image", np.nanmean(error, (1, 2)), {"units": units}),
            "hidden": (("image", "y", "x"), hidden, {"units": "yes or no"}),
        }
        dims = ("image", "row", "column", "colour")
        variables |= {name: (dims, stacked[name].astype(np.float32), {"units": "0 black, 1 white"}) for name in _PIXELS}
        attrs = {
            "mask_ratio": self.mask_ratio,
            "seed": self.seed,
            "hidden_patches": int(hidden[0].sum()),
            "patches": hidden[0].size,
            "patch_norm": state.patch_norm,
        }
        return xr.Dataset(variables, coords={"image": images, "colour": ["red", "green", "blue"]}, attrs=attrs)


_PIXELS = ("original", "reconstruction")


def _colours(adapter: Adapter, normalised: torch.Tensor) -> torch.Tensor:
    """Inputs (B, 3, H, W) as pixels (B, H, W, 3) from 0 to 1."""
    mean, deviation = (normalised.new_tensor(adapter.config[name])[:, None, None] for name in ("mean", "std"))
    return (normalised * deviation + mean).movedim(1, -1)
