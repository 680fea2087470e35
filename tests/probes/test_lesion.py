"""Lesions against a copy of the model whose weights say the same."""

import copy

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

import model_zoo.architectures  # noqa: F401  (registers scenes_hybrid)
from model_zoo.adapter import Adapter
from probes.core import lesions
from probes.core.capture import Batch
from probes.core.lesions import Lesion, Passes, answers, left_out
from probes.core.targets import embedding, vector
from probes.heads_off import HeadsOff
from probes.lesion import LesionStudy
from tests.probes.families import inputs, noise, peaked

TRANSFORMERS = [
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_siglip_224",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
    "cait_xxs24_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "coatnet_0_224",
    "scenes_hybrid",
]
IMAGES = 2


def lively(name: str) -> Adapter:
    """A random model whose norms and biases are not what they are before training: zeros would hide mistakes."""
    adapter = peaked(name)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for path, parameter in adapter.module.named_parameters():
            if parameter.squeeze().ndim == 1 and not path.endswith("_token"):
                scale = 0.5 if "gamma" in path else 0.1
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * scale)
    return adapter


def convolutional() -> Adapter:
    """A random residual network in float64; its input is not square."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Adapter(
            timm.create_model("resnet26", num_classes=10, zero_init_last=False).double(), image_size=(64, 96)
        )


def edited(adapter: Adapter, lesion: Lesion) -> Adapter:
    """The same network with the weights behind a part at zero."""
    module = copy.deepcopy(adapter.module)
    block = module.get_submodule(adapter.spec.blocks[lesion.block].name)
    with torch.no_grad():
        if lesion.part == "head":
            attention = getattr(block, "attn", block)
            width = attention.proj.weight.shape[1] // attention.num_heads
            attention.proj.weight[:, lesion.head * width : (lesion.head + 1) * width] = 0
        elif lesion.part == "block":
            last = next(getattr(block, end) for end in ("conv3_1x1", "bn3", "bn2") if hasattr(block, end))
            last.weight.zero_()
            if last.bias is not None:
                last.bias.zero_()
        else:
            after = {"attention": "norm1", "mlp": "norm2"}[lesion.part]
            inner = block.attn.proj if lesion.part == "attention" else block.mlp.fc2
            inner.weight.zero_()
            if inner.bias is not None:
                inner.bias.zero_()
            if type(block).__name__ == "SwinTransformerV2Block":  # its norms come after
                getattr(block, after).weight.zero_(), getattr(block, after).bias.zero_()
    return Adapter(module, image_size=adapter.image_size)


def says(adapter: Adapter, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    hidden = adapter.module.forward_features(x)
    vectors = embedding(adapter, hidden, vector(adapter, "card"))
    return vectors, adapter.module.forward_head(hidden).softmax(-1) if adapter.spec.classes else None


def batch_of(adapter: Adapter, count: int = IMAGES, labels: tuple[str, ...] = ()) -> Batch:
    pictures = noise(count)
    given = [(lambda name=name: name) for name in labels]
    return Batch(adapter, range(count), inputs(adapter, pictures), pictures, labels=given)


def fold(probe, batch: Batch):
    return probe.compute(probe.update(probe.init(batch.adapter.spec), batch))


def every(adapter: Adapter) -> list[Lesion]:
    return lesions.heads(adapter.spec) + lesions.parts(adapter.spec)


@pytest.mark.parametrize("name", [*TRANSFORMERS, "resnet26"])
@torch.no_grad()
def test_every_lesion_is_the_network_with_these_weights_at_zero(name: str) -> None:
    adapter = convolutional() if name == "resnet26" else lively(name)
    batch = batch_of(adapter, labels=("3", "5"))
    found = fold(LesionStudy(), batch)
    before, intact = says(adapter, batch.inputs)
    whole = every(adapter)
    assert len({lesion.block for lesion in whole}) == len(adapter.spec.blocks)
    assert bool(adapter.spec.layers) == any(lesion.part == "head" for lesion in whole)
    for lesion in [*whole[:2], *whole[2 :: 8 if "swin" in name else 3]]:
        after, changed = says(edited(adapter, lesion), batch.inputs)
        which, index = ("head", lesion.head) if lesion.part == "head" else ("part", lesion.part)
        cosine = F.cosine_similarity(after, before, dim=-1).mean()
        at = {"layer": lesion.block, which: index}
        assert float(found[f"{which}_cosine"].sel(at)) == pytest.approx(float(cosine), abs=1e-9), lesion
        if intact is None or changed is None:
            continue
        first = intact.argmax(-1)
        moved = [float(changed[i, first[i]] - intact[i, first[i]]) for i in range(IMAGES)]
        assert float(found[f"{which}_confidence"].sel(at)) == pytest.approx(np.mean(moved), abs=1e-9), lesion
        right = [(int(changed[i].argmax() == c) - int(first[i] == c)) for i, c in enumerate((3, 5))]
        assert float(found[f"{which}_top1"].sel(at)) == np.mean(right)
    effect = 1 - np.concatenate([found[name].values.ravel() for name in found if str(name).endswith("_cosine")])
    assert np.nanmax(effect) > 1e-3, "a lesion that changes nothing tests nothing"


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "cait_xxs24_224", "swin_tiny_patch4_window7_224"])
@torch.no_grad()
def test_a_pass_that_begins_late_says_what_a_whole_one_says(name: str) -> None:
    adapter = lively(name)
    x = inputs(adapter, noise(IMAGES))
    passes = Passes(adapter, x)
    for lesion in every(adapter)[:: 8 if "swin" in name else 3]:
        with left_out(adapter, [[lesion]]):
            naive = answers(adapter, x)
        reused = passes.without([[lesion]])
        torch.testing.assert_close(reused.embedding, naive.embedding, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(reused.probabilities, naive.probabilities, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_earlier_blocks_do_not_run_again() -> None:
    adapter = peaked("vit_tiny_patch16_224")
    passes = Passes(adapter, inputs(adapter, noise(IMAGES)))
    ran: list[int] = []
    for index, block in enumerate(adapter.module.blocks):
        block.norm1.register_forward_hook(lambda *_, index=index: ran.append(index))
    passes.without([[Lesion(2, "head", head)] for head in range(3)])
    assert ran == [2, 3]


@torch.no_grad()
def test_several_lesions_of_one_version_go_together() -> None:
    adapter = lively("vit_small_patch14_reg4_dinov2")
    x = inputs(adapter, noise(IMAGES))
    both = [Lesion(0, "head", 1), Lesion(2, "head", 0)]
    twice = edited(edited(adapter, both[0]), both[1])
    found = Passes(adapter, x).without([both, both[:1]]).embedding
    torch.testing.assert_close(found[:IMAGES], says(twice, x)[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[IMAGES:], says(edited(adapter, both[0]), x)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("at_once", [1, 4, 64])
def test_the_result_does_not_depend_on_how_many_run_at_once(at_once: int, monkeypatch) -> None:
    adapter = peaked("vit_tiny_patch16_224")
    whole = fold(LesionStudy(), batch_of(adapter))
    monkeypatch.setattr("probes.lesion.AT_ONCE", at_once)
    again = fold(LesionStudy(), batch_of(adapter))
    for name in whole:
        np.testing.assert_allclose(again[name], whole[name], rtol=1e-9, atol=1e-12)


def test_hooks_are_gone_after_success_and_after_an_exception() -> None:
    adapter = peaked("vit_tiny_patch16_224")

    def traces() -> list[object]:
        hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in adapter.module.modules()]
        return [h for pair in hooks for h in pair if h] + [m for m in adapter.module.modules() if "forward" in vars(m)]

    fold(LesionStudy(), batch_of(adapter))
    assert traces() == []

    def stop(share: float) -> None:
        raise InterruptedError

    batch = batch_of(adapter)
    with pytest.raises(InterruptedError):
        LesionStudy().update(
            LesionStudy().init(adapter.spec), Batch(adapter, batch.images, batch.inputs, [], report=stop)
        )
    passes = Passes(adapter, batch.inputs)
    failing = adapter.module.blocks[3].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        passes.without([[Lesion(1, "attention")]])
    failing.remove()
    assert traces() == []


def test_progress_is_told_between_passes() -> None:
    adapter = peaked("vit_tiny_patch16_224")
    batch = batch_of(adapter)
    told: list[float] = []
    LesionStudy().update(
        LesionStudy().init(adapter.spec), Batch(adapter, batch.images, batch.inputs, [], report=told.append)
    )
    assert len(told) >= len(adapter.spec.blocks)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_what_is_not_defined_says_so() -> None:
    assert "not known here" in str(LesionStudy().undefined(peaked("tnt_s_patch16_224").spec))
    without_attention = convolutional().spec
    assert LesionStudy().undefined(without_attention) is None
    assert "no output of a head" in str(LesionStudy(branches=False).undefined(without_attention))
    assert "no attention head" in str(HeadsOff().undefined(without_attention))
    spec = peaked("vit_tiny_patch16_224").spec
    assert HeadsOff(off="0:0,3:2").undefined(spec) is None
    assert "no head 4 in layer 2" in str(HeadsOff(off="1:3").undefined(spec))
    with pytest.raises(ValueError, match="at least one"):
        LesionStudy(heads=False, branches=False)
    for nonsense in ("1", "a:b", "1:2:3", "-1:0", "1:2;3:4"):
        with pytest.raises(ValueError, match="LAYER:HEAD"):
            HeadsOff(off=nonsense)


def test_without_labels_or_classifier_only_what_can_be_said() -> None:
    plain = fold(LesionStudy(), batch_of(peaked("vit_tiny_patch16_224")))
    assert plain.attrs["labelled"] == 0
    assert not [name for name in plain if "top1" in str(name)]
    pooled = fold(LesionStudy(), batch_of(peaked("vit_base_patch16_siglip_224")))
    assert {str(name).removesuffix("_sem") for name in pooled} == {"head_cosine", "part_cosine"}
    alone = fold(LesionStudy(branches=False), batch_of(peaked("vit_tiny_patch16_224")))
    assert "part" not in alone.dims


@torch.no_grad()
def test_heads_switched_off_are_the_network_without_them() -> None:
    adapter = lively("vit_tiny_patch16_224")
    batch = batch_of(adapter)
    off = [Lesion(0, "head", 2), Lesion(1, "head", 0)]
    found = fold(HeadsOff(off="0:2,1:0"), batch)
    reference = edited(edited(adapter, off[0]), off[1])
    attended = fold(HeadsOff(), Batch(reference, batch.images, batch.inputs, batch.originals))
    np.testing.assert_allclose(found.attention[:, 1], attended.attention[:, 0], rtol=1e-6)
    assert np.abs(found.attention[:, 1] - found.attention[:, 0]).max() > 1e-6
    before, intact = says(adapter, batch.inputs)
    after, changed = says(reference, batch.inputs)
    np.testing.assert_allclose(found.cosine, F.cosine_similarity(before, after, dim=-1), atol=1e-9)
    for image in range(IMAGES):
        classes = found.top_class.values[image]
        assert classes[0] == intact[image].argmax()
        np.testing.assert_allclose(found.probability.values[image, 1], changed[image, classes], atol=1e-9)
        assert found.answer.values[image].tolist() == [int(intact[image].argmax()), int(changed[image].argmax())]


def test_nothing_off_changes_nothing() -> None:
    found = fold(HeadsOff(), batch_of(peaked("deit_tiny_distilled_patch16_224")))
    np.testing.assert_array_equal(found.attention[:, 0], found.attention[:, 1])
    np.testing.assert_allclose(found.cosine, 1.0, atol=1e-12)
