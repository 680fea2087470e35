"""Embedding similarity against plain loops over hooked outputs."""

import math

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from model_zoo.reference import parse
from probes.core.runner import run
from probes.embedding_similarity import EmbeddingSimilarity, cosine
from tests.probes.families import Double, double, inputs, noise, peaked

IMAGES = noise(5)
SOURCES = [ImageSource(f"image {i}", lambda image=image: image) for i, image in enumerate(IMAGES)]


def result(adapter: Adapter, count: int = 5, **parameters: str) -> xr.Dataset:
    return run({"m": adapter}, SOURCES[:count], {"p": EmbeddingSimilarity(**parameters)}, batch_size=2)["p"]["m"]


def hooked(adapter: Adapter, modules: list[str]) -> list[np.ndarray]:
    found: dict[str, np.ndarray] = {}
    handles = [
        adapter.module.get_submodule(m).register_forward_hook(lambda _, a, out, m=m: found.__setitem__(m, out.numpy()))
        for m in modules
    ]
    with torch.inference_mode():
        adapter.module(inputs(adapter, IMAGES))
    for handle in handles:
        handle.remove()
    return [found[m] for m in modules]


PREFIX = {
    "vit_base_patch16_siglip_224": 0,
    "vit_tiny_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "vit_small_patch14_reg4_dinov2": 5,
}


@pytest.mark.parametrize(("name", "prefix"), PREFIX.items())
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_against_loops(name: str, prefix: int, pool: str) -> None:
    adapter = double(name)
    found = result(adapter, pool=pool)
    modules = [f"blocks.{i}" for i in range(len(adapter.module.blocks))] + ["norm"]
    for layer, tokens in enumerate(hooked(adapter, modules)):
        by_cls = pool == "cls" and prefix > 0
        assert found["pool_used"].values[layer] == ("cls" if by_cls else "mean")
        vectors = []
        for image in tokens:
            rows = [image[0]] if by_cls else list(image[prefix:])
            vectors.append([math.fsum(float(r[c]) for r in rows) / len(rows) for c in range(image.shape[1])])
        assert np.allclose(found["embedding"].values[layer], vectors, rtol=1e-5, atol=1e-5)
        for a in range(5):
            for b in range(5):
                dot = math.fsum(x * y for x, y in zip(vectors[a], vectors[b], strict=True))
                lengths = [math.sqrt(math.fsum(x * x for x in vectors[i])) for i in (a, b)]
                assert found["similarity"].values[layer, a, b] == pytest.approx(dot / lengths[0] / lengths[1], abs=1e-5)


def test_logits() -> None:
    adapter = double("vit_tiny_patch16_224")
    with torch.inference_mode():
        logits = adapter.module(inputs(adapter, IMAGES)).numpy()
    found = result(adapter, pool="logits")
    assert np.allclose(found["embedding"].values[0], logits, rtol=1e-5, atol=1e-6)
    assert found.sizes["layer"] == 1
    dino = peaked("vit_small_patch14_reg4_dinov2")
    assert "no classifier" in result(dino, pool="logits").attrs["undefined"]


def test_widths_that_differ_are_padded() -> None:
    found = result(swin := double("swin_tiny_patch4_window7_224"), count=2)
    widths = found["feature_count"].values
    assert len(set(widths)) == 2
    assert np.isnan(found["embedding"].values[0, :, widths[0] :]).all()
    assert np.isfinite(found["similarity"]).all()
    assert set(found["pool_used"].values) == {"mean"}
    assert swin.spec.prefix == ()


def test_a_cnn_has_layers_too() -> None:
    found = result(Double(timm.create_model("resnet18").double(), image_size=64), count=2)
    assert found.sizes["layer"] == 8
    assert np.isfinite(found["similarity"]).all()


def test_class_token_of_cait_joins_at_the_end() -> None:
    assert result(double("cait_xxs24_224"), count=2)["pool_used"].values.tolist() == ["mean"] * 3 + ["cls"]


def test_layers() -> None:
    adapter = double("vit_tiny_patch16_224")
    every = result(adapter)
    assert result(adapter, layers="last")["point"].values.tolist() == ["norm"]
    some = result(adapter, layers="3,1")
    assert some["layer"].values.tolist() == [1, 3]
    xr.testing.assert_allclose(some["similarity"], every["similarity"].sel(layer=[1, 3]))
    assert result(adapter, layers="0.5,1.0")["point"].values.tolist() == ["resid_post.2", "norm"]
    assert result(adapter, layers="0.5", pool="logits")["point"].values.tolist() == ["logits"]
    assert "there is no layer 9" in result(adapter, layers="9").attrs["undefined"]


def test_one_image_and_twice_the_same() -> None:
    adapter = double("vit_tiny_patch16_224")
    assert np.allclose(result(adapter, count=1)["similarity"], 1)
    same = run({"m": adapter}, [SOURCES[0]] * 3, {"p": EmbeddingSimilarity()})["p"]["m"]
    assert np.allclose(same["similarity"], 1, atol=1e-6)


vectors = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.floats(-100, 100).map(lambda x: round(x, 3)),
)


@settings(deadline=None)
@given(vectors, st.floats(0.01, 100))
def test_laws(rows: np.ndarray, factor: float) -> None:
    values = cosine(rows)
    zero = (rows == 0).all(1)
    assert np.isnan(values[zero]).all()
    inside = values[~zero][:, ~zero]
    assert np.allclose(np.diag(inside), 1)
    assert np.allclose(inside, inside.T)
    assert (np.abs(inside) <= 1).all()
    assert np.allclose(cosine(rows * factor), values, equal_nan=True)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [({"pool": "max"}, "pool is 'max'; it must be one of cls"), ({"layers": "first"}, "must be all, last or indices")],
)
def test_bad_parameters(parameters: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EmbeddingSimilarity(**parameters)


@pytest.mark.parametrize(
    ("name", "vector"),
    [
        ("vit_tiny_patch16_224", "cls"),
        ("beit_base_patch16_224", "mean"),  # has CLS, and classifies by the mean
        ("vit_base_patch16_siglip_224", "mean"),
        ("swin_tiny_patch4_window7_224", "mean"),
    ],
)
def test_by_card_is_what_the_classifier_reads_where_the_catalog_is_silent(name: str, vector: str) -> None:
    adapter = double(name)
    assert adapter.spec.features == vector
    found = result(adapter, count=3, pool="card")
    assert set(found["pool_used"].values) == {vector}
    assert found.attrs["pool"] == "card"
    xr.testing.assert_equal(found["embedding"], result(adapter, count=3, pool=vector)["embedding"])


def test_by_card_the_catalog_goes_before_the_classifier() -> None:
    """The shipped masked autoencoder has a CLS token that timm would pool, and no loss reached."""
    named = double("vit_tiny_patch16_224")
    reference = parse("mae-b16")
    assert Double(named.module, reference, named.image_size).spec.features == "mean"
    assert Double(named.module, parse(f"timm:{reference.timm_name}"), named.image_size).spec.features == "mean"
    assert Double(named.module, parse(f"timm:{reference.timm_name}@random:0"), named.image_size).spec.features == "cls"
