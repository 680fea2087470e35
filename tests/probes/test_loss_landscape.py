"""Landscape and Hessian against the plain loss, and a dense Hessian of a tiny network, in float64."""

import weakref
from functools import partial

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from model_zoo.mae import Decoder
from probes import loss_landscape
from probes.core import objectives
from probes.core.capture import Batch
from probes.core.runner import run
from probes.hessian_spectrum import HessianSpectrum, lanczos
from probes.loss_landscape import LossLandscape, direction
from tests.probes.families import Double, noise

SIDE = 16


def tiny(*, classes: int = 4, decoder: bool = False, seed: int = 0) -> Double:
    """A transformer of a few hundred weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.models.VisionTransformer(
            img_size=SIDE, patch_size=8, embed_dim=8, depth=1, num_heads=2, mlp_ratio=1, num_classes=classes
        )
        model.pretrained_cfg = {"input_size": (3, SIDE, SIDE), "label_names": tuple("abcd")[:classes]}
        if classes:
            nn.init.normal_(model.head.weight)
        rebuilt = Decoder(8, 8, (2, 2), width=8, depth=1).double().eval().requires_grad_(False) if decoder else None
    return Double(model.double(), image_size=(SIDE, SIDE), decoder=rebuilt)


def batch_of(adapter: Adapter, count: int = 4, labels: str = "abcd", **more) -> Batch:
    pictures = noise(count)
    known = [partial(str, name) for name in labels[:count]]
    inputs = torch.stack([adapter.preprocess(picture) for picture in pictures])
    return Batch(adapter, range(count), inputs, pictures, labels=known, **more)


def fold(probe, batch):
    return probe.compute(probe.update(probe.init(batch.adapter.spec), batch))


@torch.no_grad()
def test_the_centre_is_the_plain_loss() -> None:
    adapter = tiny()
    batch = batch_of(adapter)
    found = fold(LossLandscape(steps=5), batch)
    plain = F.cross_entropy(adapter.module(batch.inputs), torch.arange(4))
    assert float(found.loss.sel(alpha=0, beta=0)) == pytest.approx(float(plain), abs=1e-12)
    assert found.attrs["centre"] == float(found.loss.sel(alpha=0, beta=0))
    assert (found.sizes["alpha"], found.sizes["beta"]) == (5, 5)


@torch.no_grad()
def test_a_corner_is_the_loss_of_a_network_with_these_weights() -> None:
    adapter = tiny()
    batch = batch_of(adapter)
    found = fold(LossLandscape(steps=3, span=0.5, seed=7), batch)
    weights = objectives.filters(objectives.ClassLoss(adapter.module, torch.arange(4)))
    first, second = (direction(weights, 7, axis) for axis in (0, 1))
    moved = tiny()
    for name, parameter in moved.module.named_parameters():
        if f"model.{name}" in weights:
            parameter += 0.5 * first[f"model.{name}"] - 0.5 * second[f"model.{name}"]
    plain = F.cross_entropy(moved.module(batch.inputs), torch.arange(4))
    assert float(found.loss.sel(alpha=0.5, beta=-0.5)) == pytest.approx(float(plain), rel=1e-9)


def test_filters_are_as_long_as_the_weights_and_the_rest_stays() -> None:
    adapter = tiny(decoder=True)
    loss = objectives.loss_of(adapter, None, 0)
    weights = objectives.filters(loss)
    assert {"model.blocks.0.attn.qkv.weight", "model.patch_embed.proj.weight", "decoder.predict.weight"} <= set(weights)
    still = set(dict(loss.named_parameters())) - set(weights)
    assert {"model.pos_embed", "model.cls_token", "decoder.positions", "decoder.mask_token"} <= still
    assert "model.head.weight" in still, "reconstruction does not depend on the classifier"
    tables = (".bias", "pos_embed", "token", "positions", "head.weight")
    assert all(name.endswith(tables) or "norm" in name for name in still)
    for axis in (0, 1):
        for name, drawn in direction(weights, 3, axis).items():
            lengths = drawn.flatten(1).norm(dim=1)
            torch.testing.assert_close(lengths, weights[name].flatten(1).norm(dim=1))
    same, other = direction(weights, 3, 0), direction(weights, 4, 0)
    name = "model.blocks.0.attn.qkv.weight"
    torch.testing.assert_close(direction({name: weights[name]}, 3, 0)[name], same[name], rtol=0, atol=0)
    assert not torch.equal(same[name], other[name])
    assert not torch.equal(same[name], direction(weights, 3, 1)[name])


def test_the_model_is_as_it_was() -> None:
    adapter = tiny()
    before = {name: value.clone() for name, value in adapter.module.state_dict().items()}
    fold(LossLandscape(steps=3), batch_of(adapter))
    fold(HessianSpectrum(batch=4, products=3), batch_of(adapter))
    for name, value in adapter.module.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(parameter.requires_grad for parameter in adapter.module.parameters())


def test_a_masked_autoencoder_needs_no_labels() -> None:
    from model_zoo.mae import encode, patch_moments, pixels, stays

    adapter = tiny(classes=0, decoder=True)
    batch = batch_of(adapter, labels="")
    found = fold(LossLandscape(steps=3, seed=2), batch)
    visible = stays(1, 4, 0.75, torch.Generator().manual_seed(2)).expand(4, -1)
    predicted = adapter.decoder(encode(adapter.module, batch.inputs, visible), visible, (2, 2))
    truth = pixels(batch.inputs, 8)
    mean, deviation = patch_moments(truth)
    error = ((predicted - (truth - mean) / deviation) ** 2).mean(-1)
    hidden = [patch for patch in range(4) if patch != int(visible[0, 0])]
    assert found.attrs["centre"] == pytest.approx(float(error[:, hidden].mean()), rel=1e-9)
    assert found.attrs["objective"] == "reconstruction"


def test_without_labels_one_sentence_and_no_work(monkeypatch) -> None:
    adapter = tiny()
    monkeypatch.setattr(objectives, "evaluated", lambda loss: pytest.fail("the long work has begun"))
    for probe in (LossLandscape(), HessianSpectrum(batch=4)):
        for labels in ("", "abc?"):
            found = fold(probe, batch_of(adapter, labels=labels))
            assert "needs labelled images of its classes" in found.attrs["undefined"]
            assert not found.data_vars
        assert "its loss cannot be told of images" in str(probe.undefined(tiny(classes=0).spec))


def test_a_loss_that_is_not_finite_is_masked() -> None:
    adapter = tiny()
    with torch.no_grad():
        adapter.module.head.weight[0, 0] = 1e308
    found = fold(LossLandscape(steps=5, span=10), batch_of(adapter))
    assert not bool(found.finite.all())
    np.testing.assert_array_equal(np.isnan(found.loss), ~found.finite)


def test_what_was_broken_off_goes_on_where_it_stopped(monkeypatch, tmp_path) -> None:
    adapter, probe = tiny(seed=5), LossLandscape(steps=5, seed=11)
    whole = fold(probe, batch_of(tiny(seed=5)))
    monkeypatch.setenv("PROBES_CACHE", str(tmp_path))
    passes: list[int] = []
    real = objectives.evaluated
    monkeypatch.setattr(objectives, "evaluated", lambda loss: _counted(real(loss), passes))

    def stop(share: float) -> None:
        if share > 0.35:
            raise InterruptedError

    state = probe.init(adapter.spec)
    with pytest.raises(InterruptedError):
        probe.update(state, batch_of(adapter, report=stop))
    assert len(passes) == 2 * 5
    assert "undefined" in probe.compute(state).attrs, "half a landscape never looks whole"
    told: list[float] = []
    again = probe.compute(probe.update(state, batch_of(adapter, report=told.append)))
    assert len(passes) == 5 * 5
    assert told == [0.6, 0.8, 1.0]
    np.testing.assert_array_equal(again.loss, whole.loss)
    fold(probe, batch_of(tiny(seed=6)))
    assert len(passes) == 2 * 5 * 5, "another model's rows are its own"


def _counted(evaluate, passes: list[int]):
    def counted(weights, inputs):
        passes.append(len(inputs))
        return evaluate(weights, inputs)

    return counted


def test_lanczos_of_a_matrix_is_exact_once_its_space_is_exhausted() -> None:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix = half + half.T
    start = torch.randn(12, generator=generator, dtype=torch.float64)
    found = np.linalg.eigvalsh(lanczos(lambda v: matrix @ v, start, 40))
    np.testing.assert_allclose(found, torch.linalg.eigvalsh(matrix), atol=1e-9)


def test_eigenvalues_are_those_of_the_dense_hessian() -> None:
    adapter = tiny()
    batch = batch_of(adapter)
    loss = objectives.ClassLoss(adapter.module, torch.arange(4))
    weights = objectives.filters(loss)
    shapes = {name: weight.shape for name, weight in weights.items()}
    flat = torch.cat([weight.flatten() for weight in weights.values()])

    def of(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([shape.numel() for shape in shapes.values()])
        moved = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return torch.func.functional_call(loss, moved, (batch.inputs,)).mean()

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        dense = torch.func.jacrev(torch.func.grad(of))(flat)
    exact = torch.linalg.eigvalsh(dense).flip(0).numpy()
    found = fold(HessianSpectrum(batch=4, products=60), batch)
    values, shares = found.eigenvalue.values[0], found.weight.values[0]
    assert found.attrs["weights"] == len(flat)
    np.testing.assert_allclose(values[:5], exact[:5], rtol=1e-6)
    np.testing.assert_allclose(values[-1], exact[-1], rtol=1e-6)
    assert shares.sum() == pytest.approx(1.0)
    start = torch.randn(len(flat), generator=torch.Generator().manual_seed(0)).double()
    start /= start.norm()
    assert (values * shares).sum() == pytest.approx(float(start @ dense @ start), rel=1e-6)
    assert (values**2 * shares).sum() == pytest.approx(float(start @ dense @ dense @ start), rel=1e-6)


def test_mini_batches_are_the_same_however_images_come() -> None:
    adapter, probe = tiny(), HessianSpectrum(batch=2, products=4)
    whole = batch_of(adapter, 4)
    state = probe.init(adapter.spec)
    for images in (range(1), range(1, 4)):
        part = slice(images.start, images.stop)
        state = probe.update(state, Batch(adapter, images, whole.inputs[part], [], labels=whole.labels[part]))
    np.testing.assert_allclose(probe.compute(state).eigenvalue, fold(probe, whole).eigenvalue, rtol=1e-9)
    assert "fewer than 8 images" in fold(HessianSpectrum(), whole).attrs["undefined"]


def test_both_run_through_the_runner_with_the_labels_of_the_images() -> None:
    images = noise(4)
    sources = [ImageSource(str(i), partial(images.__getitem__, i), label=partial(str, "abcd"[i])) for i in range(4)]
    probes = {"plane": LossLandscape(steps=3), "bend": HessianSpectrum(batch=2, products=3)}
    told: list[float] = []
    found = run({"a": tiny()}, sources, probes, batch_size=2, on_progress=lambda done, total: told.append(done / total))
    assert found["plane"]["a"].attrs["n"] == 4
    assert found["bend"]["a"].sizes["batch"] == 2
    assert any(0 < share < 0.5 for share in told), "long work tells how far it is within a batch"
    assert told[-1] == 1.0


@pytest.mark.parametrize("wrong", [{"steps": 4}, {"steps": 1}, {"span": 0.0}, {"seed": -1}])
def test_parameters_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LossLandscape(**wrong)


@pytest.mark.parametrize("wrong", [{"products": 1}, {"batch": 0}, {"seed": -1}])
def test_so_are_those_of_the_spectrum(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HessianSpectrum(**wrong)


def test_a_landscape_holds_one_moved_copy_of_the_weights_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    make, copies, left = loss_landscape.moved, [], []

    def noted(*asked) -> dict[str, torch.Tensor]:
        left.append(sum(copy() is not None for copy in copies))
        found = make(*asked)
        copies.extend(weakref.ref(tensor) for tensor in found.values())
        return found

    monkeypatch.setattr(loss_landscape, "moved", noted)
    fold(LossLandscape(steps=3), batch_of(tiny()))
    assert left == [0] * 9


def test_a_network_whose_moved_weights_take_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(tiny())
    loss = objectives.loss_of(batch.adapter, torch.arange(4), 0)
    needed = 3 * sum(tensor.nbytes for tensor in objectives.filters(loss).values())
    monkeypatch.setattr(loss_landscape, "MOST_BYTES", {"cpu": needed})
    assert "loss" in fold(LossLandscape(steps=3), batch)
    monkeypatch.setattr(loss_landscape, "MOST_BYTES", {"cpu": needed - 1})
    monkeypatch.setattr(loss_landscape, "direction", lambda *asked: pytest.fail("directions are drawn"))
    assert "million weights would take" in fold(LossLandscape(steps=3), batch).attrs["undefined"]
