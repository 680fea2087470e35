"""CKA against the formula written out, in one batch and in many, within a model and between two."""

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from probes.cka import CKA
from probes.core.hsic import Sums, ratio_of, u_centred_gram
from probes.core.runner import run
from tests.probes.families import Double, double, inputs, noise

IMAGES = noise(13)
SOURCES = [ImageSource(f"image {i}", lambda image=image: image) for i, image in enumerate(IMAGES)]


def cnn() -> Double:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Double(timm.create_model("resnet18").double(), image_size=64)


def hsic(K: np.ndarray, L: np.ndarray) -> float:
    """The formula of Song et al. as it is printed."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    value = (
        np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)
    )
    return value / (n * (n - 3))


def direct(xs: list[np.ndarray], ys: list[np.ndarray], parts: list[slice]) -> np.ndarray:
    """CKA of every x (images, features) with every y, HSICs summed over the parts before dividing."""
    values = np.empty((len(xs), len(ys)))
    for i, x in enumerate(xs):
        for j, y in enumerate(ys):
            grams = [(x[p] @ x[p].T, y[p] @ y[p].T) for p in parts]
            cross = sum(hsic(k, m) for k, m in grams)
            values[i, j] = cross / np.sqrt(sum(hsic(k, k) for k, _ in grams) * sum(hsic(m, m) for _, m in grams))
    return values


def hooked(adapter: Adapter, modules: list[str], pick=lambda tokens: tokens.flatten(1)) -> list[np.ndarray]:
    found: dict[str, np.ndarray] = {}
    handles = [
        adapter.module.get_submodule(m).register_forward_hook(
            lambda _, args, out, m=m: found.__setitem__(m, pick(out).numpy().copy())
        )
        for m in modules
    ]
    with torch.inference_mode():
        adapter.module(inputs(adapter, IMAGES))
    for handle in handles:
        handle.remove()
    return [found[m] for m in modules]


def blocks(adapter: Adapter) -> list[str]:
    return [f"blocks.{i}" for i in range(len(adapter.module.blocks))]


PICKS = {
    "tokens": lambda tokens: tokens.flatten(1),
    "cls": lambda tokens: tokens[:, 0],
    "mean": lambda tokens: tokens[:, 5:].mean(1),
}


@pytest.mark.parametrize("representation", PICKS)
def test_one_batch_against_the_formula(representation: str) -> None:
    adapter = double("vit_small_patch14_reg4_dinov2")
    probe = CKA(representation=representation, minibatch=13)
    found = run({"m": adapter}, SOURCES, {"cka": probe})["cka"]["m"]
    features = hooked(adapter, blocks(adapter), PICKS[representation])
    np.testing.assert_allclose(found["cka"], direct(features, features, [slice(0, 13)]), atol=1e-9)
    assert np.isnan(found["cka_sd"]).all()
    assert found.attrs["n"] == 13


@pytest.mark.parametrize("batch_size", [1, 3, 5, 13])
def test_minibatches_are_the_probes_own(batch_size: int) -> None:
    """Minibatches of 5 are images 0 to 4 and 5 to 9; the last 3 are too few and are left out, which is said."""
    adapter = double("vit_tiny_patch16_224")
    found = run({"m": adapter}, SOURCES, {"cka": CKA(minibatch=5)}, batch_size=batch_size)["cka"]["m"]
    features = hooked(adapter, blocks(adapter))
    np.testing.assert_allclose(found["cka"], direct(features, features, [slice(0, 5), slice(5, 10)]), atol=1e-9)
    assert (found.attrs["n"], found.attrs["minibatches"], found.attrs["dropped"]) == (10, 2, 3)
    single = [direct(features, features, [part]) for part in (slice(0, 5), slice(5, 10))]
    np.testing.assert_allclose(found["cka_sd"], np.std(single, axis=0, ddof=1), atol=1e-9)


def test_a_last_minibatch_of_four_or_more_counts() -> None:
    adapter = double("vit_tiny_patch16_224")
    found = run({"m": adapter}, SOURCES, {"cka": CKA(minibatch=9)})["cka"]["m"]
    features = hooked(adapter, blocks(adapter))
    np.testing.assert_allclose(found["cka"], direct(features, features, [slice(0, 9), slice(9, 13)]), atol=1e-9)
    assert found.attrs["dropped"] == 0


@pytest.mark.parametrize("batch_size", [4, 13])
def test_between_two_models(batch_size: int) -> None:
    """A transformer against a CNN, whose layers differ in number, size and tokens."""
    models = {"vit": double("vit_tiny_patch16_224"), "cnn": cnn(), "other": double("vit_base_patch16_siglip_224")}
    found = run(models, SOURCES, {"cka": CKA(minibatch=6)}, batch_size=batch_size)["cka"]
    assert set(found) == {"vit", "cnn", "other", "vit+cnn", "vit+other", "cnn+other"}
    vit = hooked(models["vit"], blocks(models["vit"]))
    convolutional = hooked(models["cnn"], [f"layer{s}.{i}" for s in range(1, 5) for i in range(2)])
    parts = [slice(0, 6), slice(6, 12)]
    pair = found["vit+cnn"]
    np.testing.assert_allclose(pair["cka"], direct(vit, convolutional, parts), atol=1e-9)
    single = [direct(vit, convolutional, [part]) for part in parts]
    np.testing.assert_allclose(pair["cka_sd"], np.std(single, axis=0, ddof=1), atol=1e-9)
    np.testing.assert_allclose(found["cnn"]["cka"], direct(convolutional, convolutional, parts), atol=1e-9)
    assert pair["point_a"].values[0] == "resid_post.0"
    assert (pair.attrs["n"], pair.attrs["dropped"]) == (12, 1)


def test_a_model_with_itself() -> None:
    adapter = double("vit_tiny_patch16_224")
    found = run({"a": adapter, "b": adapter}, SOURCES, {"cka": CKA(minibatch=5)}, batch_size=4)["cka"]
    np.testing.assert_allclose(found["a+b"]["cka"], found["a"]["cka"], atol=1e-12)
    np.testing.assert_allclose(np.diag(found["a"]["cka"]), 1, atol=1e-12)


def test_pairs_of_shards_that_cut_a_minibatch() -> None:
    probe, models = CKA(minibatch=4), [double("vit_tiny_patch16_224"), double("vit_tiny_patch16_224", seed=1)]
    whole = run(dict(zip("ab", models, strict=True)), SOURCES[:9], {"cka": probe}, batch_size=9)["cka"]["a+b"]
    shards = []
    for images in (range(6), range(6, 9)):
        states = []
        for adapter in models:
            state = probe.init(adapter.spec)
            x = inputs(adapter, [IMAGES[i] for i in images])
            from probes.core.capture import forward

            with torch.inference_mode():
                forward(adapter, x, images, on_tokens=lambda t: probe.update(state, t), points=probe.taps(adapter.spec))  # noqa: B023
            states.append(state)
        shards.append((probe.update_pair(probe.init_pair(*states), *states), *states))
    (first, a1, b1), (second, a2, b2) = shards
    a, b = probe.merge(a1, a2), probe.merge(b1, b2)
    pair = probe.update_pair(probe.merge_pair(first, second), a, b)
    merged = probe.compute_pair(pair, a, b)
    xr.testing.assert_allclose(whole, merged)
    assert merged.attrs["n"] == 8


def test_every_point_in_the_order_it_is_computed() -> None:
    adapter = double("vit_tiny_patch16_224")
    found = run({"m": adapter}, SOURCES, {"cka": CKA(points="all", minibatch=13)})["cka"]["m"]
    names = found["point_a"].values.tolist()
    assert names[:5] == ["embed", "attn_out.0", "mlp_out.0", "resid_post.0", "attn_out.1"]
    features = hooked(adapter, ["norm_pre", "blocks.0.attn", "blocks.0.mlp", "blocks.0", "blocks.1.attn"])
    np.testing.assert_allclose(found["cka"][:5, :5], direct(features, features, [slice(0, 13)]), atol=1e-9)


def test_what_is_constant_is_said_and_undefined() -> None:
    """CLS is the same for every image before the first block has mixed anything in."""
    adapter = double("vit_tiny_patch16_224")
    probe = CKA(points="all", representation="cls")
    found = run({"m": adapter}, SOURCES, {"cka": probe}, dtype="float32")["cka"]["m"]
    assert found.attrs["constant"] == ["embed"]
    assert np.isnan(found["cka"].sel(layer_a=0)).all()
    assert np.isfinite(found["cka"][1:, 1:]).all()
    same = [SOURCES[0]] * 6
    reason = run({"m": adapter, "n": cnn()}, same, {"cka": CKA()})["cka"]
    assert "gives all images the same" in reason["m"].attrs["undefined"]
    assert "gives all images the same" in reason["m+n"].attrs["undefined"]


def test_constant_features_in_single_precision() -> None:
    adapter = double("vit_tiny_patch16_224")
    adapter.module.float()
    single = Adapter(adapter.module, image_size=adapter.image_size)
    found = run({"m": single}, [SOURCES[1]] * 7, {"cka": CKA(points="all")}, batch_size=3)["cka"]["m"]
    assert "undefined" in found.attrs


def test_too_few_images_and_no_class_token() -> None:
    models = {"a": double("vit_tiny_patch16_224"), "b": double("vit_base_patch16_siglip_224")}
    found = run(models, SOURCES[:3], {"cka": CKA()})["cka"]
    assert found["a"].attrs["undefined"] == "CKA needs at least 4 images, and 3 came"
    assert found["a+b"].attrs["undefined"] == "CKA needs at least 4 images, and 3 came"
    found = run(models, SOURCES[:5], {"cka": CKA(representation="cls")})["cka"]
    assert "no class token" in found["b"].attrs["undefined"]
    assert "no class token" in found["a+b"].attrs["undefined"]
    assert found["a"].sizes["layer_a"] == 4


def test_what_is_kept_does_not_grow() -> None:
    probe, adapter = CKA(minibatch=4), double("vit_tiny_patch16_224")
    state, sizes = probe.init(adapter.spec), []
    from probes.core.capture import forward

    for start in range(0, 12, 3):
        images = range(start, start + 3)
        with torch.inference_mode():
            x = inputs(adapter, [IMAGES[i] for i in images])
            forward(adapter, x, images, on_tokens=lambda t: probe.update(state, t), points=probe.taps(adapter.spec))
        sizes.append(max(len(held) for held in state.features.values()) if state.features else 0)
        assert not state.grams
        assert len(state.fresh) <= 1
    assert sizes == [3, 2, 1, 0]


matrices = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(deadline=None, max_examples=40)
@given(matrices, st.integers(4, 9), st.integers(1, 6), st.floats(0.01, 100))
def test_laws(random: np.random.Generator, n: int, width: int, factor: float) -> None:
    x, y = random.normal(size=(n, width)), random.normal(size=(n, width)) + 5
    rotation, _ = np.linalg.qr(random.normal(size=(width, width)))

    def cka(a: np.ndarray, b: np.ndarray) -> float:
        grams = [u_centred_gram(dict(enumerate(torch.from_numpy(m))))[None] for m in (a, b)]
        sums = Sums.of(*grams)
        return float(ratio_of(sums.cross, sums.own_a, sums.own_b)[0, 0])

    assert cka(x, x) == pytest.approx(1)
    assert cka(x, y) == pytest.approx(cka(y, x))
    assert cka(x, y) == pytest.approx(direct([x], [y], [slice(None)])[0, 0], abs=1e-6)
    assert cka(x @ rotation * factor, y) == pytest.approx(cka(x, y), abs=1e-7)
    assert cka(x + 1000, y) == pytest.approx(cka(x, y), abs=1e-6)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"representation": "patch"}, "representation is 'patch'; it must be one of tokens, cls, mean"),
        ({"points": "some"}, "points is 'some'; it must be one of blocks, all"),
        ({"minibatch": 3}, "minibatch is 3; it must be from 4 to 4096 images"),
    ],
)
def test_bad_parameters(parameters: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CKA(**parameters)


def test_by_card_each_model_has_its_own_vector_and_the_square_says_which() -> None:
    models = {"a": double("vit_tiny_patch16_224"), "b": double("beit_base_patch16_224")}
    found = run(models, SOURCES, {"cka": CKA(representation="card", minibatch=13)})["cka"]
    cls = hooked(models["a"], blocks(models["a"]), PICKS["cls"])
    mean = hooked(models["b"], blocks(models["b"]), lambda tokens: tokens[:, 1:].mean(1))
    np.testing.assert_allclose(found["a+b"]["cka"], direct(cls, mean, [slice(0, 13)]), atol=1e-9)
    assert (found["a+b"].attrs["used_a"], found["a+b"].attrs["used_b"]) == ("cls", "mean")
    early = run({"m": double("cait_xxs24_224")}, SOURCES, {"cka": CKA(representation="card")})["cka"]["m"]
    assert early.attrs["used_a"] == "mean"  # its CLS joins after the blocks
