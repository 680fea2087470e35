"""Position similarity against plain loops, in every family, at every grid."""

import math

import numpy as np
import pytest
import timm
import torch
import xarray as xr

from model_zoo.adapter import Adapter
from probes.core.runner import run
from probes.position_similarity import PositionSimilarity
from tests.probes.families import FAMILIES, peaked


def result(adapter: Adapter, metric: str = "cosine") -> xr.Dataset:
    return run({"m": adapter}, [], {"p": PositionSimilarity(metric)})["p"]["m"]


TABLES = {
    "vit_tiny_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "deit3_small_patch16_224": 0,
    "vit_small_patch14_reg4_dinov2": 0,
    "vit_base_patch16_siglip_224": 0,
    "cait_xxs24_224": 0,
    "eva02_tiny_patch14_224": 1,
}


@pytest.mark.parametrize(("name", "prefix"), TABLES.items())
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_table_against_loops(name: str, prefix: int, metric: str) -> None:
    """`prefix` rows lead the table: written down here by hand, from the papers' layouts."""
    adapter = peaked(name)
    table = adapter.module.pos_embed[0].detach().numpy()
    height, width = adapter.spec.grid
    assert len(table) == prefix + height * width
    assert height != width
    values = result(adapter, metric)["similarity"]
    for qy, qx, y, x in [(0, 0, 0, 0), (1, 2, 3, 0), (height - 1, width - 1, 0, 1), (2, 0, 1, width - 1)]:
        a, b = table[prefix + qy * width + qx], table[prefix + y * width + x]
        expected = sum(float(i) * float(j) for i, j in zip(a, b, strict=True))
        if metric == "cosine":
            expected /= math.sqrt(sum(float(i) ** 2 for i in a)) * math.sqrt(sum(float(j) ** 2 for j in b))
        assert values.isel(query_y=qy, query_x=qx, y=y, x=x).item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_a_value_or_a_reason(name: str) -> None:
    adapter = peaked(name)
    found = result(adapter)
    values = found["similarity"]
    assert values.dims == ("y", "x", "query_y", "query_x")
    assert np.isfinite(values).all()
    assert values.attrs["units"]
    window = adapter.spec.layers[0].window if adapter.spec.layers[0].kind == "window" else adapter.spec.grid
    assert values.shape == (*window, *window)
    if found.attrs["source"] != "relative position bias":
        own = values.stack(a=("y", "x"), b=("query_y", "query_x")).values
        assert np.allclose(np.diag(own), 1, atol=1e-6)
        assert np.allclose(own, own.T, atol=1e-6)
        assert np.abs(own).max() <= 1 + 1e-6


def test_interpolated_as_the_model_does_it() -> None:
    """A model that resizes its table in the forward pass: the similarity is of the table that it adds there."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("vit_tiny_patch16_224", depth=1, dynamic_img_size=True, img_size=(96, 128))
    adapter = Adapter(model.double(), image_size=(64, 160))
    added = {}
    model.norm_pre.register_forward_hook(lambda _, args, out: added.update(with_table=out.detach()))
    with torch.inference_mode():
        model(torch.zeros(1, 3, 64, 160, dtype=torch.float64))
        plain = model.patch_embed(torch.zeros(1, 3, 64, 160, dtype=torch.float64)).flatten(1, 2)
    table = (added["with_table"][:, 1:] - plain)[0]
    expected = torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=-1)
    values = result(adapter)["similarity"].transpose("query_y", "query_x", "y", "x").values
    assert values.shape == (4, 10, 4, 10)
    np.testing.assert_allclose(values.reshape(40, 40), expected.numpy(), atol=1e-5)


def test_rotary_is_how_alike_a_turned_vector_stays() -> None:
    """A query and key with equal energy in every plane, turned by timm's own function."""
    from timm.layers import apply_rot_embed_cat

    adapter = peaked("vit_small_patch16_dinov3")
    found = result(adapter)
    assert found.attrs["source"] == "rotary embedding"
    height, width = adapter.spec.grid
    rope = adapter.module.rope.get_embed(shape=[height, width])
    vector = torch.ones(1, 1, height * width, rope.shape[-1] // 2)
    turned = apply_rot_embed_cat(vector, rope, half=getattr(adapter.module.blocks[0].attn, "rotate_half", False))[0, 0]
    expected = torch.nn.functional.cosine_similarity(turned[:, None], turned[None], dim=-1).double().numpy()
    values = found["similarity"].transpose("query_y", "query_x", "y", "x").values
    np.testing.assert_allclose(values.reshape(height * width, -1), expected, atol=1e-5)


def test_bias_is_what_changes_the_scores() -> None:
    """BEiT: with zero queries the scores are the bias alone, so log attention differs from it by a constant per row."""
    adapter = peaked("beit_base_patch16_224")
    generator = torch.Generator().manual_seed(1)
    taken = []
    for block in adapter.module.blocks:
        block.attn.relative_position_bias_table.copy_(
            torch.randn(block.attn.relative_position_bias_table.shape, generator=generator, dtype=torch.float64)
        )
        block.attn.qkv.weight.zero_()
        for name in ("q_bias", "v_bias"):
            getattr(block.attn, name).zero_()
    from probes.core.capture import forward

    with torch.inference_mode():
        forward(
            adapter,
            torch.zeros(1, 3, *adapter.spec.input_size, dtype=torch.float64),
            range(1),
            on_attention=lambda a: taken.append(a.rows(slice(None)).weights[0].log()),
        )
    mean = torch.stack(taken).mean((0, 1))[1:, 1:].numpy()
    height, width = adapter.spec.grid
    found = result(adapter)
    values = found["similarity"].transpose("query_y", "query_x", "y", "x").values.reshape(height * width, -1)
    assert np.ptp(values) > 0.5
    centred = [m - m.mean(1, keepdims=True) for m in (values, mean)]
    np.testing.assert_allclose(*centred, atol=1e-5)
    assert found["similarity"].attrs["units"] == "attention score"


def test_undefined_for_convolutions() -> None:
    assert "convolutional" in result(Adapter(timm.create_model("resnet18"))).attrs["undefined"]


def test_bad_metric() -> None:
    with pytest.raises(ValueError, match=r"metric is 'l2'; it must be one of cosine, dot\."):
        PositionSimilarity("l2")
