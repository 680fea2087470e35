"""The cascade against networks randomised from scratch, and Spearman's correlation against scipy's."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from probes.attention_sanity import AttentionSanity, randomise, spearman, stages
from probes.core.capture import Batch
from probes.core.relevance import relevance
from probes.core.saliency import maps_of
from probes.core.targets import Target
from tests.probes.families import FAMILIES, inputs, noise, peaked

MODEL = "vit_tiny_patch16_224"


def result(adapter, **parameters):
    probe, images = AttentionSanity(**parameters), noise(2)
    assert probe.undefined(adapter.spec) is None
    with torch.inference_mode():
        seen = Batch(adapter, range(2), inputs(adapter, images), images)
        return probe.compute(probe.update(probe.init(adapter.spec), seen))


@pytest.mark.parametrize("kind", ["mean", "rollout", "chefer"])
def test_every_stage_against_a_network_randomised_from_scratch(kind: str) -> None:
    adapter = peaked(MODEL)
    found = result(adapter, map=kind)
    assert found.stage_name.values.tolist() == [
        "intact",
        "classifier",
        *(f"block {i}" for i in (4, 3, 2, 1)),
        "embedding",
    ]
    x, order = inputs(adapter, noise(2)), list(stages(adapter))
    top = adapter.module(x).argmax(-1)
    for count in (0, 2, len(order)):
        model = copy.deepcopy(adapter.module)
        with torch.no_grad():
            for _, names in reversed(order[:count]):  # in another order than the cascade
                randomise(model, names, 0)
        other = Adapter(model, image_size=adapter.image_size)
        if kind == "chefer":
            maps = relevance(other, x, kind, Target(top)).maps.numpy()  # the class stays the intact network's
        else:
            maps = maps_of(Batch(other, range(2), x, noise(2)), kind, Target())[:, 0]
        np.testing.assert_allclose(found["map"][:, count], maps, rtol=1e-5, atol=1e-9)
        for i in range(2):
            expected = spearmanr(found["map"].values[i, 0].ravel(), found["map"].values[i, count].ravel()).statistic
            assert float(found.correlation[i, count]) == pytest.approx(expected, abs=1e-6)


def test_attention_does_not_see_the_classifier() -> None:
    found = result(peaked(MODEL))
    assert (found.correlation[:, :2] == pytest.approx(1)).all()
    assert (abs(found.correlation[:, 2:]) < 0.95).any()


def test_nothing_learned_is_left_at_the_end() -> None:
    one, two = (result(peaked(MODEL, seed=seed), map="rollout") for seed in (0, 1))
    np.testing.assert_allclose(one["map"][:, -1], two["map"][:, -1], rtol=1e-6)
    assert not np.allclose(one["map"][:, 0], two["map"][:, 0])
    again = result(peaked(MODEL), map="rollout", seed=1)
    assert not np.allclose(one["map"][:, -1], again["map"][:, -1])


def test_the_model_is_left_as_it_was() -> None:
    adapter = peaked(MODEL)
    before = copy.deepcopy(adapter.module.state_dict())
    result(adapter, map="chefer")
    assert all(torch.equal(before[name], tensor) for name, tensor in adapter.module.state_dict().items())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_tensor_is_in_one_stage_and_changes(name: str) -> None:
    adapter = peaked(name)
    order = list(stages(adapter))
    names = [name for _, group in order for name in group]
    assert sorted(names) == sorted(adapter.module.state_dict())
    before = copy.deepcopy(adapter.module.state_dict())
    with torch.no_grad():
        for parameter in adapter.module.parameters():
            parameter.add_(torch.rand_like(parameter))  # trained values: none is at what a fresh network has
        trained = copy.deepcopy(adapter.module.state_dict())
        randomise(adapter.module, names, 0)
    for key, _ in adapter.module.named_parameters():
        now = adapter.module.state_dict()[key]
        assert now.numel() < 8 or not torch.equal(now, trained[key]), key
        assert before[key].shape == now.shape


def test_similarity_moves_with_the_network() -> None:
    adapter = peaked("vit_small_patch14_reg4_dinov2")
    of = ImageSource("other", lambda: noise(1, seed=9)[0])
    found = result(adapter, map="chefer", target="similarity", of=of)
    assert np.isfinite(found.correlation[:, 0]).all()
    assert found.attrs["target"] == "similarity"


def test_one_target_for_models_with_and_without_a_classifier() -> None:
    of = ImageSource("other", lambda: noise(1, seed=9)[0])
    both = {"map": "chefer", "target": "top-or-similarity", "of": of}
    classifier, encoder = peaked(MODEL), peaked("vit_small_patch14_reg4_dinov2")
    assert result(classifier, **both).identical(result(classifier, map="chefer"))
    assert result(encoder, **both).identical(result(encoder, map="chefer", target="similarity", of=of))


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(float, (2, 12), elements=st.integers(0, 6).map(float)))
def test_spearman_with_ties(pair: np.ndarray) -> None:
    a, b = pair
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(spearman(a, b))
        return
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)
    assert spearman(a, np.exp(a)) == pytest.approx(1)


@pytest.mark.parametrize("parameters", [{"map": "heads"}, {"seed": -1}, {"target": ""}])
def test_bad_parameters_are_one_sentence(parameters: dict) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        AttentionSanity(**parameters)


def test_undefined_says_why() -> None:
    assert "similarity to an image" in (
        AttentionSanity(map="chefer").undefined(peaked("vit_small_patch8_224").spec) or ""
    )
    assert AttentionSanity().undefined(peaked("vit_small_patch8_224").spec) is None
