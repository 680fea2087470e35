"""Captured attention equals what the model computes, in every family."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model_zoo.adapter import Adapter
from probes.core.attention import FEW, Attention, log_normaliser, read_call
from probes.core.capture import Tokens, forward
from tests.probes.families import FAMILIES, QUICK, inputs, noise, peaked


def written_out(adapter: Adapter, x: Tensor) -> dict[str, Tensor]:
    """Every layer's weights as the unfused code path hands them to its dropout; per window where there are windows."""
    module = copy.deepcopy(adapter.module)
    found: dict[str, Tensor] = {}
    for layer in adapter.spec.layers:
        attention = module.get_submodule(layer.name)
        if hasattr(attention, "fused_attn"):
            attention.fused_attn = False
        if isinstance(getattr(attention, "attn_drop", None), nn.Module):
            attention.attn_drop.register_forward_pre_hook(
                lambda _, args, name=layer.name: found.__setitem__(name, args[0].detach())
            )
    with torch.inference_mode():
        module(x)
    return found


def captured(adapter: Adapter, x: Tensor, queries: slice = slice(None)) -> dict[str, Tensor]:
    rows: dict[str, Tensor] = {}

    def take(attention: Attention) -> None:
        rows[attention.layer.name] = attention.rows(queries).weights.clone()

    with torch.inference_mode():
        forward(adapter, x, range(len(x)), on_attention=take)
    return rows


@pytest.mark.parametrize("name", FAMILIES)
def test_equals_the_unfused_path(name: str) -> None:
    adapter = peaked(name)
    x = inputs(adapter, noise(2))
    windowed = adapter.spec.layers[0].kind == "window"
    reference, rows = written_out(adapter, x), captured(adapter, x, slice(0, 1 if windowed else None))
    assert len(rows) == len(adapter.spec.layers) > 0
    for layer in adapter.spec.layers:
        if layer.kind in ("window", "pool"):
            continue  # their own tests below
        expected = reference[layer.name]
        assert expected.shape == (2, layer.heads, layer.queries, layer.keys)
        torch.testing.assert_close(rows[layer.name], expected, rtol=1e-9, atol=1e-12)
    sharpest = max(float(r.amax()) for r in rows.values())
    assert sharpest > 0.2, "attention is near uniform: the comparison would hide errors"


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_windows_lie_where_the_module_puts_them(name: str) -> None:
    """Dense rows times the values of the whole grid give the block's own attention output, shifted windows included."""
    adapter = peaked(name)
    x = inputs(adapter, noise(1))
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    blocks = {layer.name: adapter.module.get_submodule(layer.name.rpartition(".")[0]) for layer in adapter.spec.layers}
    originals = {name: block._attn for name, block in blocks.items()}

    def spy(name: str, given: Tensor) -> Tensor:
        out = originals[name](given)
        seen[name] = (given.detach(), out.detach())
        return out

    for name_, block in blocks.items():
        block._attn = lambda given, name_=name_: spy(name_, given)
    queries = slice(0, None, 37)
    rows = captured(adapter, x, queries)
    assert any(any(layer.shift) for layer in adapter.spec.layers)
    for layer in adapter.spec.layers:
        given, out = seen[layer.name]
        module = adapter.module.get_submodule(layer.name)
        tokens = given.flatten(1, 2)
        weight, bias = module.qkv.weight, module.qkv.bias
        if bias is None:
            bias = torch.cat([module.q_bias, module.k_bias, module.v_bias])
        value = nn.functional.linear(tokens, weight, bias).chunk(3, -1)[2]
        value = value.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        mixed = (rows[layer.name] @ value).transpose(1, 2).flatten(2)
        torch.testing.assert_close(module.proj(mixed), out.flatten(1, 2)[:, queries], rtol=1e-7, atol=1e-9)


def test_pooling_query_of_siglip() -> None:
    adapter = peaked("vit_base_patch16_siglip_224")
    x = inputs(adapter, noise(1))
    pool, layer = adapter.module.attn_pool, adapter.spec.layers[-1]
    assert layer.kind == "pool"
    with torch.inference_mode():
        tokens = adapter.module.forward_features(x)
        query = pool.q(pool.latent).view(1, layer.heads, -1)
        key = pool.kv(tokens)[..., : tokens.shape[-1]].unflatten(-1, (layer.heads, -1))
        scores = torch.einsum("hd,bkhd->bhk", query[0], key) * pool.scale
    torch.testing.assert_close(captured(adapter, x)[layer.name][:, :, 0], scores.softmax(-1), rtol=1e-9, atol=1e-12)


BLOCKED = [*QUICK, "vit_base_patch16_siglip_224", "beit_base_patch16_224"]


@pytest.mark.parametrize(("name", "room"), [*((name, (4_000, 0)) for name in BLOCKED), (QUICK[0], (10**6, 0))])
def test_blocks_are_the_rows(name: str, room: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some rows of an image where it is large, all rows of some images where they are small."""
    monkeypatch.setattr("probes.core.capture.room", lambda device: room)
    adapter = peaked(name)
    x = inputs(adapter, noise(2))
    pieces: dict[int, list] = {}
    whole: dict[int, Tensor] = {}

    def take(attention: Attention) -> None:
        pieces[attention.index] = [replace(block, weights=block.weights.clone()) for block in attention.blocks()]
        whole[attention.index] = attention.rows(slice(None)).weights

    with torch.inference_mode():
        forward(adapter, x, range(2), on_attention=take)
    assert len(pieces[0]) > 1
    for index, blocks in pieces.items():
        found, times = torch.zeros_like(whole[index]), torch.zeros(2, adapter.spec.layers[index].queries)
        for block in blocks:
            images, queries = list(block.images), slice(block.queries[0], block.queries[-1] + 1)
            found[images, :, queries] = block.weights
            times[images, queries] += 1
        assert (times == 1).all()
        torch.testing.assert_close(found, whole[index], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [0.0, 30.0, 60.0, 200.0, float("inf")])
def test_the_log_normaliser_of_a_row_does_not_depend_on_where_its_weight_lies(far: float, dtype: torch.dtype) -> None:
    scores = torch.randn(2, 3, 5, 400, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 4
    scores[0, :, 2, :FEW] -= far  # of one image's third row the keys that are looked at first
    expected = scores.double().logsumexp(-1)
    found = log_normaliser(scores.softmax(-1), scores)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3", "swin_tiny_patch4_window7_224"])
def test_the_forward_pass_is_untouched(name: str) -> None:
    adapter = peaked(name)
    x = inputs(adapter, noise(1))
    with torch.inference_mode():
        plain = adapter.module(x)
        watched = forward(adapter, x, range(1), on_attention=lambda a: a.rows([0]), points=adapter.spec.points[:2])
        again = adapter.module(x)
    assert torch.equal(plain, watched)
    assert torch.equal(plain, again)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in adapter.module.modules())


class Fused(TorchFunctionMode):
    """Counts the calls of the fused kernel."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.nn.functional.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", FAMILIES)
def test_where_all_rows_are_asked_for_they_make_the_output(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.core.capture.room", lambda device: (4_000, 0))
    adapter = peaked(name)
    x = inputs(adapter, noise(2))
    windows = sum(layer.kind == "window" for layer in adapter.spec.layers)
    with torch.inference_mode():
        with Fused() as plainly:
            plain = adapter.module(x)
        for take, left in (
            (lambda seen: [None for _ in seen.blocks()], windows),
            (lambda seen: next(seen.blocks()), len(adapter.spec.layers)),
        ):
            with Fused() as fused:
                watched = forward(adapter, x, range(2), on_attention=take)
            assert fused.count == min(left, plainly.count)
            torch.testing.assert_close(watched, plain, rtol=1e-9, atol=1e-12)


def test_gradients_and_low_precision_keep_the_fused_kernel() -> None:
    adapter = Adapter(timm.create_model("test_vit"))
    x = torch.randn(2, 3, 160, 160)
    layers = len(adapter.spec.layers)
    with Fused() as fused, torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        forward(adapter, x, range(2), on_attention=lambda seen: [None for _ in seen.blocks()])
    assert fused.count == layers
    with Fused() as fused:
        logits = forward(adapter, x.requires_grad_(), range(2), on_attention=lambda a: [None for _ in a.blocks()])
    assert fused.count == layers
    assert logits.requires_grad
    with Fused() as fused, torch.no_grad():
        forward(adapter, x, range(2), on_attention=lambda seen: [None for _ in seen.blocks()])
    assert fused.count == 0


def test_a_gradient_of_any_part_keeps_the_fused_kernel() -> None:
    parts = {name: torch.zeros(1, 1, 2, 4) for name in ("query", "key", "value")} | {"attn_mask": torch.zeros(2, 2)}
    assert read_call(**parts).by_rows
    for name, part in parts.items():
        assert not read_call(**{**parts, name: part.clone().requires_grad_()}).by_rows, name


def test_hooks_are_gone_after_an_exception() -> None:
    adapter = peaked("vit_tiny_patch16_224")

    def fail(attention: Attention) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        forward(adapter, inputs(adapter, noise(1)), range(1), on_attention=fail, points=["resid_post.1"])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in adapter.module.modules())


def test_a_layer_that_does_not_run_is_an_error() -> None:
    adapter = peaked("vit_tiny_patch16_224")
    adapter.module.blocks[2].attn.forward = lambda x, **_: x
    with pytest.raises(RuntimeError, match=r"blocks\.2\.attn .* seen 0 times"):
        forward(adapter, inputs(adapter, noise(1)), range(1), on_attention=lambda _: None)


def test_unknown_point_names_the_known() -> None:
    adapter = peaked("vit_tiny_patch16_224")
    with pytest.raises(ValueError, match=r"no point 'blocks\.0'; it has embed, resid_post\.0"):
        forward(adapter, inputs(adapter, noise(1)), range(1), points=["blocks.0"])


@pytest.mark.parametrize("name", [*FAMILIES, "resnet50"])
def test_every_point_fires_once_with_the_shape_it_says(name: str) -> None:
    adapter = peaked(name)
    seen: list[Tokens] = []
    with torch.inference_mode():
        logits = forward(
            adapter, inputs(adapter, noise(1)), range(1), on_tokens=seen.append, points=adapter.spec.points
        )
    assert [t.point for t in sorted(seen, key=lambda t: adapter.spec.points.index(t.point))] == list(
        adapter.spec.points
    )
    for tokens in seen:
        assert tokens.patches.shape[1] == np.prod(tokens.grid), tokens.point
    final = next(t for t in seen if t.point == ("logits" if adapter.spec.classes else "features"))
    assert torch.equal(final.values[:, 0], logits)


def test_autocast_of_the_model_leaves_the_rows_exact() -> None:
    """Under bfloat16 the rows are the float32 softmax of the very queries and keys the kernel was given."""
    adapter = peaked("vit_tiny_patch16_224", sharpen=20)
    adapter.module.float()
    x = inputs(adapter, noise(1))
    points = [f"{facet}.{i}" for facet in ("query", "key") for i in range(4)]
    facets: dict[str, Tensor] = {}
    rows: dict[int, Tensor] = {}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        forward(
            adapter,
            x,
            range(1),
            on_attention=lambda a: rows.__setitem__(a.index, a.rows(slice(None)).weights),
            on_tokens=lambda t: facets.__setitem__(t.point, t.values.clone()),
            points=points,
        )
    for index, layer in enumerate(adapter.spec.layers):
        query, key = facets[f"query.{index}"], facets[f"key.{index}"]
        assert query.dtype == torch.bfloat16
        query, key = (f.double().unflatten(-1, (layer.heads, -1)).transpose(1, 2) for f in (query, key))
        expected = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
        assert rows[index].dtype == torch.float32
        torch.testing.assert_close(rows[index].double(), expected, rtol=1e-4, atol=1e-6)


def test_rows_come_in_the_order_asked_for() -> None:
    adapter = peaked("vit_tiny_patch16_224")
    x = inputs(adapter, noise(1))
    got: dict[str, Tensor] = {}

    def take(attention: Attention) -> None:
        if attention.index == 0:
            got["some"], got["all"] = attention.rows([0, 2, 1, 3]).weights, attention.rows(slice(None)).weights

    with torch.inference_mode():
        forward(adapter, x, range(1), on_attention=take)
    torch.testing.assert_close(got["some"], got["all"][:, :, [0, 2, 1, 3]])


@pytest.mark.parametrize("name", ["davit_tiny", "samvit_base_patch16", "mvitv2_tiny", "levit_128s"])
def test_other_architectures_say_why_they_have_no_maps(name: str) -> None:
    with torch.device("meta"):
        adapter = Adapter(timm.create_model(name))
    assert adapter.spec.layers == ()
    assert "does not attend over one sequence of patches" in (adapter.spec.no_attention or "")


def test_of_attention_across_channels_only_the_class_layers_are_maps() -> None:
    adapter = Adapter(timm.create_model("xcit_nano_12_p16_224"))
    rows = captured(adapter, inputs(adapter, noise(1)))
    assert {layer.kind for layer in adapter.spec.layers} == {"class"}
    assert all(row.shape == (1, 4, 1, 197) for row in rows.values())


def test_a_stem_counts_into_the_patch() -> None:
    with torch.device("meta"):
        adapter = Adapter(timm.create_model("vit_tiny_r_s16_p8_224"))
    assert (adapter.spec.patch, adapter.spec.grid) == (32, (7, 7))


def test_registers_alone_are_no_cls() -> None:
    adapter = peaked("vit_medium_patch16_reg4_gap_256")
    assert adapter.spec.prefix == ("reg1", "reg2", "reg3", "reg4")
    assert not any(layer.has_cls for layer in adapter.spec.layers)


def test_a_projection_is_no_classifier() -> None:
    with torch.device("meta"):
        assert Adapter(timm.create_model("vit_base_patch16_clip_224.openai")).spec.classes == 0
        assert Adapter(timm.create_model("vit_base_patch16_clip_224.openai_ft_in1k")).spec.classes == 1000


def test_facets_rebuild_the_attention() -> None:
    adapter = peaked("vit_small_patch16_dinov3")
    x = inputs(adapter, noise(1))
    facets: dict[str, Tensor] = {}
    with torch.inference_mode():
        forward(
            adapter,
            x,
            range(1),
            on_tokens=lambda t: facets.__setitem__(t.point, t.values),
            points=["query.2", "key.2", "value.2"],
        )
    layer = adapter.spec.layers[2]
    query, key = (facets[f"{f}.2"].unflatten(-1, (layer.heads, -1)).transpose(1, 2) for f in ("query", "key"))
    weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
    torch.testing.assert_close(weights, captured(adapter, x)[layer.name], rtol=1e-9, atol=1e-12)
