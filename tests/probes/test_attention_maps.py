"""Attention maps against plain loops over the unfused path."""

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from probes.attention_maps import AttentionMaps
from probes.core.runner import run
from tests.probes.families import FAMILIES, inputs, noise, peaked
from tests.probes.test_capture import captured, written_out

GLOBAL = [name for name in FAMILIES if not name.startswith("swin")]


def measure(adapter, images, batch_size=8, **parameters):
    sources = [ImageSource(str(i), lambda i=i: images[i]) for i in range(len(images))]
    adapter.preprocess = lambda image: inputs(type(adapter)(adapter.module, image_size=adapter.image_size), [image])[0]
    return run({"m": adapter}, sources, {"p": AttentionMaps(**parameters)}, batch_size=batch_size)["p"]["m"]


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
    "parameters",
    [{"query": "CLS"}, {"query": "1:-2"}, {"query": "1"}, {"layers": ""}, {"layers": "1-3"}, {"query": "@1,0"}],
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


SHAPES = [(200, 100), (100, 180), (130, 120)]
SIDES = {"swin_tiny_patch4_window7_224": 112, "swinv2_tiny_window8_256": 128, "tnt_s_patch16_224": 224}


def cropping(name: str) -> Adapter:
    """A model with its own evaluation transform, which crops."""
    side = SIDES.get(name, 84 if "patch14" in name else 96)
    return Adapter(peaked(name, (side, side)).module, image_size=side)


def seen_at(adapter: Adapter, shape: tuple[int, int], point: tuple[float, float]) -> tuple[int, int] | None:
    """The patch under a point by a picture whose colours say where each of its pixels is, not by any geometry."""
    ramp = np.zeros((shape[1], shape[0], 3))
    ramp[..., 0] = (np.arange(shape[0]) + 0.5)[None] / shape[0]
    ramp[..., 1] = (np.arange(shape[1]) + 0.5)[:, None] / shape[1]
    x = Adapter(adapter.module, image_size=adapter.image_size).preprocess(
        Image.fromarray((ramp * 255).round().astype(np.uint8))
    )
    mean, std = (torch.tensor(adapter.config[key])[:, None, None] for key in ("mean", "std"))
    place = (x * std + mean)[:2]
    away = (place - torch.tensor(point)[:, None, None]).abs().amax(0)
    if float(away.min()) > 0.02:
        return None
    row, column = divmod(int(away.argmin()), away.shape[1])
    return row * adapter.spec.grid[0] // x.shape[1], column * adapter.spec.grid[1] // x.shape[2]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("point", [(0.48, 0.62), (0.9, 0.06)])
def test_a_point_of_the_image_is_its_own_patch_in_every_image(name: str, point: tuple[float, float]) -> None:
    adapter = cropping(name)
    images = [noise(1, shape, seed=i)[0] for i, shape in enumerate(SHAPES)]
    places = [seen_at(adapter, shape, point) for shape in SHAPES]
    assert len(set(places)) > 1, "the images must differ in which patch lies under the point"
    assert (None in places) == (point == (0.9, 0.06))
    result = measure(adapter, images, query=f"@{point[0]},{point[1]}")
    spec, x = adapter.spec, inputs(adapter, images)
    windowed = spec.layers[0].kind == "window"
    reference = captured(adapter, x) if windowed else written_out(adapter, x)
    for image, place in enumerate(places):
        for index, layer in enumerate(spec.layers):
            got = result.attention.values[image, index]
            asked = (int(result.query_row[image, index]), int(result.query_column[image, index]))
            if place is None or layer.queries == 1:
                assert np.isnan(got).all()
                assert asked == (-1, -1)
                continue
            (height, width), (gh, gw) = layer.grid, spec.grid
            assert asked == (place[0] * height // gh, place[1] * width // gw)
            row = reference[layer.name][image, :, layer.prefix + asked[0] * width + asked[1], layer.prefix :]
            np.testing.assert_allclose(
                got[: layer.heads, :height, :width].reshape(layer.heads, -1), row, rtol=2e-6, atol=1e-8
            )
    alone = measure(adapter, images, 1, query=f"@{point[0]},{point[1]}")
    xr.testing.assert_allclose(alone, result, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "tnt_s_patch16_224"])  # it cannot be resized
def test_a_point_of_a_whole_image_is_the_patch_of_its_row_and_column(name: str) -> None:
    adapter = peaked(name)
    images = [noise(1, shape, seed=i)[0] for i, shape in enumerate(SHAPES)]
    height, width = adapter.spec.grid
    by_point = measure(adapter, images, query="@0.4,0.6", layers="last,0.0")
    by_patch = measure(adapter, images, query=f"{int(0.6 * height)}:{int(0.4 * width)}", layers="last,0.0")
    xr.testing.assert_allclose(by_point.drop_attrs(), by_patch.drop_attrs(), rtol=1e-6)
    asking = [index for index in (0, len(adapter.spec.layers) - 1) if adapter.spec.layers[index].queries > 1]
    assert (by_point.query_row.sel(layer=asking) >= 0).all()
    assert asking


def test_no_patch_is_asked_by_cls_and_mean() -> None:
    for query in ("cls", "mean"):
        result = measure(peaked("vit_tiny_patch16_224"), noise(1), query=query)
        assert (result.query_row == -1).all()
        assert (result.query_column == -1).all()


def test_layers_at_relative_depths() -> None:
    for name, chosen in (("vit_tiny_patch16_224", [0, 2, 3]), ("vit_small_patch8_224", [0, 1, 2])):
        adapter = peaked(name)
        result = measure(adapter, noise(1), layers="0.0,0.5,last")
        assert result.layer.values.tolist() == chosen
        indices = ",".join(map(str, chosen))
        assert result.equals(measure(adapter, noise(1), layers=indices))
