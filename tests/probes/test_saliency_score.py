"""Saliency numbers against pixels counted one by one, and curves against one forward pass at a time."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_zoo.adapter import Geometry
from model_zoo.images import ImageSource, sources
from probes.attention_maps import AttentionMaps
from probes.core.capture import Batch
from probes.core.perturbation import curves, random_orders
from probes.core.relevance import relevance
from probes.core.runner import run
from probes.core.saliency import baselines, centre_prior, coverage, maps_of, mass_mask, overlap, trapezoid
from probes.core.targets import Target
from probes.saliency_score import RANDOM_ORDERS, SEED, SaliencyScore, curve_passes
from tests.probes.families import inputs, noise, peaked

MODEL, ENCODER = "vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"


@pytest.fixture(scope="module")
def models():
    built = {}

    def get(name: str):
        if name not in built:
            built[name] = peaked(name)
        return built[name]

    return get


def disc(width: int = 120, height: int = 90) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (x - 70) ** 2 + (y - 40) ** 2 < 25**2


def batch_of(adapter, count: int = 2, masks: bool = True) -> Batch:
    images = noise(count)
    given = [disc] * count if masks else [None] * count
    return Batch(adapter, range(count), inputs(adapter, images), images, given)


def score(adapter, batch: Batch, **parameters) -> xr.Dataset:
    probe = SaliencyScore(**parameters)
    assert probe.undefined(adapter.spec) is None
    with torch.inference_mode():
        return probe.compute(probe.update(probe.init(adapter.spec), batch))


def test_coverage_counts_pixels() -> None:
    """A box that cuts through pixels, counted on a picture ten times as fine; a crop that reaches beyond the image."""
    mask, rng = disc(12, 9), np.random.default_rng(0)
    mask = rng.random((9, 12)) < 0.4
    for box in ((1.3, 0.7, 10.5, 8.1), (-2.0, -1.5, 14.0, 10.5), (0.0, 0.0, 12.0, 9.0)):
        found = coverage(mask, Geometry((12, 9), box, (64, 96)), (4, 5))
        expected = np.zeros((4, 5))
        fine = 40
        for row in range(4):
            for column in range(5):
                left, top, right, bottom = Geometry((12, 9), box, (64, 96)).cell(row, column, (4, 5))
                for i in range(fine):
                    for j in range(fine):
                        y = top + (i + 0.5) / fine * (bottom - top)
                        x = left + (j + 0.5) / fine * (right - left)
                        if 0 <= y < 9 and 0 <= x < 12:
                            expected[row, column] += mask[int(y), int(x)] / fine**2
        np.testing.assert_allclose(found, expected, atol=0.03)
        assert found.mean() == pytest.approx(expected.mean(), abs=0.005)


def test_coverage_of_whole_pixels_is_exact() -> None:
    mask = np.random.default_rng(1).random((8, 12)) < 0.5
    found = coverage(mask, Geometry((12, 8), (0, 0, 12, 8), (64, 96)), (4, 6))
    np.testing.assert_allclose(found, mask.reshape(4, 2, 6, 2).mean((1, 3)), atol=1e-12)


def test_overlap_counts_pixels() -> None:
    """IoU, pointing and mass inside from pictures of the map and the mask at one pixel each."""
    rng = np.random.default_rng(2)
    mask, values = rng.random((40, 60)) < 0.3, rng.random((4, 6)) ** 3
    found = overlap(values, mask, Geometry((60, 40), (0, 0, 60, 40), (64, 96)), 0.6)
    big = np.kron(values, np.ones((10, 10)))
    chosen = np.kron(smallest_set(values, 0.6), np.ones((10, 10))) > 0
    assert found.iou == pytest.approx((chosen & mask).sum() / (chosen | mask).sum())
    assert found.mass_inside == pytest.approx(big[mask].sum() / big.sum())
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert found.pointing == mask[row * 10 + 5, column * 10 + 5]


def smallest_set(values: np.ndarray, tau: float) -> np.ndarray:
    chosen, mass = np.zeros(values.size, bool), 0.0
    for index in sorted(range(values.size), key=lambda i: -values.ravel()[i]):
        if mass >= tau * values.sum() * (1 - 1e-12):
            break
        chosen[index], mass = True, mass + values.ravel()[index]
    return chosen.reshape(values.shape)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(float, (3, 4), elements=st.floats(0, 1)), st.floats(0.05, 1))
def test_mass_mask_reaches_tau_and_no_smaller_set_does(values: np.ndarray, tau: float) -> None:
    if values.sum() < 1e-6:
        return
    chosen = mass_mask(values, tau)
    assert values[chosen].sum() >= tau * values.sum() * (1 - 1e-9)
    fewer = np.sort(values.ravel())[::-1][: chosen.sum() - 1].sum()
    assert fewer < tau * values.sum()


def test_a_map_that_is_the_mask_scores_one() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    values = mask.reshape(4, 10, 6, 10).mean((1, 3))
    geometry = Geometry((60, 40), (0, 0, 60, 40), (64, 96))
    found = overlap(values, mask, geometry, 1.0)
    assert (found.iou, found.pointing, found.mass_inside) == (1, 1, 1)
    opposite = overlap(1 - values, mask, geometry, 1.0)
    assert (opposite.iou, opposite.pointing, opposite.mass_inside) == (0, 0, 0)


@pytest.mark.parametrize("tau", [0.3, 0.6, 0.95])
def test_baselines_count_pixels(tau: float) -> None:
    """Both maps drawn at one value a pixel; of the uniform one every pixel is in the mask to the same part."""
    rows, columns, side = 7, 9, 10
    y, x = np.mgrid[: rows * side, : columns * side]
    mask = ((x - 52) / 25) ** 2 + ((y - 30) / 17) ** 2 < 1
    geometry = Geometry((columns * side, rows * side), (0, 0, columns * side, rows * side), (64, 96))
    found = baselines(mask, geometry, coverage(mask, geometry, (rows, columns)), tau)

    part = int(np.ceil(tau * rows * columns)) / (rows * columns)
    both = part * mask.sum(dtype=np.float64)
    assert found["uniform"].iou == pytest.approx(both / (part * mask.size + mask.sum() - both), rel=1e-12)
    assert found["uniform"].mass_inside == pytest.approx(mask.mean(), rel=1e-12)
    centres = [mask[r * side + side // 2, c * side + side // 2] for r in range(rows) for c in range(columns)]
    assert found["uniform"].pointing == pytest.approx(np.mean(centres), rel=1e-12)

    gaussian = np.array(
        [
            [
                np.exp(-(((r + 0.5) / rows - 0.5) ** 2) / 0.125) * np.exp(-(((c + 0.5) / columns - 0.5) ** 2) / 0.125)
                for c in range(columns)
            ]
            for r in range(rows)
        ],
        dtype=np.float64,
    )
    np.testing.assert_allclose(centre_prior((rows, columns)), gaussian, rtol=1e-12)
    big, chosen = (np.kron(m, np.ones((side, side))) for m in (gaussian, smallest_set(gaussian, tau)))
    assert found["centre"].iou == pytest.approx((chosen * mask).sum() / ((chosen > 0) | mask).sum(), rel=1e-9)
    assert found["centre"].mass_inside == pytest.approx(big[mask].sum() / big.sum(), rel=1e-9)
    assert found["centre"].pointing == mask[rows * side // 2, columns * side // 2]


def test_the_uniform_map_scores_as_chance_masks_of_its_size_do() -> None:
    mask, rng = disc(), np.random.default_rng(4)
    geometry = Geometry((120, 90), (0, 0, 120, 90), (224, 224))
    covered = coverage(mask, geometry, (14, 14))
    found = baselines(mask, geometry, covered, 0.6)["uniform"].iou
    drawn = [overlap(1 + 1e-9 * rng.random((14, 14)), mask, geometry, 0.6, covered).iou for _ in range(2000)]
    assert found == pytest.approx(np.mean(drawn), abs=0.002)
    assert found == pytest.approx(0.16, abs=0.01)  # 18% of the picture, and 60% of it in the mask


def test_an_object_that_the_model_does_not_see_has_no_baseline() -> None:
    mask = np.zeros((40, 60), bool)
    mask[:, :5] = True
    geometry = Geometry((60, 40), (10, 0, 50, 40), (64, 64))
    found = baselines(mask, geometry, coverage(mask, geometry, (4, 4)), 0.6)
    assert all(np.isnan([one.iou, one.pointing, one.mass_inside]).all() for one in found.values())


def test_heads_are_the_last_layers_maps(models) -> None:
    adapter = models(MODEL)
    batch = batch_of(adapter)
    images = [ImageSource(str(i), lambda i=i: batch.originals[i], disc) for i in range(2)]
    maps = maps_of(batch, "heads", Target())
    single = peaked(MODEL)
    single.module.float()
    attention = run({"a": single}, images, {"m": AttentionMaps(layers="3")})["m"]["a"]["attention"]
    np.testing.assert_allclose(maps, attention.isel(layer=0), atol=1e-4)
    result = score(adapter, batch, steps=0)
    assert result.iou.dims == ("image", "head")
    for i in range(2):
        for head in range(3):
            one = overlap(maps[i, head], disc(), adapter.geometry((120, 90)), 0.6)
            assert float(result.iou[i, head]) == one.iou
            assert float(result.mass_inside[i, head]) == one.mass_inside
    order = np.argsort(-result.iou.values.mean(0))
    assert result["rank"].values[order].tolist() == [1, 2, 3]
    np.testing.assert_allclose(result.area, disc().mean(), atol=0.02)
    np.testing.assert_array_equal(result.uniform_mass_inside, result.area)
    geometry = adapter.geometry((120, 90))
    chance = baselines(disc(), geometry, coverage(disc(), geometry, adapter.spec.grid), 0.6)
    assert result.centre_iou.dims == ("image",)
    np.testing.assert_array_equal(result.centre_iou, chance["centre"].iou)
    np.testing.assert_array_equal(result.uniform_iou, chance["uniform"].iou)
    assert "deletion_auc" not in result


@pytest.mark.parametrize("kind", ["mean", "rollout", "chefer", "integrated-gradients"])
def test_one_map_an_image(models, kind: str) -> None:
    adapter = models(MODEL)
    result = score(adapter, batch_of(adapter), map=kind, steps=0)
    assert result.iou.dims == ("image",)
    if kind == "chefer":
        maps = relevance(adapter, inputs(adapter, noise(2)), "chefer", Target()).maps.numpy()
        expected = [overlap(m, disc(), adapter.geometry((120, 90)), 0.6).iou for m in maps]
        np.testing.assert_allclose(result.iou, expected)


@pytest.mark.parametrize(("name", "fill"), [(MODEL, "mean"), (MODEL, "blur"), (ENCODER, "mean")])
def test_curves_one_pass_at_a_time(models, name: str, fill: str) -> None:
    adapter = models(name)
    batch = batch_of(adapter)
    result = score(adapter, batch, map="mean", steps=4, fill=fill)
    (rows, columns), p = adapter.spec.grid, adapter.spec.patch
    maps = maps_of(batch, "mean", Target())[:, 0]
    x, module = batch.inputs, adapter.module
    if fill == "blur":
        from torchvision.transforms.v2.functional import gaussian_blur

        sigma = min(x.shape[-2:]) / 16
        empty = gaussian_blur(x, [2 * round(2 * sigma) + 1] * 2, [sigma] * 2)
    else:
        empty = x.mean((2, 3), keepdim=True).expand_as(x)

    def answer(z: torch.Tensor, i: int) -> float:
        if adapter.spec.classes:
            return float(module(z[None]).softmax(-1)[0, module(x[i : i + 1]).argmax()])
        a, b = (module.forward_head(module.forward_features(v), pre_logits=True)[0] for v in (z[None], x[i : i + 1]))
        return float(a @ b / a.norm() / b.norm())

    for i in range(2):
        order = sorted(range(rows * columns), key=lambda k, i=i: -maps[i].ravel()[k])
        removed, shown = [], []
        for part in range(5):
            without, only = x[i].clone(), empty[i].clone()
            for k in order[: round(part / 4 * rows * columns)]:
                r, c = k // columns * p, k % columns * p
                without[:, r : r + p, c : c + p] = empty[i, :, r : r + p, c : c + p]
                only[:, r : r + p, c : c + p] = x[i, :, r : r + p, c : c + p]
            removed.append(answer(without, i))
            shown.append(answer(only, i))
        np.testing.assert_allclose(result.deletion[i], removed, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(result.insertion[i], shown, rtol=1e-9, atol=1e-12)
        area = sum((removed[k] + removed[k + 1]) / 8 for k in range(4))
        assert float(result.deletion_auc[i]) == pytest.approx(area)
    assert removed[0] == pytest.approx(shown[-1])
    assert len(set(np.round(result.deletion[0].values, 12))) > 2, "the curve must move"


def test_random_orders_are_deletion_forwards_and_insertion_backwards(models) -> None:
    """The chance levels, from maps that have these very orders."""
    adapter = models(MODEL)
    batch = batch_of(adapter)
    result = score(adapter, batch, map="mean", steps=4, fill="mean")
    (rows, columns), cells = adapter.spec.grid, adapter.spec.grid[0] * adapter.spec.grid[1]
    orders = random_orders(batch, cells, RANDOM_ORDERS, SEED)
    ranked = -orders.argsort(-1).reshape(2, RANDOM_ORDERS, rows, columns).astype(float)  # the first is the highest
    none = random_orders(batch, cells, 0, SEED)
    deletion, _, _ = curves(batch, ranked, none, Target(), steps=4, fill="mean")
    _, insertion, _ = curves(batch, -ranked, none, Target(), steps=4, fill="mean")
    np.testing.assert_allclose(result.deletion_random_auc, trapezoid(deletion).mean(1), rtol=1e-9)
    np.testing.assert_allclose(result.insertion_random_auc, trapezoid(insertion).mean(1), rtol=1e-9)
    assert len(np.unique(orders.reshape(-1, cells), axis=0)) == 2 * RANDOM_ORDERS


def test_one_head_alone_has_the_numbers_it_has_among_all(models) -> None:
    adapter = models(MODEL)
    batch = batch_of(adapter, 1)
    every, one = (score(adapter, batch, map="heads", steps=2, head=head) for head in (None, 1))
    for name in ("iou", "deletion", "insertion_auc"):
        assert "head" not in one[name].dims
        np.testing.assert_allclose(one[name], every[name].isel(head=1))
    with pytest.raises(ValueError, match="the heads 0 to 2"):
        score(adapter, batch, map="heads", head=3)


def test_the_passes_are_as_many_as_said(models, monkeypatch) -> None:
    adapter = models(MODEL)
    batch, seen = batch_of(adapter), []
    forward_features = adapter.module.forward_features
    monkeypatch.setattr(adapter.module, "forward_features", lambda x: seen.append(len(x)) or forward_features(x))
    score(adapter, batch, map="heads", head=0, steps=4, fill="mean")
    assert sum(seen) == 2 * curve_passes(4)


def test_scenes_bring_their_masks() -> None:
    adapter = peaked(MODEL)
    adapter.module.float()
    result = run({"a": adapter}, sources(["scenes:3"]), {"s": SaliencyScore(steps=2)}, batch_size=2)["s"]["a"]
    assert result.attrs["masks"] == 3
    assert np.isfinite(result.iou).all()
    assert ((result.area > 0.03) & (result.area < 0.6)).all()
    assert np.isfinite(result.deletion_random_auc).all()


def test_without_masks_only_the_curves_say_something(models) -> None:
    adapter = models(MODEL)
    result = score(adapter, batch_of(adapter, 1, masks=False), steps=2)
    assert np.isnan(result.iou).all()
    assert np.isnan(result["rank"]).all()
    assert np.isnan(result.uniform_iou).all()
    assert np.isfinite(result.insertion_auc).all()
    assert result.attrs["masks"] == 0


def test_a_mask_of_another_size_is_refused(models) -> None:
    adapter = models(MODEL)
    batch = batch_of(adapter, 1)
    wrong = Batch(adapter, batch.images, batch.inputs, batch.originals, [lambda: np.ones((5, 7), bool)])
    with pytest.raises(ValueError, match=r"7 × 5 pixels and its image 120 × 90"):
        score(adapter, wrong, steps=0)


def test_a_vanished_map_scores_nothing() -> None:
    adapter = peaked(MODEL)
    with torch.no_grad():
        adapter.module.head.weight.zero_()
    result = score(adapter, batch_of(adapter, 1), map="chefer", steps=2)
    assert np.isnan(result.iou).all()
    assert np.isnan(result.deletion_auc).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"map": "lime"},
        {"tau": 0.0},
        {"tau": 1.5},
        {"steps": 1},
        {"steps": -3},
        {"fill": "black"},
        {"target": "similarity"},
    ],
)
def test_bad_parameters_are_one_sentence(parameters: dict) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        SaliencyScore(**parameters)


def test_undefined_says_why(models) -> None:
    assert "similarity to an image" in (SaliencyScore(map="chefer").undefined(models(ENCODER).spec) or "")
    assert SaliencyScore().undefined(models(ENCODER).spec) is None
    assert "no class 1000" in (SaliencyScore(target="1000").undefined(models(MODEL).spec) or "")
