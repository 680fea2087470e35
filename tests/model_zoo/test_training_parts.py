"""What trainings are made of: losses, optimiser, data, augmentation, positions."""

import pytest
import timm
import timm.optim.muon
import torch
from PIL import Image

from model_zoo.scenes import Scenes
from model_zoo.training.augment import blurred, jittered_colours, jittered_crops
from model_zoo.training.config import Stage
from model_zoo.training.data import open_source
from model_zoo.training.dino import koleo, sinkhorn
from model_zoo.training.loop import build_objective, build_student
from model_zoo.training.publish import between
from tests.model_zoo.trainings import TINY, tiny


def test_sines_tell_rows_and_columns_apart_and_random_positions_do_not():
    tables = {}
    for positions in ("random", "sincos"):
        config = tiny("supervised", positions=positions, arguments={**TINY, "img_size": 48})
        student = build_objective(config, open_source("scenes", 0), torch.device("cpu")).student
        table = torch.nn.functional.normalize(student.pos_embed[0, -36:].detach(), dim=-1)
        tables[positions] = (table @ table.T).reshape(6, 6, 6, 6)
    near, far = tables["sincos"][2, 2, 2, 3], tables["sincos"][2, 2, 2, 5]
    assert near > far + 0.05
    torch.testing.assert_close(tables["sincos"][2, 2, 3, 2], near)
    assert tables["random"].reshape(36, 36).fill_diagonal_(0).mean().abs() < 0.1 < near
    with pytest.raises(ValueError, match="one of random, sincos, near"):
        tiny("supervised", positions="learned")


def test_heads_that_begin_near_look_nearer_than_the_others():
    config = tiny("mae", positions="near", arguments={**TINY, "img_size": 56, "embed_dim": 64, "depth": 3})
    student = build_objective(config, open_source("scenes", 0), torch.device("cpu")).student.eval()
    seen = []
    for block in student.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0][:, :, 1:, 1:]))
    with torch.no_grad():
        student.forward_features((Scenes(size=56).batch(range(4)).images.float() / 255 - 0.5) / 0.25)
    places = torch.cartesian_prod(torch.arange(7.0), torch.arange(7.0))
    apart = torch.cdist(places, places)
    near, also_near, rest = ((a / a.sum(-1, keepdim=True) * apart).sum(-1).mean() / apart.mean() for a in seen)
    assert max(near, also_near) < 0.6
    assert rest > 0.9


def test_batches_are_functions_of_seed_and_step(tmp_path):
    for name, colour in (("cats", "orange"), ("dogs", "brown")):
        (tmp_path / name).mkdir()
        for k in range(10):
            Image.new("RGB", (40 + k, 30), colour).save(tmp_path / name / f"{k}.png")
    for data in ("scenes", "digits", f"folder:{tmp_path}"):
        first, second = open_source(data, 7), open_source(data, 7)
        first.views(0, 8, 24, 1.0, 1, torch.device("cpu"))  # what was asked before makes no difference
        drawn = []
        for source in (first, second):
            torch.manual_seed(1)
            drawn.append(source.views(5, 8, 24, 1.0, 2, torch.device("cpu")))
        assert torch.equal(drawn[0][1], drawn[1][1])
        assert all(torch.equal(a, b) for a, b in zip(drawn[0][0], drawn[1][0], strict=True))
        assert drawn[0][0][0].shape == (8, 3, 24, 24)


def test_an_epoch_of_pictures_shows_each_once_and_keeps_validation_apart():
    source = open_source("digits", 0)
    train_part, kept = source._split()
    assert not set(train_part) & set(kept)
    assert len(train_part) + len(kept) == 1797
    seen = [source.views(step, 1, 8, 1.0, 1, torch.device("cpu"))[1].item() for step in range(30)]
    again = [source.views(step, 1, 8, 1.0, 1, torch.device("cpu"))[1].item() for step in range(30)]
    assert seen == again
    assert len(set(seen)) > 5


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one sub-folder of images per class"):
        open_source(f"folder:{tmp_path}", 0)
    with pytest.raises(ValueError, match="scenes, digits or folder:PATH"):
        open_source("cifar", 0)


def test_sinkhorn_uses_every_prototype_alike():
    torch.manual_seed(0)
    q = sinkhorn(torch.randn(64, 16) * 4, iterations=50)
    assert torch.allclose(q.sum(1), torch.ones(64), atol=1e-5)
    assert torch.allclose(q.sum(0), torch.full((16,), 4.0), atol=0.05)


def test_koleo_is_the_mean_log_distance_to_the_nearest_other():
    torch.manual_seed(0)
    features = torch.randn(12, 6, dtype=torch.float64)
    unit = [x / x.norm() for x in features]
    nearest = [min((x - y).norm() for j, y in enumerate(unit) if j != i) for i, x in enumerate(unit)]
    expected = -sum(distance.log() for distance in nearest) / 12
    torch.testing.assert_close(koleo(features), expected, atol=1e-4, rtol=0)
    assert koleo(torch.ones(8, 4) + 1e-3 * torch.randn(8, 4)) > koleo(torch.randn(8, 4)) + 2


def test_blur_keeps_the_mean_and_takes_the_detail():
    torch.manual_seed(0)
    images = torch.rand(8, 3, 32, 32)
    assert torch.equal(blurred(images, 0.0, 0.1), images)
    soft = blurred(images, 1.0, 0.1)
    torch.testing.assert_close(soft.mean((2, 3)), images.mean((2, 3)), atol=0.03, rtol=0)
    assert (soft.std((2, 3)) < 0.7 * images.std((2, 3))).all()


def test_a_change_of_hue_keeps_brightness_and_greys():
    torch.manual_seed(0)
    grey = torch.rand(6, 1, 8, 8).expand(-1, 3, -1, -1)
    colourful = 0.3 + 0.4 * torch.rand(64, 3, 8, 8)
    for hue in (None, 0.5):
        assert torch.allclose(jittered_colours(grey, 0.01, hue), grey, atol=0.02)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    turned = jittered_colours(colourful, 1e-3, 0.5)
    kept = ((turned - colourful) * weights).sum(1).abs()
    assert kept.max() < 0.1
    assert kept.mean() < 0.01
    assert (turned - colourful).abs().mean() > 0.05
    assert (jittered_colours(colourful, 1e-3) - colourful).abs().mean() < 0.05


def test_texture_and_difficulty_move_through_their_stage():
    stages = (Stage(64, 24, (0.0, 0.5), texture=(0.2, 1.0)), Stage(32, 24))
    config = tiny("supervised", stages=stages)
    steps = [config.stage_at(step)[1:] for step in range(config.steps)]
    assert steps[0] == (0.0, 0.2)
    assert steps[3] == (0.5, 1.0)
    assert steps[4:] == [(1.0, 1.0)] * 2


def test_whole_crops_are_the_image_and_others_lie_inside():
    images = Scenes(size=32).batch(range(6)).images.float() / 255
    assert torch.allclose(jittered_crops(images, 32, (1.0, 1.0)), images, atol=1e-5)
    ramp = torch.linspace(0, 1, 64).expand(6, 3, 64, 64)
    crops = jittered_crops(ramp, 32, (0.25, 0.25))
    width = crops[..., -1] - crops[..., 0]
    assert torch.allclose(width, torch.full_like(width, 0.5), atol=0.03)


def test_masked_autoencoder_does_not_see_what_it_predicts():
    """Changing hidden patches changes the targets, not the prediction: the encoder's input is the visible ones only."""
    objective = build_objective(tiny("mae"), open_source("scenes", 0), torch.device("cpu")).eval()
    images = Scenes(size=32).batch(range(2)).images.float() / 255
    seen = []
    objective.student.blocks.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    torch.manual_seed(0)
    objective([images], torch.zeros(2), 0.0)
    assert seen[0].shape[1] == 1 + round(16 * 0.25)
    torch.manual_seed(0)
    order = torch.rand(2, 16).argsort(1)[:, :4]
    hidden = torch.ones(2, 16).scatter(1, order, 0.0).view(2, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    torch.manual_seed(0)
    objective([images * (1 - hidden) + torch.rand(2, 3, 32, 32) * hidden], torch.zeros(2), 0.0)
    assert torch.allclose(seen[0][:, 0], seen[1][:, 0])


def test_views_painted_anew_share_the_shape_and_its_outline_only():
    scenes, painted = (Scenes(3, 40).views(range(40), 2, repainted=flag) for flag in (False, True))
    assert torch.equal(scenes[0].images, painted[0].images)
    assert torch.equal(scenes[1].masks, painted[1].masks)
    assert torch.equal(painted[0].labels, painted[1].labels)
    assert torch.equal(scenes[0].surfaces, scenes[1].surfaces)
    own = (painted[1].surfaces == painted[1].labels).float().mean()
    assert 0.45 < own < 0.95
    assert not torch.equal(painted[0].surfaces, painted[1].surfaces)
    rim = torch.nn.functional.max_pool2d(painted[1].masks[:, None].float(), 5, 1, 2) > 0
    assert torch.equal(scenes[1].images * ~rim, painted[1].images * ~rim)


def test_photographs_of_scikit_image_are_none_that_the_dashboard_shows():
    named = open_source("scenes", 0, photographs="scikit-image").photographs
    assert len(named) >= 5
    assert all(path.is_file() for path in named)
    assert not {path.stem for path in named} & {"chelsea", "astronaut", "coffee", "rocket"}


def test_muon_orthogonalises_in_float32_on_a_cpu():
    """In bfloat16 the result is off by hundredths, and takes seconds a step where the processor emulates it."""
    torch.manual_seed(0)
    gradient, coefficients = torch.randn(24, 40), [(3.4445, -4.775, 2.0315)] * 5
    x = (gradient / gradient.norm()).double()
    for a, b, c in coefficients:
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    found = timm.optim.muon.zeropower_via_newtonschulz(gradient, 5, coefficients)
    torch.testing.assert_close(found.double(), x, atol=1e-4, rtol=0)


def test_attention_is_dropped_in_the_last_block_of_the_student_alone():
    options = {"prototypes": 16, "hidden": 16, "bottleneck": 8, "attention_drop": 0.7}
    objective = build_objective(tiny("dino", options=options), open_source("scenes", 0), torch.device("cpu"))
    assert [block.attn.attn_drop.p for block in objective.student.blocks] == [0.0, 0.7]
    assert [block.attn.attn_drop.p for block in objective.teacher.blocks] == [0.0, 0.0]
    images = objective.normalise(Scenes(size=24).batch(range(2)).images.float() / 255)
    one, other = objective.train().student(images), objective.student(images)
    assert not torch.allclose(one, other)
    assert torch.allclose(objective.eval().student(images), objective.teacher(images), atol=1e-6)


def test_weights_between_start_and_end_can_take_the_first_blocks_whole():
    start = build_student(tiny("dino", positions="sincos"), 10).state_dict()
    end = {name: value.half() for name, value in build_student(tiny("dino", seed=1), 10).state_dict().items()}
    mixed = between(start, end, 0.25, 0)
    for name, value in mixed.items():
        assert value.dtype == torch.float16
        torch.testing.assert_close(value.float(), 0.75 * start[name] + 0.25 * end[name].float(), atol=1e-3, rtol=0)
    first = between(start, end, 0.25, 1)
    early = {name for name in end if not name.startswith(("blocks.1.", "norm."))}
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} < early
    for name, value in first.items():
        assert torch.equal(value, end[name] if name in early else mixed[name]), name
    assert not torch.equal(first["pos_embed"], mixed["pos_embed"])


def test_validation_scenes_are_as_faint_as_those_trained_on():
    source = open_source("scenes", 0)
    faint, full = (source.validation(8, 32, 0.0, torch.device("cpu"), texture)[0] for texture in (0.0, 1.0))
    assert faint.std(1).max() < 0.01
    assert full.std(1).max() > 0.1
