"""What gradients keep: told before a pass, and images run together only as far as there is room for it."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from probes.core import gradients
from probes.core.gradients import attention_gradients, graph_bytes, images_at_once
from probes.core.relevance import METHODS, relevance, undefined
from probes.core.targets import Target
from tests.probes.families import FAMILIES, QUICK, inputs, noise, peaked

THROUGH_ALL = ("chefer", "grad-rollout", "integrated-gradients")
MIXED = ("coatnet_0_224", "tnt_s_patch16_224")
"""Of these the gradient of attention passes through a part only, and what is told is of the whole model."""


def kept_of(adapter, x, run):
    """Bytes that autograd keeps while something runs, beside the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in adapter.module.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = 0 if storage.data_ptr() in weights else storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        alive = run(x)
    assert alive is not None
    return sum(kept.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_told_of_one_image_covers_what_several_keep(name: str) -> None:
    adapter = peaked(name)
    x = inputs(adapter, noise(3))
    sizes = [layer.heads * layer.queries * layer.reach for layer in adapter.spec.layers]
    told = graph_bytes(adapter, x[:1], Target()) + sum(sizes) * x.element_size()
    kept = kept_of(adapter, x, lambda x: attention_gradients(adapter, x, Target(), lambda *_: None)) / 3
    assert told >= kept
    assert told <= (6 if name in MIXED else 2) * kept


def test_what_is_told_is_of_the_images_and_not_of_the_weights() -> None:
    adapter = peaked("vit_tiny_patch16_224")
    x = inputs(adapter, noise(1))
    told = graph_bytes(adapter, x, Target())
    assert told < sum(weight.nbytes for weight in adapter.module.parameters())
    assert graph_bytes(adapter, x, Target()) == told  # and not of who asks again


@pytest.mark.parametrize("written_out", [True, False])
def test_fewer_images_run_together_where_each_keeps_more(written_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "GRAPH_BYTES", 64 * 2**20)

    def fit(size: tuple[int, int]) -> int:
        adapter = peaked("vit_small_patch8_224", size)
        return images_at_once(adapter, inputs(adapter, noise(1)), Target(), written_out=written_out)

    small, large = fit((32, 48)), fit((128, 192))
    assert small > large >= 1
    monkeypatch.setattr(gradients, "GRAPH_BYTES", 1)
    assert fit((32, 48)) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [*QUICK, "resnet18"])
def test_images_that_do_not_run_together_have_the_same_maps(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = peaked(name)
    if undefined(adapter.spec, method):
        pytest.skip("not defined")
    x = inputs(adapter, noise(5))
    target = Target(torch.tensor([3, 1, 4, 1, 5])) if adapter.spec.classes else Target(reference=torch.ones(1, 192))
    together = relevance(adapter, x, method, target, steps=4)
    seen = []
    features = adapter.module.forward_features
    monkeypatch.setattr(adapter.module, "forward_features", lambda x: (seen.append(len(x)), features(x))[1])
    images = graph_bytes(adapter, x[:1], target)
    sizes = [layer.heads * layer.queries * layer.reach for layer in adapter.spec.layers]
    matrices = (sum(sizes) + 3 * max(sizes, default=0)) * x.element_size()
    monkeypatch.setattr(gradients, "GRAPH_BYTES", 2 * (images + matrices))
    seen.clear()
    apart = relevance(adapter, x, method, target, steps=4)
    if method in THROUGH_ALL[:2]:
        assert seen == [2, 2, 1]
    elif method in THROUGH_ALL:
        assert 2 <= max(seen) <= 3
    torch.testing.assert_close(apart.maps, together.maps, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(apart.score.values, together.score.values)
    assert apart.score.classes.tolist() == together.score.classes.tolist()
    assert apart.readout == together.readout
