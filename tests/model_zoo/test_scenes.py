"""Scenes: the same whatever company they are drawn in, masks that are the shape, labels that mean what they say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import label as components

from model_zoo import textures
from model_zoo.scenes import CLASSES, HELD_OUT_SEED, PROBE_BANK_SEED, Scenes
from model_zoo.shapes import SHAPES

FIELDS = ("images", "labels", "masks", "surfaces")


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    indices=st.lists(st.integers(0, 10**9), min_size=1, max_size=9),
    size=st.sampled_from([24, 40, 64]),
)
def test_a_scene_does_not_depend_on_its_batch(seed, indices, size):
    scenes = Scenes(seed=seed, size=size)
    together = scenes.batch(indices)
    for position, index in enumerate(indices):
        alone = scenes.batch([index])
        for name in FIELDS:
            assert torch.equal(getattr(together, name)[position], getattr(alone, name)[0]), name


def test_a_large_batch_equals_its_parts():
    scenes = Scenes(size=112)
    whole = scenes.batch(range(40))
    parts = [scenes.batch(range(start, start + 8)) for start in range(0, 40, 8)]
    for name in FIELDS:
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts])), name


def test_mask_is_the_sign_of_the_shape_sampled_point_by_point():
    """An upright, centred scene's mask against the shape's own function, evaluated at each pixel on its own."""
    size = 48
    scenes = Scenes(seed=5, size=size, difficulty=0.0)
    batch = scenes.batch(range(30))
    assert set(batch.labels.tolist()) == set(range(10))
    drawn = scenes._draw(range(30), setting=0)
    for row in range(30):
        scale = 0.74 + 0.16 * np.float32(drawn["scale"][row])
        stretch = math.exp((np.float32(drawn["aspect"][row]) - 0.5) * 0.24)
        centre = (np.arange(size) + 0.5) * 2 / size - 1
        x, y = np.meshgrid(centre / scale / stretch, -centre / scale * stretch)
        shape = list(SHAPES.values())[batch.labels[row]]
        distance = shape(torch.from_numpy(x), torch.from_numpy(y)).numpy()
        sure = np.abs(distance) > 1e-5
        assert sure.mean() > 0.99
        assert np.array_equal(batch.masks[row].numpy()[sure], (distance < 0)[sure])


@pytest.mark.parametrize("name", list(SHAPES))
def test_distance_is_a_lower_bound_and_area(name):
    """No magnitude exceeds the true distance to the outline, and the area is that of the shape drawn finely."""
    line = torch.linspace(-1.4, 1.4, 281, dtype=torch.float64)
    y, x = torch.meshgrid(-line, line, indexing="ij")
    distance = SHAPES[name](x, y)
    inside = distance < 0
    for axis in (0, 1):  # a distance never grows faster than one walks
        assert distance.diff(dim=axis).abs().max() < 0.01 + 1e-9
    assert 0.6 < inside.double().sum() * 0.01**2 < 2.3
    assert (distance[(x.abs() > 1.2) | (y.abs() > 1.2)] > 0).all()
    assert components(inside.numpy()).max() == 1


def test_edges_are_anti_aliased():
    """On a boundary pixel the object's colour covers a part, so images of a shape at two sizes agree in area."""
    scenes = Scenes(seed=3, difficulty=0.3)
    for small, large in zip(scenes.at(32).batch(range(12)).masks, scenes.at(256).batch(range(12)).masks, strict=True):
        assert abs(small.float().mean() - large.float().mean()) < 0.02


def test_surfaces_follow_the_correlation():
    count = 2000
    batch = Scenes(seed=1, size=8, surface_correlation=0.7).batch(range(count))
    share = (batch.labels == batch.surfaces).float().mean().item()
    assert abs(share - 0.7) < 4 * math.sqrt(0.7 * 0.3 / count)
    counts = torch.bincount(batch.labels, minlength=10)
    assert (counts - count / 10).abs().max() < 4.5 * math.sqrt(count * 0.09)
    other = batch.surfaces[batch.labels != batch.surfaces]
    assert len(torch.unique(other)) == 10


def test_cue_conflict_never_agrees_and_keeps_the_shape():
    plain, conflict = Scenes(size=24).batch(range(600)), Scenes(size=24, cue_conflict=True).batch(range(600))
    assert (conflict.labels != conflict.surfaces).all()
    assert torch.equal(plain.labels, conflict.labels)
    assert torch.equal(plain.masks, conflict.masks)


def test_neither_texture_nor_palette_alone_names_a_class():
    assert len(set(textures.SURFACES)) == len(CLASSES)
    for part in zip(*textures.SURFACES, strict=True):
        assert all(part.count(value) == 2 for value in part)


def test_the_object_covers_a_fair_share_of_the_image():
    share = Scenes(size=64).batch(range(400)).masks.float().mean((1, 2))
    assert share.min() > 0.06
    assert share.max() < 0.5
    assert 0.12 < share.median() < 0.28


def test_views_keep_the_object_and_change_its_surroundings():
    scenes = Scenes(seed=9, size=32)
    first, second = scenes.views(range(50), 2)
    assert torch.equal(first.images, scenes.batch(range(50)).images)
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.surfaces, second.surfaces)
    assert (first.masks != second.masks).any((1, 2)).all()


def test_photographs_replace_half_of_the_backgrounds_and_nothing_else(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 90, dtype=np.uint8)[None, :], (60, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    count = 64
    plain = Scenes(5, 48).batch(range(count))
    mixed = Scenes(5, 48, photographs=(tmp_path / "ramp.png",)).batch(range(count))
    for name in ("labels", "masks", "surfaces"):
        assert torch.equal(getattr(plain, name), getattr(mixed, name))
    changed = (plain.images != mixed.images).any(1)
    outside = torch.nn.functional.pad((~plain.masks).float(), (2, 2, 2, 2), value=1.0)
    inside = torch.nn.functional.max_pool2d(outside, 5, 1) == 0
    assert not (changed & inside).any()
    share = changed.flatten(1).float().mean(1) > 0.2
    assert 0.3 < share.float().mean() < 0.7
    tiles = textures.photograph_bank((tmp_path / "ramp.png",), 64, torch.device("cpu"))
    assert tiles.shape == (textures.CROPS, 1, 65, 65)
    along = tiles[:, 0, :32, :32].mean(1).diff(dim=1)
    assert (along > 0).all(), "the crop keeps the photograph's order of greys"
    torch.testing.assert_close(tiles[:, 0, :, :32], tiles[:, 0, :, 32:64].flip(-1), msg="mirrored, so no seam")


def test_without_texture_only_grey_shapes_are_left_and_they_are_the_same_shapes():
    full = Scenes(5, 48).batch(range(32))
    plain = Scenes(5, 48, texture=0.0).batch(range(32))
    half = Scenes(5, 48, texture=0.5).batch(range(32))
    for name in ("labels", "masks", "surfaces"):
        assert torch.equal(getattr(full, name), getattr(plain, name))
    images = plain.images.int()
    assert (images.amax(1) - images.amin(1)).max() <= 1
    inside, outside = images[:, 0][plain.masks].float().mean(), images[:, 0][~plain.masks].float().mean()
    assert inside > 1.5 * outside
    colours = [(scenes.images.int().amax(1) - scenes.images.int().amin(1)).float().mean() for scenes in (half, full)]
    assert 0.3 < colours[0] / colours[1] < 0.7


def test_clip_moves_smoothly_and_closes():
    clip = Scenes(size=64).clip(4, 24)
    assert clip.images.shape == (24, 3, 64, 64)
    assert len(torch.unique(clip.labels)) == 1
    line = torch.arange(64.0)
    area = clip.masks.float().sum((1, 2))
    assert (area > 100).all()
    centre = torch.stack([(clip.masks * line).sum((1, 2)), (clip.masks * line[:, None]).sum((1, 2))], 1) / area[:, None]
    steps = (centre - centre.roll(1, 0)).norm(dim=1)
    assert steps.max() < 12
    assert steps.sum() > 40
    background = ~clip.masks.any(0)
    spread = clip.images[:, :, background].float().std(0)
    assert spread.median() < 8  # only the cast shadow touches it


def test_held_out_scenes_are_out_of_reach_of_training_seeds():
    from model_zoo.training.config import Stage, TrainConfig

    assert HELD_OUT_SEED >= 2**32
    assert PROBE_BANK_SEED != HELD_OUT_SEED
    with pytest.raises(ValueError, match="held out"):
        TrainConfig("supervised", "scenes_vit", (Stage(1, 48),), seed=HELD_OUT_SEED)


@pytest.mark.parametrize("wrong", [{"size": 4}, {"difficulty": 1.5}, {"surface_correlation": -0.1}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        Scenes(**wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_scenes():
    scenes = Scenes(size=64)
    here, there = scenes.batch(range(20)), scenes.batch(range(20), "cuda")
    assert torch.equal(here.labels, there.labels.cpu())
    assert (here.masks != there.masks.cpu()).float().mean() < 1e-3
    assert (here.images.int() - there.images.cpu().int()).abs().float().mean() < 0.5
