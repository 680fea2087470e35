"""Patch filters against scikit-learn and direct transforms."""

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from sklearn.decomposition import PCA

from model_zoo.adapter import Adapter
from probes.core.runner import run
from probes.patch_filters import PatchFilters
from tests.probes.families import FAMILIES, peaked


def result(adapter: Adapter, **parameters: int) -> xr.Dataset:
    return run({"m": adapter}, [], {"p": PatchFilters(**parameters)})["p"]["m"]


@pytest.mark.parametrize("name", FAMILIES)
def test_filters_reproduce_the_first_layer(name: str) -> None:
    adapter = peaked(name)
    found = result(adapter, filters=100_000)
    layer = adapter.module.get_submodule(found.attrs["module"])
    x = torch.randn(1, 3, *layer.kernel_size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    expected = torch.nn.functional.conv2d(x, layer.weight, layer.bias)[0, :, 0, 0].detach().numpy()
    assert np.allclose((found["filters"].values * x[0].numpy()).sum((1, 2, 3)) + bias, expected, atol=1e-4)


def test_components_are_scikit_learns() -> None:
    adapter = peaked("vit_tiny_patch16_224")
    found = result(adapter)
    flat = adapter.module.patch_embed.proj.weight.detach().flatten(1).numpy()
    pca = PCA(n_components=28, svd_solver="full").fit(flat)
    ours = found["components"].values.reshape(28, -1)
    assert np.allclose(np.abs((ours * pca.components_).sum(1)), 1, atol=1e-5)
    assert np.allclose(found["explained"], pca.explained_variance_ratio_, atol=1e-9)
    assert found["spectrum"].sum().item() == pytest.approx(1)
    assert all(row[np.abs(row).argmax()] > 0 for row in ours)
    assert found.sizes["filter"] == 128


def test_amplitude_of_a_grating() -> None:
    """Filters that are one grating have their energy at its frequency and nowhere else."""
    adapter = peaked("vit_tiny_patch16_224")
    position = torch.arange(16, dtype=torch.float64)
    adapter.module.patch_embed.proj.weight.copy_(torch.cos(2 * torch.pi * 3 / 16 * position).expand(192, 3, 16, 16))
    amplitude = result(adapter)["amplitude"]
    peaks = amplitude.where(amplitude > 1e-6, drop=True)
    assert peaks.frequency_y.values.tolist() == [0]
    assert peaks.frequency_x.values.tolist() == [-3 / 16, 3 / 16]


def test_a_deep_stem_is_read_where_the_image_enters() -> None:
    found = result(Adapter(timm.create_model("resnet26d")))
    assert found.attrs["module"] == "conv1.0"
    assert found["components"].sizes["component"] == min(28, 27)


def test_bad_count() -> None:
    with pytest.raises(ValueError, match=r"filters is 0; it must be from 1"):
        PatchFilters(filters=0)
