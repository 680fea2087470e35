"""Attention between convolutions (CoAtNet): what is found in such a network, and what is refused."""

import numpy as np
import pytest
import timm
import torch

import model_zoo.architectures  # noqa: F401  (registers scenes_hybrid)
from model_zoo.adapter import Adapter
from probes import load
from probes.core.capture import Batch, Tokens, forward
from probes.core.relevance import METHODS, relevance, undefined
from probes.core.targets import Target
from tests.probes.families import double, inputs, noise, peaked
from tests.probes.test_contract import fold

NAME = "coatnet_0_224"


def test_the_shipped_hybrid_attends_over_the_grid_of_the_shipped_transformers() -> None:
    spec = Adapter(timm.create_model("scenes_hybrid")).spec
    vit = Adapter(timm.create_model("scenes_vit")).spec
    assert (spec.patch, spec.grid, spec.classes) == (vit.patch, vit.grid, vit.classes) == (8, (14, 14), 10)
    assert [layer.name for layer in spec.layers] == ["stages.1.blocks.2.attn", "stages.1.blocks.4.attn"]
    assert {(layer.heads, layer.grid, layer.kind, layer.has_cls) for layer in spec.layers} == {
        (4, (14, 14), "global", False)
    }
    assert [point for point in spec.points if point.startswith("resid_post")] == [f"resid_post.{i}" for i in range(6)]
    assert [point for point in spec.points if point.startswith("attn_out")] == ["attn_out.3", "attn_out.5"]
    assert (spec.prefix, spec.features, spec.no_attention) == ((), "mean", None)
    assert spec.interrupted
    assert not vit.interrupted


def test_a_map_that_shrinks_between_attention_layers_interrupts_them_too() -> None:
    adapter = Adapter(timm.create_model(NAME, embed_dim=(32, 32, 64), depths=(1, 1, 1), block_type=("C", "T", "T")))
    assert [layer.grid for layer in adapter.spec.layers] == [(28, 28), (14, 14)]
    assert (adapter.spec.patch, adapter.spec.grid) == (8, (28, 28))
    assert adapter.spec.interrupted


def test_the_points_are_the_maps_of_the_blocks() -> None:
    """A block of attention: what its attention and its MLP add is what its stream gains."""
    adapter = double(NAME)
    seen: dict[str, Tokens] = {}
    points = ["resid_post.1", "attn_out.2", "mlp_out.2", "resid_post.2"]
    with torch.inference_mode():
        forward(
            adapter, inputs(adapter, noise(2)), range(2), points=points,
            on_tokens=lambda tokens: seen.update({tokens.point: tokens}),
        )  # fmt: skip
    before, attention, mlp, after = (seen[point] for point in points)
    assert after.grid == (8, 12)
    torch.testing.assert_close(before.values + attention.values + mlp.values, after.values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_relevance_that_goes_through_attention_alone_is_refused(method: str) -> None:
    adapter = peaked(NAME)
    reason = undefined(adapter.spec, method)
    if method in ("chefer", "grad-rollout"):
        assert reason is not None
        assert "convolutions" in reason
        return
    assert reason is None
    found = relevance(adapter, inputs(adapter, noise(2)), method, Target(), steps=4).maps
    assert found.shape == (2, 8, 12)
    assert found.flatten(1).std(1).max() > 0, "grad-cam keeps what is positive, which of one image may be nothing"


def test_rollout_is_refused_and_the_score_of_the_heads_is_not() -> None:
    adapter = peaked(NAME)
    assert "convolutions" in (load("attention-rollout")().undefined(adapter.spec) or "")
    probe = load("saliency-score")(steps=0)
    assert probe.undefined(adapter.spec) is None
    images = noise(2)
    mask = np.zeros((90, 120), bool)
    mask[20:60, 30:80] = True
    batch = Batch(adapter, range(2), inputs(adapter, images), images, [lambda: mask, lambda: mask])
    iou = probe.compute(probe.update(probe.init(adapter.spec), batch))["iou"].values
    assert iou.shape == (2, 2)
    assert ((iou >= 0) & (iou < 1)).all()
    assert iou.max() > 0


def test_the_lens_applies_norm_and_classifier_to_a_cell() -> None:
    adapter = double(NAME)
    probe = load("logit-lens")(ranks=3)
    found = probe.compute(fold(probe, adapter, [range(2)]))
    module = adapter.module
    images = noise(4)[:2]
    with torch.inference_mode():
        cell = module.forward_features(inputs(adapter, images))[1, :, 5, 7]
        expected = module.head.fc(cell).softmax(-1).topk(3)
    last = found.isel(image=1, layer=-1)
    assert np.array_equal(last["top_class"].values[5, 7], expected.indices)
    np.testing.assert_allclose(last["probability"].values[5, 7], expected.values, rtol=1e-5)


def test_the_lens_says_where_a_classifier_reads_no_single_cell() -> None:
    hidden = Adapter(
        timm.create_model(NAME, embed_dim=(32, 64), depths=(1, 1), block_type=("C", "T"), img_size=64).double(),
        image_size=64,
    )
    probe = load("logit-lens")()
    assert "single tokens" in probe.compute(fold(probe, hidden, [range(1)])).attrs["undefined"]


def test_positions_are_the_bias_of_the_attention() -> None:
    adapter = peaked(NAME)
    probe = load("position-similarity")()
    found = probe.compute(fold(probe, adapter, []))
    assert found.attrs["source"] == "relative position bias"
    biases = [adapter.module.get_submodule(layer.name).rel_pos.get_bias()[0] for layer in adapter.spec.layers]
    expected = torch.stack(biases).mean((0, 1)).unflatten(0, (8, 12)).unflatten(2, (8, 12))
    np.testing.assert_allclose(found["similarity"].transpose("query_y", "query_x", "y", "x"), expected, rtol=1e-5)
