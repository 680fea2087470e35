"""Patch PCA against scikit-learn up to sign, and its stated rules."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.decomposition import PCA

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from probes.core.principal import fit, fit_blocks
from probes.core.runner import run
from probes.patch_pca import PatchPCA
from tests.probes.families import double, inputs, noise, peaked

IMAGES = noise(4)
SOURCES = [ImageSource(f"image {i}", lambda image=image: image) for i, image in enumerate(IMAGES)]


def result(adapter: Adapter, sources=SOURCES, **parameters: str) -> xr.Dataset:
    return run({"m": adapter}, sources, {"p": PatchPCA(**parameters)}, batch_size=3)["p"]["m"]


def hooked(adapter: Adapter, module: str, prefix: int) -> np.ndarray:
    found = {}
    handle = adapter.module.get_submodule(module).register_forward_hook(lambda _, args, out: found.update(out=out))
    with torch.inference_mode():
        adapter.module(inputs(adapter, IMAGES))
    handle.remove()
    return found["out"][:, prefix:].numpy()


CASES = {
    "vit_base_patch16_siglip_224": 0,
    "vit_tiny_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "vit_small_patch14_reg4_dinov2": 5,
}


@pytest.mark.parametrize(("name", "prefix"), CASES.items())
@pytest.mark.parametrize("layer", ["last", "1"])
def test_components_are_scikit_learns(name: str, prefix: int, layer: str) -> None:
    adapter = double(name)
    features = hooked(adapter, "norm" if layer == "last" else "blocks.1", prefix)
    rows = features.reshape(-1, features.shape[-1])
    pca = PCA(n_components=3, svd_solver="full")
    expected = pca.fit_transform(rows)
    expected *= np.sign(pca.components_[range(3), np.abs(pca.components_).argmax(1)])
    found = result(adapter, layer=layer)
    shape = (4, *adapter.spec.grid, 3)
    np.testing.assert_allclose(found["component"], expected.reshape(shape), atol=1e-4)
    np.testing.assert_allclose(found["explained"], pca.explained_variance_ratio_, atol=1e-6)
    low, high = (np.percentile(expected, q, axis=0) for q in (1, 99))
    colours = np.clip((expected - low) / (high - low), 0, 1).reshape(shape)
    np.testing.assert_allclose(found["rgb"], colours, atol=1e-4)


def test_foreground_is_the_part_off_the_border() -> None:
    """Features of two clusters, a block in the middle and its surrounding: whichever sign, the middle is kept."""
    from probes.core.capture import Tokens

    spec = peaked("vit_tiny_patch16_224").spec
    random = np.random.default_rng(0)
    inside = np.zeros((2, 6, 8), bool)
    inside[0, 2:4, 2:6], inside[1, 1:5, 3:5] = True, True
    for direction in (1, -1):
        values = random.normal(size=(2, 6, 8, 16)) * 0.1
        values[..., 3] += direction * 5 * inside
        tokens = Tokens("norm", range(2), torch.from_numpy(values).flatten(1, 2), 0, (6, 8))
        probe = PatchPCA(foreground="first")
        found = probe.compute(probe.update(probe.init(spec), tokens))
        assert np.array_equal(np.isfinite(found["rgb"].values).all(-1), inside)
        refit = PCA(3, svd_solver="full").fit(values[inside])
        np.testing.assert_allclose(found["explained"], refit.explained_variance_ratio_, atol=1e-6)
        assert found.attrs["foreground_fraction"] == pytest.approx(inside.mean())


def test_signs_do_not_depend_on_the_solver() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 5)) * [5, 4, 3, 2, 1]
    np.testing.assert_allclose(fit(rows).scores(rows), fit(rows[::-1]).scores(rows), atol=1e-9)


@pytest.mark.parametrize("rows", [200, 3, 1])
def test_rows_in_blocks_give_what_all_of_them_give(rows: int) -> None:
    values = 1000 + np.random.default_rng(2).normal(size=(rows, 6)) * [9, 6, 4, 2, 1, 0]
    whole, parts = fit(values), fit_blocks(lambda: np.array_split(values, 3))
    np.testing.assert_allclose(parts.scores(values), whole.scores(values), atol=1e-9)
    np.testing.assert_allclose(parts.explained, whole.explained, atol=1e-12)
    if rows == 200:
        np.testing.assert_allclose(whole.explained, PCA(3, svd_solver="full").fit(values).explained_variance_ratio_)


@pytest.mark.parametrize("foreground", ["none", "first"])
def test_what_is_computed_takes_little_beside_the_features(foreground: str) -> None:
    import tracemalloc

    adapter, probe = peaked("vit_tiny_patch16_224"), PatchPCA(foreground=foreground)
    random = np.random.default_rng(0)
    state = probe.init(adapter.spec)
    state.grid = (14, 14)
    state.features = {image: random.normal(size=(196, 256)).astype(np.float32) for image in range(64)}
    held = sum(values.nbytes for values in state.features.values())
    probe.compute(state)  # imports
    tracemalloc.start()
    probe.compute(state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < held / 2


def test_one_and_identical_images() -> None:
    adapter = double("vit_tiny_patch16_224")
    assert np.isfinite(result(adapter, SOURCES[:1])["rgb"]).all()
    same = result(adapter, [SOURCES[0]] * 3)["rgb"]
    np.testing.assert_allclose(same[0], same[2], atol=1e-6)


def test_constant_features_are_grey() -> None:
    basis = fit(np.ones((6, 4)))
    assert not basis.scores(np.ones((6, 4))).any()
    assert not basis.explained.any()


def test_undefined_and_bad_parameters() -> None:
    assert "there is no block 7" in result(double("vit_tiny_patch16_224"), layer="7").attrs["undefined"]
    with pytest.raises(ValueError, match="layer is '-1'; it must be last or an index"):
        PatchPCA(layer="-1")
    with pytest.raises(ValueError, match="foreground is 'yes'; it must be one of none, first"):
        PatchPCA(foreground="yes")
