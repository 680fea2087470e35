"""Relevance against an independent reference: full matrices, one image and one layer at a time, in float64."""

import copy
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.decoding import ImageError
from model_zoo.images import ImageSource
from probes.attention_relevance import AttentionRelevance
from probes.core.capture import Batch, forward
from probes.core.gradients import attention_gradients
from probes.core.relevance import METHODS, relevance, vanished
from probes.core.targets import Target, readout
from tests.probes.families import inputs, noise, peaked

CLASSIFIERS = ("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "beit_base_patch16_224", "cait_xxs24_224")
ENCODERS = ("vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224", "eva02_tiny_patch14_224")


@pytest.fixture(scope="module")
def models():
    built = {}

    def get(name: str):
        if name not in built:
            built[name] = peaked(name)
        return built[name]

    return get


OTHER = ImageSource("other", lambda: noise(1, seed=9)[0])


def gradients(adapter, x, target: Target):
    """Attention and its gradient of one image, with the softmax written out by timm itself: lists of (H, Q, K)."""
    model = copy.deepcopy(adapter.module)
    kept = []
    for layer in adapter.spec.layers:
        module = model.get_submodule(layer.name)
        module.fused_attn = False
        if layer.kind == "pool":  # timm's has no dropout at which its softmax could be read
            module.forward = lambda x, attn_mask=None, m=module: pool(m, x, kept)
            continue
        module.attn_drop.register_forward_pre_hook(lambda _, args: kept.append(args[0]) or args[0].retain_grad())
    hidden = model.forward_features(x[None].clone().requires_grad_())
    if target.reference is None:
        logits = model.forward_head(hidden)[0]
        y = logits[logits.argmax() if target.classes is None else int(target.classes)]
    else:
        f, r = model.forward_head(hidden, pre_logits=True)[0], target.reference[0]
        y = (f @ r) / (f @ f).sqrt() / (r @ r).sqrt()
    y.backward()
    return [(a.detach()[0].numpy(), a.grad[0].numpy()) for a in kept], float(y.detach())


def pool(m, x, kept):
    """A learned query that attends to all tokens, and an MLP."""
    heads = lambda z: z.unflatten(-1, (m.num_heads, -1)).transpose(1, 2)  # noqa: E731
    k, v = m.kv(x).chunk(2, -1)
    a = (heads(m.q(m.latent)) @ heads(k).mT / m.head_dim**0.5).softmax(-1)
    a.retain_grad()
    kept.append(a)
    out = m.proj((a @ heads(v)).transpose(1, 2).flatten(2))
    return (out + m.mlp(m.norm(out)))[:, 0]


def reference_map(adapter, x, target: Target, method: str) -> np.ndarray:
    spec = adapter.spec
    prefix, n = len(spec.prefix), spec.grid[0] * spec.grid[1]
    pairs, _ = gradients(adapter, x, target)
    row = readout(adapter)
    if method == "grad-cam":
        a, g = pairs[-1]
        last = spec.layers[-1].prefix
        if row == "mean":
            pairs = [(a[:, last:, last:].mean(1), g[:, last:, last:].mean(1))]
        else:
            pairs = [(a[:, r, last:], g[:, r, last:]) for r in range(2 if row == "cls+dist" else 1)]
        each = [sum(g[h].mean() * a[h] for h in range(len(a))) / len(a) for a, g in pairs]
        return sum(np.maximum(total, 0) for total in each).reshape(spec.grid)
    R, stay, pool = np.eye(prefix + n), np.eye(prefix + n), None
    for layer, (a, g) in zip(spec.layers, pairs, strict=True):
        heads = [a[h] * g[h] for h in range(len(a))]
        if method == "chefer":
            fused = sum(np.maximum(h, 0) for h in heads) / len(heads)
        else:
            fused = np.maximum(sum(heads) / len(heads), 0)
        if layer.kind == "pool":
            pool = fused[0]
            continue
        whole = np.zeros((prefix + n, prefix + n))
        first = prefix - layer.prefix
        whole[first : first + fused.shape[0], first:] = fused
        step = whole + np.eye(prefix + n)
        diagonal = np.eye(prefix + n)
        if method == "grad-rollout":
            sums = step.sum(1, keepdims=True)
            step, diagonal = step / sums, diagonal / sums
        R, stay = step @ R, diagonal @ stay
    if pool is not None:
        return (pool @ R)[prefix:].reshape(spec.grid)
    if row == "cls":
        return R[0, prefix:].reshape(spec.grid)
    if row == "cls+dist":
        return R[:2, prefix:].mean(0).reshape(spec.grid)
    return (R - stay)[prefix:, prefix:].mean(0).reshape(spec.grid)


def target_of(adapter) -> Target:
    if adapter.spec.classes:
        return Target()
    x = inputs(adapter, noise(1, seed=9))
    module = adapter.module
    return Target(reference=module.forward_head(module.forward_features(x), pre_logits=True))


@pytest.mark.parametrize("method", ["chefer", "grad-rollout", "grad-cam"])
@pytest.mark.parametrize("name", CLASSIFIERS + ENCODERS)
def test_against_full_matrices(models, name: str, method: str) -> None:
    adapter = models(name)
    x, target = inputs(adapter, noise(2)), target_of(adapter)
    opposite = Target(torch.tensor([3])) if adapter.spec.classes else Target(reference=-target.reference)
    largest = 0.0
    for chosen in (target, opposite):
        with torch.inference_mode():
            found = relevance(adapter, x, method, chosen)
        assert found.maps.shape == (2, *adapter.spec.grid)
        for i in range(2):
            expected = reference_map(adapter, x[i], chosen, method)
            np.testing.assert_allclose(found.maps[i], expected, rtol=1e-7, atol=1e-17)
            assert float(found.score.values[i]) == pytest.approx(gradients(adapter, x[i], chosen)[1], rel=1e-10)
            largest = max(largest, expected.max())
    assert largest > 1e-10, "the reference must have something to compare with"


@pytest.mark.parametrize("method", ["chefer", "grad-rollout", "grad-cam"])
def test_the_distillation_token_has_its_say(method: str) -> None:
    """With the first classifier at zero the whole answer comes from the second token, and there still is a map."""
    adapter = peaked("deit_tiny_distilled_patch16_224")
    for parameter in (adapter.module.head.weight, adapter.module.head.bias):
        parameter.zero_()
    assert float(relevance(adapter, inputs(adapter, noise(1)), method, Target(torch.tensor([3]))).maps.max()) > 0


@pytest.mark.parametrize("method", ["chefer", "grad-rollout", "grad-cam", "integrated-gradients"])
def test_likeness_to_itself_is_no_map(method: str) -> None:
    adapter = peaked("vit_tiny_patch16_224")
    adapter.module.float()
    x = inputs(adapter, noise(2))
    reference = adapter.module.forward_head(adapter.module.forward_features(x[:1]), pre_logits=True)
    found = relevance(adapter, x, method, Target(reference=reference))
    blank = vanished(found.maps.double().numpy(), method, found.score.values.double().numpy())
    assert blank.tolist() == [method != "integrated-gradients", False]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_integrated_gradients_sum_to_the_change_of_the_target(models, name: str) -> None:
    adapter = models(name)
    x = inputs(adapter, noise(1))
    steps = 64 if adapter.spec.is_transformer else 24
    found = relevance(adapter, x, "integrated-gradients", Target(torch.tensor([7])), steps=steps)
    with torch.no_grad():
        change = (adapter.module(x) - adapter.module(torch.zeros_like(x)))[:, 7]
    np.testing.assert_allclose(found.maps.sum((1, 2)), change, atol=0.01 * float(change.abs().max()))


def test_integrated_gradients_against_a_plain_sum(models) -> None:
    adapter = models("vit_tiny_patch16_224")
    x = inputs(adapter, noise(1))
    total = torch.zeros_like(x)
    steps = 100
    for k in range(steps):
        point = (x * (k + 0.5) / steps).requires_grad_()
        total += torch.autograd.grad(adapter.module(point)[0, 7], point)[0] * x / steps
    expected = torch.zeros(4, 6, dtype=torch.float64)
    for row in range(4):
        for column in range(6):
            expected[row, column] = total[0, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16].sum()
    found = relevance(adapter, x, "integrated-gradients", Target(torch.tensor([7])), steps=48)
    np.testing.assert_allclose(found.maps[0], expected, atol=0.01 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "path", "prefix"),
    [
        ("deit_tiny_distilled_patch16_224", "blocks.2.norm1", 2),
        ("cait_xxs24_224", "blocks.2.norm1", 0),
        ("resnet18", "layer4.1", 0),
    ],
)
def test_token_grad_cam_by_hand(models, name: str, path: str, prefix: int) -> None:
    adapter = models(name)
    x = inputs(adapter, noise(2))
    model, kept = copy.deepcopy(adapter.module), []
    model.get_submodule(path).register_forward_hook(lambda _, args, out: (out.retain_grad(), kept.append(out))[0])
    model(x.clone().requires_grad_()).amax(1).sum().backward()
    found = relevance(adapter, x, "token-grad-cam", Target()).maps
    for i in range(2):
        z, g = kept[0][i].detach(), kept[0].grad[i]
        if z.ndim == 2:
            z, g = z[prefix:].T, g[prefix:].T
        expected = F.relu((g.flatten(1).mean(1)[:, None] * z.flatten(1)).sum(0))
        assert expected.max() > 0
        np.testing.assert_allclose(found[i].flatten(), expected, rtol=1e-8, atol=1e-12)


def test_later_start_takes_fewer_layers(models) -> None:
    adapter = models("vit_tiny_patch16_224")
    x = inputs(adapter, noise(1))
    last = relevance(adapter, x, "chefer", Target(), start=3).maps
    (a, g), *_ = reversed(gradients(adapter, x[0], Target())[0])
    np.testing.assert_allclose(last[0].flatten(), np.maximum(a * g, 0).mean(0)[0, 1:], rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(models, method: str) -> None:
    adapter = models("vit_tiny_patch16_224")
    x = inputs(adapter, noise(1))
    before = {name: tensor.clone() for name, tensor in adapter.module.state_dict().items()}
    with pytest.raises((RuntimeError, IndexError)):  # a class out of range breaks the pass in its middle
        relevance(adapter, x, method, Target(torch.tensor([10**6])))
    relevance(adapter, x, method, Target(), steps=4)
    for module in adapter.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module.training
        assert getattr(module, "fused_attn", True)
    assert all(p.grad is None and not p.requires_grad for p in adapter.module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in adapter.module.state_dict().items())
    assert torch.is_inference_mode_enabled() is False


def test_layers_arrive_from_the_last_and_are_let_go(models) -> None:
    adapter = models("vit_tiny_patch16_224")
    order = []
    attention_gradients(
        adapter, inputs(adapter, noise(1)), Target(), lambda i, a, g: order.append((i, a.shape, g.shape))
    )
    assert order == [(i, (1, 3, 25, 25), (1, 3, 25, 25)) for i in (3, 2, 1, 0)]


def test_threads_that_share_a_model(models) -> None:
    adapter = models("cait_xxs24_224")  # its attention is read by hooks, which every thread's pass would trigger
    x = inputs(adapter, noise(2))
    alone = relevance(adapter, x, "chefer", Target()).maps
    found, errors = [], []

    def explain() -> None:
        try:
            found.append(relevance(adapter, x, "chefer", Target()).maps)
        except Exception as error:
            errors.append(error)

    def look() -> None:
        try:
            with torch.inference_mode():
                forward(adapter, x, range(2), on_attention=lambda seen: seen.rows(slice(None)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for work in (explain, look) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(torch.equal(alone, maps) for maps in found)


def explain(adapter, images, **parameters):
    probe = AttentionRelevance(**parameters)
    assert probe.undefined(adapter.spec) is None
    x = inputs(adapter, images)
    with torch.inference_mode():
        return probe.compute(probe.update(probe.init(adapter.spec), Batch(adapter, range(len(images)), x, images)))


def test_class_by_index_name_and_synonym(models) -> None:
    adapter = models("vit_tiny_patch16_224")
    by_index = explain(adapter, noise(2), target="281")
    assert by_index.target_name.values.tolist() == ["tabby, tabby cat"] * 2
    for name in ("tabby, tabby cat", "Tabby Cat"):
        assert by_index.equals(explain(adapter, noise(2), target=name).assign_attrs(by_index.attrs))
    top = explain(adapter, noise(1))
    assert top.equals(explain(adapter, noise(1), target=str(int(top.target_class[0]))))


def test_similarity_to_an_image(models) -> None:
    adapter = models("vit_small_patch14_reg4_dinov2")
    of = ImageSource("other", lambda: noise(1, seed=9)[0])
    result = explain(adapter, noise(2), target="similarity", of=of)
    np.testing.assert_allclose(
        result.relevance, relevance(adapter, inputs(adapter, noise(2)), "chefer", target_of(adapter)).maps, rtol=1e-6
    )
    assert result.target_value.attrs["units"] == "cosine similarity"
    assert result.target_name.values.tolist() == ["similarity"] * 2


def test_one_target_for_models_with_and_without_a_classifier(models) -> None:
    of = ImageSource("other", lambda: noise(1, seed=9)[0])
    classifier, encoder = models("vit_tiny_patch16_224"), models("vit_small_patch14_reg4_dinov2")
    both = {"target": "top-or-similarity", "of": of}
    assert explain(classifier, noise(2), **both).identical(explain(classifier, noise(2)))
    found = explain(encoder, noise(2), **both)
    assert found.identical(explain(encoder, noise(2), target="similarity", of=of))
    assert found.target_name.values.tolist() == ["similarity"] * 2


def test_start_at_a_relative_depth(models) -> None:
    adapter = models("vit_tiny_patch16_224")  # four layers
    assert explain(adapter, noise(1), start="0.5").identical(explain(adapter, noise(1), start=2))
    assert explain(adapter, noise(1), start="last").identical(explain(adapter, noise(1), start="3"))
    assert not explain(adapter, noise(1), start="last").equals(explain(adapter, noise(1)))


@pytest.mark.parametrize("method", ["chefer", "grad-rollout", "grad-cam", "token-grad-cam"])
def test_a_zero_map_is_no_result(models, method: str) -> None:
    adapter = peaked("vit_tiny_patch16_224")
    with torch.no_grad():
        adapter.module.head.weight.zero_()  # no token changes any logit
    result = explain(adapter, noise(2), method=method)
    assert result.vanished.all()
    assert np.isnan(result.relevance).all()
    assert not explain(models("vit_tiny_patch16_224"), noise(2), method="chefer").vanished.any()


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("vit_tiny_patch16_224", {"target": "1000"}, "classes 0 to 999"),
        ("vit_tiny_patch16_224", {"target": "-1"}, "classes 0 to 999"),
        ("vit_tiny_patch16_224", {"target": "tabby cta"}, "nearest: tabby cat"),
        ("vit_tiny_patch16_224", {"start": 4}, "layers 0 to 3"),
        ("vit_small_patch14_reg4_dinov2", {}, "similarity to an image"),
        ("swin_tiny_patch4_window7_224", {}, "windows"),
        ("resnet18", {"method": "grad-cam"}, "token-grad-cam"),
    ],
)
def test_undefined_says_why(models, name: str, parameters: dict, says: str) -> None:
    assert says in (AttentionRelevance(**parameters).undefined(models(name).spec) or "")


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "lrp"},
        {"target": " "},
        {"target": "similarity"},
        {"of": "scenes:1"},
        {"target": "top-or-similarity"},
        {"target": "281", "of": "scenes:1"},
        {"start": "half"},
        {"start": "1.5"},
        {"start": -1},
        {"method": "grad-cam", "start": 2},
        {"steps": 1},
    ],
)
def test_bad_parameters_are_one_sentence(parameters: dict) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        AttentionRelevance(**parameters)


def test_of_must_be_one_image_that_exists(tmp_path) -> None:
    for of in ("scenes:3", str(tmp_path / "missing.png")):
        with pytest.raises(ImageError):
            AttentionRelevance(target="similarity", of=of)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 999), st.sampled_from(["chefer", "grad-rollout", "grad-cam"]), st.floats(0.5, 4))
def test_laws(models, index: int, method: str, factor: float) -> None:
    adapter = models("vit_tiny_patch16_224")
    x, target = inputs(adapter, noise(3)), Target(torch.tensor([index]))
    maps = relevance(adapter, x, method, target).maps
    assert (maps >= 0).all()
    if method == "grad-rollout":
        assert (maps.sum((1, 2)) <= 1 + 1e-9).all()
    turned = relevance(adapter, x.flip(0), method, target).maps.flip(0)
    np.testing.assert_allclose(maps, turned, rtol=1e-7, atol=1e-12)
    scaled = copy.deepcopy(adapter.module)
    scaled.head.weight.data *= factor
    scaled.head.bias.data += factor
    other = type(adapter)(scaled, image_size=adapter.image_size)
    if method == "grad-cam":  # linear in the gradient; a constant added to a logit changes nothing
        np.testing.assert_allclose(relevance(other, x, method, target).maps, maps * factor, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "pool", "vector"),
    [
        ("vit_small_patch14_reg4_dinov2", "head", "cls"),
        ("vit_small_patch14_reg4_dinov2", "card", "cls"),
        ("vit_small_patch14_reg4_dinov2", "mean", "mean"),
        ("eva02_tiny_patch14_224", "card", "mean"),
        ("eva02_tiny_patch14_224", "cls", "cls"),
        ("vit_base_patch16_siglip_224", "card", "pool"),
        ("vit_base_patch16_siglip_224", "cls", "pool"),  # there is none
        ("vit_base_patch16_siglip_224", "mean", "pool"),  # its query is a layer of its attention
    ],
)
def test_a_similarity_by_another_vector(models, name: str, pool: str, vector: str) -> None:
    """The value against the tokens themselves, and the map's row by the readout that the attributes name."""
    adapter, module = models(name), models(name).module
    result = explain(adapter, noise(2), target="similarity", of=OTHER, pool=pool)
    assert (result.attrs["vector"], result.attrs["readout"]) == (vector, vector)
    with torch.no_grad():
        hidden = module.forward_features(inputs(adapter, [*noise(2), OTHER.open()]))
        prefix = len(adapter.spec.prefix)
        own = vector in (readout(adapter), "pool")
        taken = module.forward_head(hidden, pre_logits=True) if own else None
        if taken is None:
            taken = hidden[:, 0] if vector == "cls" else hidden[:, prefix:].sum(1) / (hidden.shape[1] - prefix)
        a, b = taken[:2], taken[2]
        cosine = [float(x @ b / (x @ x).sqrt() / (b @ b).sqrt()) for x in a]
    np.testing.assert_allclose(result.target_value, cosine, rtol=1e-9)


def test_an_unknown_vector_names_the_ones_there_are() -> None:
    with pytest.raises(ValueError, match="head, card, cls, mean"):
        AttentionRelevance(pool="max")
