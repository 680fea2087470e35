"""Patch similarity against plain loops, for tokens and for what the attention compares."""

import math

import numpy as np
import pytest
import timm
import torch
import xarray as xr

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from probes.core.runner import run
from probes.patch_similarity import PatchSimilarity
from tests.probes.families import Double, double, inputs, noise, peaked

IMAGES = noise(3)
SOURCES = [ImageSource(f"image {i}", lambda image=image: image) for i, image in enumerate(IMAGES)]


def result(adapter: Adapter, batch_size: int = 2, **parameters) -> xr.Dataset:
    return run({"m": adapter}, SOURCES, {"p": PatchSimilarity(**parameters)}, batch_size=batch_size)["p"]["m"]


def features(adapter: Adapter, facet: str, layer: int, prefix: int) -> np.ndarray:
    """Patch features by hooks on the native modules, no probe involved: (image, patch, channel)."""
    found = {}
    module = adapter.module.norm if facet == "token" else adapter.module.blocks[layer].attn.qkv
    handle = module.register_forward_hook(lambda _, args, out: found.update(out=out.numpy()))
    with torch.inference_mode():
        adapter.module(inputs(adapter, IMAGES))
    handle.remove()
    out = found["out"]
    if facet != "token":
        out = np.split(out, 3, -1)[("query", "key", "value").index(facet)]
    return out[:, prefix:]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    dot = math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(float(x) ** 2 for x in a) * math.fsum(float(y) ** 2 for y in b))


CASES = {
    "vit_base_patch16_siglip_224": 0,
    "vit_tiny_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "vit_small_patch14_reg4_dinov2": 5,
}


@pytest.mark.parametrize(("name", "prefix"), CASES.items())
@pytest.mark.parametrize("facet", ["token", "query", "key", "value"])
def test_against_loops(name: str, prefix: int, facet: str) -> None:
    adapter = double(name)
    values = features(adapter, facet, 1, prefix)
    height, width = adapter.spec.grid
    found = result(adapter, query="1:2", of=2, facet=facet, layer="last" if facet == "token" else "1")
    asked = values[2, 1 * width + 2]
    for image in range(3):
        for row, column in [(0, 0), (1, 2), (height - 1, width - 1), (2, 1)]:
            expected = cosine(asked, values[image, row * width + column])
            assert found["similarity"][image, row, column].item() == pytest.approx(expected, abs=1e-5)
    assert found["similarity"][2, 1, 2].item() == pytest.approx(1)


def test_matches_against_loops() -> None:
    adapter = double("vit_tiny_patch16_224")
    values = features(adapter, "token", 0, 1)
    found = result(adapter, of=1)
    every = [[[cosine(a, b) for b in values[image]] for a in values[1]] for image in range(3)]
    mutual = 0
    for image in range(3):
        table = np.array(every[image])
        for patch in range(len(table)):
            best = int(table[patch].argmax())
            place = {"image": image, "y": patch // adapter.spec.grid[1], "x": patch % adapter.spec.grid[1]}
            assert found["match"].isel(place).item() == best
            assert found["match_similarity"].isel(place).item() == pytest.approx(table[patch, best], abs=1e-5)
            assert found["mutual"].isel(place).item() == int(table[:, best].argmax() == patch)
        mutual += int(found["mutual"][image].sum())
    assert found["mutual"][1].values.all(), "every patch of the image itself is its own best match"
    assert mutual > found["mutual"][1].size, "other images have mutual matches, too"


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_image_asked_about_may_come_last(batch_size: int) -> None:
    adapter = double("vit_tiny_patch16_224")
    xr.testing.assert_allclose(result(adapter, of=2), result(adapter, batch_size, of=2))


def test_coarser_layers_of_a_windowed_model_and_of_a_cnn() -> None:
    swin = result(double("swin_tiny_patch4_window7_224"), query="27:55")
    assert swin["similarity"].shape[1:] == (14, 28)
    assert swin["similarity"][0, 13, 27].item() == pytest.approx(1)
    assert "choose token" in result(double("swin_tiny_patch4_window7_224"), facet="key").attrs["undefined"]
    cnn = result(Double(timm.create_model("resnet18").double(), image_size=96))
    assert cnn["similarity"][0, 1, 1].item() == pytest.approx(1)


def test_what_there_is_not() -> None:
    adapter = double("vit_tiny_patch16_224")
    assert result(adapter, of=3).attrs["undefined"] == "there is no image 3 among the 3 of this run, from 0"
    assert "there is no patch 0:6" in result(adapter, query="0:6").attrs["undefined"]
    assert "there is no block 4" in result(adapter, layer="4").attrs["undefined"]
    assert "layer 4 of" in result(adapter, layer="4", facet="key").attrs["undefined"]


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"query": "3"}, "query is '3'; it must be center, ROW:COL such as 3:7, U,V such as"),
        ({"of": -1}, "of is -1; it must be the place of an image"),
        ({"facet": "keys"}, "facet is 'keys'; it must be one of token, query"),
        ({"layer": "x"}, "layer is 'x'; it must be last or an index"),
    ],
)
def test_bad_parameters(parameters: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        PatchSimilarity(**parameters)


@pytest.mark.parametrize("point", [(0.0, 0.0), (0.7, 0.2), (0.999, 0.999)])
def test_a_point_of_the_input_is_asked_in_the_grid_of_a_convolutional_network(point: tuple[float, float]) -> None:
    adapter = Adapter(timm.create_model("resnet18").eval(), image_size=(96, 160))
    found = run({"m": adapter}, SOURCES, {"p": PatchSimilarity(query=f"{point[0]},{point[1]}", layer="5")})["p"]["m"]
    height, width = found.sizes["y"], found.sizes["x"]
    assert (height, width) == (6, 10)
    y, x = int(point[1] * height), int(point[0] * width)
    assert found["similarity"].isel(image=0, y=y, x=x).item() == pytest.approx(1, abs=1e-5)
    assert (found["similarity"].isel(image=0) > 0.99999).sum() == 1


def test_a_point_is_the_patch_that_it_lies_in() -> None:
    adapter = double("vit_tiny_patch16_224")
    xr.testing.assert_equal(result(adapter, query="0.4,0.6").drop_attrs(), result(adapter, query="2:2").drop_attrs())
    for query in ("1,0", "0.5", "-0.1,0.2", "0.5,0.5,0.5", "nan,0"):
        with pytest.raises(ValueError, match="must be center, ROW:COL"):
            PatchSimilarity(query=query)


SHAPES = [(200, 100), (100, 180), (130, 120)]


def cropped(name: str, batch_size: int = 2, **parameters) -> tuple[Double, xr.Dataset]:
    """A model with its own evaluation transform, which crops, over images of three shapes."""
    side = 84 if "patch14" in name else 96
    adapter = Double(peaked(name, (side, side)).module, image_size=side)
    sources = [ImageSource(str(i), lambda s=s, i=i: noise(1, s, seed=i)[0]) for i, s in enumerate(SHAPES)]
    return adapter, run({"m": adapter}, sources, {"p": PatchSimilarity(**parameters)}, batch_size=batch_size)["p"]["m"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("of", [0, 1, 2])
def test_a_point_of_the_image_is_the_patch_that_the_model_sees_there(name: str, of: int) -> None:
    x, y = 0.48, 0.62
    adapter, found = cropped(name, of=of, query=f"@{x},{y}", layer="0.5")
    width, height = SHAPES[of]
    side = min(width, height) * adapter.config["crop_pct"]  # of the square that timm cuts out of the middle
    row = int(((y * height - height / 2) / side + 0.5) * adapter.spec.grid[0])
    column = int(((x * width - width / 2) / side + 0.5) * adapter.spec.grid[1])
    assert (int(found.query_row), int(found.query_column)) == (row, column)
    assert found.similarity[of, row, column].item() == pytest.approx(1)
    layer = found.attrs["point"].removeprefix("resid_post.")
    _, by_patch = cropped(name, 3, of=of, query=f"{row}:{column}", layer=layer)
    xr.testing.assert_allclose(found.drop_attrs(), by_patch.drop_attrs(), rtol=1e-5)


def test_a_point_outside_of_what_the_model_sees_has_no_map() -> None:
    _, found = cropped("vit_tiny_patch16_224", of=0, query="@0.9,0.5")
    assert np.isnan(found.similarity).all()
    assert (int(found.query_row), int(found.query_column)) == (-1, -1)
    assert (found.match_similarity[0] > 0.99).all(), "what does not depend on the query is there"
    cnn = Adapter(timm.create_model("resnet18").eval(), image_size=96)
    outside = run({"m": cnn}, SOURCES, {"p": PatchSimilarity(query="2:9", layer="5")})["p"]["m"]
    assert outside.sizes["x"] == 6
    assert np.isnan(outside.similarity).all()
    assert int(outside.query_row) == -1


def test_a_point_of_the_image_under_coarser_grids() -> None:
    swin = result(double("swin_tiny_patch4_window7_224"), query="@0.99,0.98")
    assert (int(swin.query_row), int(swin.query_column)) == (13, 27)
    assert swin.similarity[0, 13, 27].item() == pytest.approx(1)
    cnn = Adapter(timm.create_model("resnet18").eval(), image_size=(96, 160))
    found = run({"m": cnn}, SOURCES, {"p": PatchSimilarity(query="@0.7,0.2", layer="5")})["p"]["m"]
    assert (int(found.query_row), int(found.query_column)) == (1, 7)
    assert found.similarity[0, 1, 7].item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("layer", "token", "key"),
    [("0.0", "resid_post.0", "key.0"), ("0.5", "resid_post.2", "key.2"), ("1.0", "norm", "key.3")],
)
def test_a_relative_depth(layer: str, token: str, key: str) -> None:
    spec = double("vit_tiny_patch16_224").spec
    assert PatchSimilarity(layer=layer).taps(spec) == (token,)
    assert PatchSimilarity(layer=layer, facet="key").taps(spec) == (key,)
