"""Attention maps against plain loops over the unfused path."""

import numpy as np
import pytest
import torch

from model_zoo.images import ImageSource
from probes.attention_maps import AttentionMaps
from probes.core.runner import run
from tests.probes.families import FAMILIES, inputs, noise, peaked
from tests.probes.test_capture import written_out

GLOBAL = [name for name in FAMILIES if not name.startswith("swin")]


def measure(adapter, images, **parameters):
    sources = [ImageSource(str(i), lambda i=i: images[i]) for i in range(len(images))]
    adapter.preprocess = lambda image: inputs(type(adapter)(adapter.module, image_size=adapter.image_size), [image])[0]
    return run({"m": adapter}, sources, {"p": AttentionMaps(**parameters)})["p"]["m"]


@pytest.mark.parametrize("name", GLOBAL)
@pytest.mark.parametrize("query", ["cls", "mean", "1:2"])
def test_maps(name: str, query: str) -> None:
    adapter, images = peaked(name), noise(2)
    result = measure(adapter, images, query=query)
    reference = written_out(adapter, inputs(adapter, images))
    spec = adapter.spec
    assert result.attention.dims == ("image", "layer", "head", "y", "x")
    for index, layer in enumerate(spec.layers):
        used = str(result.query_used.values[index])
        got = result.attention.values[:, index, : layer.heads]
        if used == "none":
            assert layer.kind in ("class", "pool")
            assert np.isnan(got).all()
            continue
        if layer.kind == "pool":
            continue  # no dropout to hook; test_capture holds it
        weights, p = reference[layer.name].double().numpy(), layer.prefix
        for image in range(2):
            for head in range(layer.heads):
                a = weights[image, head]
                if used == "cls":
                    row = a[0, p:]
                elif used == "mean":
                    row = sum(a[q, p:] for q in range(p, layer.keys)) / (layer.keys - p)
                else:
                    row = a[p + 1 * layer.grid[1] + 2, p:]
                np.testing.assert_allclose(got[image, head].ravel(), row, rtol=2e-6, atol=1e-8)
    assert set(result.query_used.values) <= {"cls", "mean", "patch", "none"}


def test_a_window_lies_around_its_query() -> None:
    adapter = peaked("swin_tiny_patch4_window7_224")
    result = measure(adapter, noise(1), query="9:30")
    first = result.attention.values[0, 0, 0]
    assert set(zip(*np.nonzero(first), strict=True)) == {(y, x) for y in range(7, 14) for x in range(28, 35)}
    np.testing.assert_allclose(first.sum(), 1, rtol=1e-6)
    assert np.isnan(result.attention.values[0, -1, :, 14:]).all(), "the second stage has a smaller grid"
    assert not np.isnan(result.attention.values[0, -1, :, :14, :28]).any()


def test_chosen_layers_only() -> None:
    adapter, images = peaked("vit_tiny_patch16_224"), noise(1)
    every, some = measure(adapter, images), measure(adapter, images, layers="3,1")
    assert some.layer.values.tolist() == [1, 3]
    np.testing.assert_array_equal(some.attention, every.attention.sel(layer=[1, 3]))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"query": "4:0"}, "4×6 patches: there is no patch 4:0"),
        ({"layers": "0,4"}, "layers 0 to 3: there is no layer 4"),
    ],
)
def test_what_the_model_does_not_have_is_said(parameters: dict[str, str], says: str) -> None:
    assert says in measure(peaked("vit_tiny_patch16_224"), noise(1), **parameters).attrs["undefined"]


def test_layers_in_which_no_patch_asks_are_said() -> None:
    spec = peaked("cait_xxs24_224").spec
    assert "only CLS asks" in (AttentionMaps(query="1:1", layers=str(len(spec.layers) - 1)).undefined(spec) or "")
    assert AttentionMaps(query="1:1").undefined(spec) is None


def test_no_attention_is_said() -> None:
    assert "convolutional" in (AttentionMaps().undefined(peaked("resnet50").spec) or "")


@pytest.mark.parametrize(
    "parameters", [{"query": "CLS"}, {"query": "1:-2"}, {"query": "1"}, {"layers": ""}, {"layers": "1-3"}]
)
def test_malformed_parameters(parameters: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        AttentionMaps(**parameters)


def test_mass_on_prefix_is_missing_from_the_map() -> None:
    adapter = peaked("vit_small_patch14_reg4_dinov2")
    x = inputs(adapter, noise(1))
    result = measure(adapter, noise(1))
    reference = written_out(adapter, x)
    for index, layer in enumerate(adapter.spec.layers):
        given_to_prefix = reference[layer.name][0, :, 0, :5].sum(-1)
        total = result.attention[0, index].sum(("y", "x")).values
        np.testing.assert_allclose(total, 1 - given_to_prefix.numpy(), rtol=1e-5)
        assert float(torch.as_tensor(given_to_prefix).max()) > 0.01
