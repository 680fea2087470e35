"""One image under one masked autoencoder: what it saw, what it filled in, and how far off that is. Pure."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from dashboard.compute.asking import ModelResult
from dashboard.draw.palette import number
from dashboard.draw.panels import Panel

HIDDEN_GREY = 128


def drawn(model: ModelResult, dataset: xr.Dataset, image: int) -> list[Panel]:
    """The panels of one image: masked, reconstructed, both together, and the error of each patch."""
    one = dataset.isel(image=image)
    error, hidden = one["error"].values, one["hidden"].values
    truth, guess = (one[name].values for name in ("original", "reconstruction"))
    covered = np.kron(hidden, np.ones([side // count for side, count in zip(truth.shape, hidden.shape, strict=False)]))
    inside = covered.astype(bool)[..., None]
    texts = ["visible" if np.isnan(value) else f"error {number(float(value))}" for value in error.ravel()]
    count, of = int((~hidden).sum()), hidden.size
    pictures = {
        "What the encoder sees": (np.where(inside, HIDDEN_GREY / 255, truth), f"{count} of {of} patches"),
        "Reconstruction": (guess, "all patches, as predicted"),
        "Filled in": (np.where(inside, guess, truth), "predicted where hidden"),
    }
    made = [
        Panel(name, model.colour, note, model.geometries[image], rgba=painted(pixels), grid=hidden.shape, texts=texts)
        for name, (pixels, note) in pictures.items()
    ]
    loss = f"mean {number(float(one['loss']))}"
    return [*made, Panel("Error of hidden patches", model.colour, loss, model.geometries[image], error)]


def painted(pixels: np.ndarray) -> np.ndarray:
    """Colours (row, column, 3), cut to 0 to 1, as opaque RGBA bytes."""
    rgb = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])


def reading(ready: Mapping[str, xr.Dataset]) -> str:
    """How far off the hidden patches are, per model, with n and the units."""
    lines = []
    for name, dataset in ready.items():
        loss, n = dataset["loss"].values, dataset.sizes["image"]
        over = f" (from {number(float(loss.min()))} to {number(float(loss.max()))})" if n > 1 else ""
        attrs = dataset.attrs
        norm = "each patch scaled to mean 0 and deviation 1" if attrs["patch_norm"] else "in units of the model's input"
        lines.append(
            f"**{name}**: mean squared error {number(float(loss.mean()))}{over} over the {attrs['hidden_patches']} "
            f"hidden of {attrs['patches']} patches, {norm}; n = {n} image{'s' * (n > 1)}."
        )
    lines.append("A patch painted evenly in its own mean colour level has an error of about 1; a flat patch has less.")
    return "  \n".join(lines)
