"""Logit lens: at the end it is the model's own prediction, and elsewhere the head applied by hand."""

import numpy as np
import pytest
import timm
import torch
import xarray as xr

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from probes import logit_lens
from probes.core.runner import run
from probes.logit_lens import LogitLens
from probes.patch_pca import PatchPCA
from tests.probes.families import Double, inputs, noise, peaked

IMAGES = noise(3)
SOURCES = [ImageSource(f"image {i}", lambda image=image: image) for i, image in enumerate(IMAGES)]


def double(name: str) -> Double:
    adapter = peaked(name)
    for parameter_name, parameter in adapter.module.named_parameters():
        if parameter_name.startswith("head"):  # a random head hardly tells classes apart
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
    return Double(adapter.module, image_size=adapter.image_size)


def result(adapter: Adapter, **parameters) -> xr.Dataset:
    return run({"m": adapter}, SOURCES, {"p": LogitLens(**parameters)}, batch_size=2)["p"]["m"]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit3_small_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_the_last_class_token_is_the_prediction(name: str) -> None:
    adapter = double(name)
    with torch.inference_mode():
        expected = adapter.module(inputs(adapter, IMAGES)).softmax(-1).topk(5)
    found = result(adapter).isel(layer=-1)
    assert np.array_equal(found["cls_class"], expected.indices)
    np.testing.assert_allclose(found["cls_probability"], expected.values, rtol=1e-5)
    assert expected.values[:, 0].min() > 0.01, "near-uniform probabilities would hide errors"


def test_it_does_not_disturb_probes_that_read_the_norm_it_uses() -> None:
    adapter = double("vit_tiny_patch16_224")
    both = run({"m": adapter}, SOURCES, {"lens": LogitLens(), "pca": PatchPCA(layer="last")}, batch_size=2)
    alone = run({"m": adapter}, SOURCES, {"pca": PatchPCA(layer="last")}, batch_size=2)
    xr.testing.assert_equal(both["pca"]["m"], alone["pca"]["m"])
    xr.testing.assert_equal(both["lens"]["m"], result(adapter))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("vit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2), ("beit_base_patch16_224", 1)],
)
def test_patches_by_hand(name: str, prefix: int) -> None:
    adapter = double(name)
    module = adapter.module
    found = result(adapter, ranks=3)
    seen = {}
    handle = module.blocks[1].register_forward_hook(lambda _, args, out: seen.update(out=out))
    with torch.inference_mode():
        module(inputs(adapter, IMAGES))
        handle.remove()
        row, column = 2, 3
        if adapter.spec.grid[1] == 4:
            row, column = 5, 3
        for image in range(3):
            x = seen["out"][image, prefix + row * adapter.spec.grid[1] + column]
            norm = module.fc_norm if name.startswith("beit") else module.norm
            x = torch.nn.functional.layer_norm(x, x.shape, norm.weight, norm.bias, norm.eps)
            logits = module.head.weight @ x + module.head.bias
            if "distilled" in name:
                logits = (logits + module.head_dist.weight @ x + module.head_dist.bias) / 2
            expected = logits.softmax(-1).topk(3)
            place = {"image": image, "layer": 1, "y": row, "x": column}
            assert found["top_class"].isel(place).values.tolist() == expected.indices.tolist()
            np.testing.assert_allclose(found["probability"].isel(place), expected.values, rtol=1e-5)


def test_mean_of_a_cnns_logits() -> None:
    """Pooling and a linear classifier commute: the mean logit over places is the prediction's logit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapter = Double(timm.create_model("resnet18", num_classes=6).double(), image_size=96)
    found = result(adapter, ranks=6)
    with torch.inference_mode():
        maps = adapter.module.forward_features(inputs(adapter, IMAGES)).flatten(2).transpose(1, 2)
        expected = (maps @ adapter.module.fc.weight.T + adapter.module.fc.bias).softmax(-1)
    last = found.isel(layer=-1)
    gh, gw = int(last.grid_height), int(last.grid_width)
    order = last["top_class"].values[:, :gh, :gw].reshape(3, gh * gw, 6)
    ours = np.take_along_axis(last["probability"].values[:, :gh, :gw].reshape(3, gh * gw, 6), np.argsort(order, -1), -1)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert (found["top_class"].isel(layer=0) == -1).all(), "64 channels cannot be read by a classifier of 512"
    assert np.isnan(found["probability"].isel(layer=0)).all()


def test_swins_last_stage_alone_is_read() -> None:
    found = result(double("swin_tiny_patch4_window7_224"))
    defined = np.isfinite(found["probability"]).any(("image", "y", "x", "rank")).values.tolist()
    assert defined == [False, False, True, True]
    assert (found["cls_class"] == -1).all()


def test_names_and_reasons() -> None:
    found = result(double("vit_tiny_patch16_224"))
    first = int(found["top_class"].values.min())
    assert found.attrs["class_names"][0].startswith(f"{first} ")
    assert len(found.attrs["class_names"][0]) > len(str(first)) + 2
    assert "no classifier" in result(double("vit_small_patch14_reg4_dinov2")).attrs["undefined"]
    with pytest.raises(ValueError, match="ranks is 0; it must be from 1 to 100"):
        LogitLens(ranks=0)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224"]
)
@pytest.mark.parametrize("tokens", [0, 5, 60])
def test_many_classes_are_read_in_parts(name: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = double(name)
    expected, given = result(adapter), []
    monkeypatch.setattr(logit_lens, "AT_ONCE", tokens * adapter.spec.classes)
    outer = adapter.module.head
    classifier = getattr(outer, "fc", outer)
    handle = classifier.register_forward_hook(lambda _, args, out: given.append(out.numel()))
    xr.testing.assert_allclose(result(adapter), expected, rtol=1e-9)
    handle.remove()
    assert max(given) <= max(tokens, 2, len(IMAGES)) * adapter.spec.classes
