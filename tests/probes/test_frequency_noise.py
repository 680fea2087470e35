"""Noise of one frequency against the definition by complex transforms, and the numbers against passes one by one."""

import numpy as np
import pytest
import torch

from model_zoo.images import sources
from probes.core import ring_noise
from probes.core.capture import Batch
from probes.core.runner import run
from probes.frequency_noise import FrequencyNoise
from tests.probes.families import double, inputs, noise, peaked

FEW = {"frequencies": 3, "epsilon": 0.3}


def by_definition(delta: np.ndarray, f: float, s: float) -> np.ndarray:
    """Re F⁻¹(M ⊙ Fδ), the mask laid over the shifted transform bin by bin."""
    height, width = delta.shape[-2:]
    mask = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            u, v = row - height // 2, column - width // 2
            inside = []
            for half in (f + s, f - s):
                down, across = (max(int(half * n / (2 * np.pi)), 0) for n in (height, width))
                inside.append(-down <= u < down and -across <= v < across)
            mask[row, column] = inside[0] and not inside[1]
    axes = (-2, -1)
    shifted = np.fft.fftshift(np.fft.fft2(delta), axes=axes)
    return np.fft.ifft2(np.fft.ifftshift(mask * shifted, axes=axes)).real


@pytest.mark.parametrize("size", [(28, 28), (16, 24), (27, 20), (15, 15)])
def test_noise_is_as_defined(size: tuple[int, int]) -> None:
    delta = ring_noise.signs(size, 3, 0)
    assert set(np.unique(delta)) == {-1.0, 1.0}
    for f in np.linspace(0, np.pi, 5):
        made = ring_noise.banded(np.fft.rfft2(delta), size, f, width=0.5)
        np.testing.assert_allclose(made, by_definition(delta, f, 0.5), atol=1e-12)


def test_noise_of_a_frequency_has_that_frequency_and_no_other() -> None:
    size, f, s = (112, 112), np.pi / 2, 0.2
    made = ring_noise.banded(np.fft.rfft2(ring_noise.signs(size, 0, 0)), size, f, width=s)
    amplitude = np.abs(np.fft.fft2(made))
    radians = np.abs(2 * np.pi * np.fft.fftfreq(112))
    farthest = np.maximum(radians[:, None], radians[None])
    step = 2 * np.pi / 112
    assert amplitude[:, (farthest > f + s) | (farthest < f - s - step)].max() < 1e-9
    assert amplitude[:, (farthest < f + s - step) & (farthest > f - s)].min() > 0.1


def test_strength_is_the_root_mean_square() -> None:
    size = (48, 80)
    for f in np.linspace(0, np.pi, 4):
        spectrum = np.fft.rfft2(np.stack([ring_noise.signs(size, image, 0) for image in range(200)]))
        measured = ring_noise.banded(spectrum, size, f, width=0.3).std()
        assert ring_noise.strength(size, f, 0.3) == pytest.approx(measured, rel=0.02)
        equal = ring_noise.banded(spectrum, size, f, width=0.3, power="equal")
        assert equal.std() == pytest.approx(1, rel=0.02)


def test_noise_depends_on_seed_and_image_alone() -> None:
    one = ring_noise.signs((8, 8), 5, 1)
    assert (one == ring_noise.signs((8, 8), 5, 1)).all()
    assert (one != ring_noise.signs((8, 8), 6, 1)).any()
    assert (one != ring_noise.signs((8, 8), 5, 2)).any()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_medium_patch16_reg4_gap_256", "resnet10t"])
@pytest.mark.parametrize("power", ["ring", "equal"])
def test_numbers_against_single_passes(name: str, power: str) -> None:
    adapter = peaked(name)
    pictures = noise(3)
    x = inputs(adapter, pictures)
    names = adapter.spec.labels
    with torch.inference_mode():
        clean = adapter.module(x).argmax(1).tolist()
    true = [names[clean[0]].split(",")[0], names[(clean[1] + 1) % len(names)].split(",")[0]]  # right, wrong, unknown
    labels = [lambda: true[0], lambda: true[1], None]
    probe = FrequencyNoise(power=power, **FEW)
    state = probe.update(probe.init(adapter.spec), Batch(adapter, range(4, 7), x, pictures, labels=labels))
    found = probe.compute(state)
    std = torch.tensor(adapter.config["std"]).view(3, 1, 1)
    size = x.shape[2:]
    for place, f in enumerate((0, np.pi / 2, np.pi)):
        cosines, kept, right = [], [], []
        for image in range(3):
            added = 0.3 * torch.from_numpy(by_definition(ring_noise.signs(tuple(size), 4 + image, 0), f, 0.2))
            added = added / float(ring_noise.strength(tuple(size), f, 0.2)) if power == "equal" else added
            with torch.inference_mode():
                hidden = [adapter.module.forward_features(v) for v in (x[image][None], (x[image] + added / std)[None])]
                vectors = [_embedding(adapter, one) for one in hidden]
                answer = int(adapter.module.forward_head(hidden[1]).argmax())
            cosines.append(float(vectors[0] @ vectors[1] / vectors[0].norm() / vectors[1].norm()))
            kept.append(answer == clean[image])
            right.append(image < 2 and names[answer].split(",")[0] == true[image])
        np.testing.assert_allclose(found.cosine[place], np.mean(cosines), rtol=1e-6)
        np.testing.assert_allclose(found.kept[place], np.mean(kept))
        np.testing.assert_allclose(found.accuracy[place], np.mean(right[:2]))
        np.testing.assert_allclose(found.accuracy_change[place], np.mean(right[:2]) - 0.5)
    assert (found.attrs["n"], found.attrs["labelled"]) == (3, 2)
    assert found.attrs["accuracy_without_noise"] == pytest.approx(0.5)


def _embedding(adapter, hidden: torch.Tensor) -> torch.Tensor:
    if hidden.ndim == 4:
        return hidden.mean((2, 3))[0]
    return hidden[0, 0] if adapter.spec.features == "cls" else hidden[0, len(adapter.spec.prefix) :].mean(0)


def test_scenes_know_their_class_and_a_model_of_others_has_no_accuracy() -> None:
    models = {"vit": double("vit_tiny_patch16_224")}
    found = run(models, sources(["scenes:2"]), {"noise": FrequencyNoise(**FEW)})["noise"]["vit"]
    assert found.attrs["labelled"] == 0
    assert "accuracy_without_noise" not in found.attrs
    assert np.isnan(found.accuracy_change).all()
    assert np.isfinite(found.kept).all()


def test_more_noise_moves_the_embedding_farther() -> None:
    adapter, pictures = peaked("vit_tiny_patch16_224"), noise(2)
    batch = Batch(adapter, range(2), inputs(adapter, pictures), pictures)
    means = []
    for epsilon in (0.01, 0.1, 1.0):
        probe = FrequencyNoise(epsilon=epsilon, frequencies=3)
        means.append(float(probe.compute(probe.update(probe.init(adapter.spec), batch)).cosine.mean()))
    assert means[0] > means[1] > means[2]
    assert means[0] > 0.95


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 0}, {"epsilon": float("nan")}, {"width": 0.0}, {"frequencies": 1}, {"power": "max"}]
)
def test_bad_parameters(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        FrequencyNoise(**wrong)
