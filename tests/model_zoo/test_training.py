"""Training: a killed run ends like an unbroken one, runs repeat, and every objective learns something."""

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import timm.optim.muon
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from model_zoo.catalog import DECODER
from model_zoo.mae import encode, load_decoder, stays
from model_zoo.scenes import Scenes
from model_zoo.training.augment import blurred, jittered_colours, jittered_crops
from model_zoo.training.command import config_from, configure
from model_zoo.training.config import Stage, TrainConfig, stages_taken, steps_taken
from model_zoo.training.data import open_source
from model_zoo.training.dino import koleo, sinkhorn
from model_zoo.training.finetune import fine_tuned
from model_zoo.training.loop import build_objective, build_student, train
from model_zoo.training.publish import between
from model_zoo.training.recipes import RECIPES

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 24}


def tiny(objective: str, **changes) -> TrainConfig:
    architecture = "scenes_deit_distilled" if objective == "distilled" else "scenes_vit"
    options = {"prototypes": 16, "hidden": 16, "bottleneck": 8} if objective == "dino" else {}
    defaults = {"stages": (Stage(96, 24, (0.0, 0.5)), Stage(64, 32)), "batch_size": 16, "arguments": TINY}
    return TrainConfig(objective, architecture, **{**defaults, "options": options, **changes})


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    arguments = {"channels": (8, 8, 8, 8), "stem_width": 8}  # with 4, torch 2.15 corrupts its heap on some processors
    config = TrainConfig("supervised", "scenes_resnet", (Stage(64, 32),), batch_size=16, arguments=arguments)
    for _ in train(config, folder):
        pass
    return folder


@pytest.mark.parametrize("objective", ["supervised", "distilled", "dino", "mae"])
def test_two_runs_give_the_same_weights_and_another_seed_others(objective, teacher, tmp_path):
    config = tiny(objective, teacher=str(teacher) if objective == "distilled" else "", snapshots=(0.0, 0.5))
    ends = []
    for number, seed in enumerate((3, 3, 4)):
        reports = list(train(replace(config, seed=seed), tmp_path / str(number), report_every=3))
        assert reports[-1].step == config.steps == 10
        assert [report.size for report in reports] == [24, 24, 32, 32]
        ends.append(load_file(tmp_path / str(number) / "model.safetensors"))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert any(not torch.equal(ends[0][name], ends[2][name]) for name in ends[0])
    first, half = (load_file(tmp_path / "0" / "snapshots" / f"step-{step:05d}.safetensors") for step in (0, 5))
    assert first.keys() == half.keys() == ends[0].keys()
    assert not torch.equal(first["patch_embed.proj.weight"], half["patch_embed.proj.weight"])
    assert all(value.dtype == torch.float16 for value in ends[0].values())


def test_a_run_killed_at_half_ends_bit_equal(tmp_path):
    """The process is killed by SIGKILL, wherever it happens to be, and started anew with --resume."""
    config = tiny("dino", stages=(Stage(400, 24, (0.0, 1.0)), Stage(80, 32)))
    program = (
        "import sys, json, pathlib, torch; torch.set_num_threads(1)\n"
        "from model_zoo.training.config import TrainConfig\n"
        "from model_zoo.training.loop import train\n"
        "config = TrainConfig.from_json(json.loads(sys.argv[1]))\n"
        "for p in train(config, pathlib.Path(sys.argv[2]), resume=True, report_every=1, checkpoint_seconds=0):\n"
        "    print(p.step, flush=True)\n"
    )

    def start(out):
        command = [sys.executable, "-c", program, json.dumps(config.to_json()), str(out)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
        )

    with start(tmp_path / "broken") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= config.steps // 2:
                break
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    with start(tmp_path / "broken") as process:
        steps = [int(line) for line in process.stdout or ()]
    assert steps[0] > config.steps // 2  # it went on, it did not begin again
    assert len(list(train(config, tmp_path / "whole", report_every=1))) == config.steps
    broken, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("broken", "whole"))
    assert broken.keys() == whole.keys()
    assert all(torch.equal(broken[name], whole[name]) for name in whole)


def test_each_stage_has_its_own_surfaces_and_textures(monkeypatch, tmp_path):
    drawn = []
    seen = Scenes.views

    def views(self, *args, **kwargs):
        drawn.append((self.size, self.surface_correlation, self.texture))
        return seen(self, *args, **kwargs)

    monkeypatch.setattr(Scenes, "views", views)
    stages = (Stage(32, 24, surface_correlation=0.1, texture=(0.0, 0.5)), Stage(16, 32))
    config = tiny("supervised", stages=stages, surface_correlation=0.6)
    for _ in train(config):
        pass
    assert drawn == [(24, 0.1, 0.0), (24, 0.1, 0.5), (32, 0.6, 1.0)]
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


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


def test_a_teacher_sees_small_images_at_its_own_size(teacher):
    config = tiny("distilled", teacher=str(teacher))
    objective = build_objective(config, open_source("scenes", 0), torch.device("cpu"))
    sizes = []
    objective.teacher.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[-1]))
    for size in (24, 40):
        objective([torch.rand(4, 3, size, size)], torch.zeros(4, dtype=torch.long), 0.0)
    assert sizes == [32, 40]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    for _ in train(tiny("supervised"), tmp_path):
        pass
    with pytest.raises(ValueError, match="other settings"):
        next(train(tiny("supervised", lr=0.5), tmp_path, resume=True))


def test_digits_are_learned_from():
    """Two fifths of the recipe for the digits, which runs for a minute, are far above chance (0.1)."""
    *_, last = train(replace(RECIPES["digits"], stages=(Stage(9600, 16),)), validate_every=10**9)
    assert last.metrics["val_top1"] > 0.8


def test_a_run_can_be_cancelled_between_steps(tmp_path):
    run = train(tiny("supervised"), tmp_path, report_every=1)
    assert next(run).step == 1
    run.close()
    assert not (tmp_path / "model.safetensors").exists()


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


def test_the_decoder_is_kept_and_reconstructs_as_the_objective_does(tmp_path):
    """What lies beside the weights gives the training's own loss, up to float16."""
    config = tiny("mae", ema_decay=0.0)
    for _ in train(config, tmp_path):
        pass
    decoder, images = load_decoder(tmp_path / DECODER), Scenes(size=32).batch(range(4)).images.float() / 255
    objective = build_objective(config, open_source("scenes", 0), torch.device("cpu")).eval()
    objective.student.load_state_dict({k: v.float() for k, v in load_file(tmp_path / "model.safetensors").items()})
    objective.decoder.load_state_dict(decoder.state_dict())
    torch.manual_seed(5)
    loss, _ = objective([images], torch.zeros(4), 0.0)
    torch.manual_seed(5)
    visible, given = stays(4, 16, 0.75), objective.normalise(images)
    predicted = decoder(encode(objective.student, given, visible), visible, (4, 4))
    patches = given.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(4, 16, -1).double()
    target = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-4).sqrt()
    errors = (predicted.double() - target).square().mean(-1)
    hidden = torch.tensor([[place not in row for place in range(16)] for row in visible.tolist()])
    assert loss.item() == pytest.approx(errors[hidden].mean().item(), rel=1e-5)
    untrained = build_objective(config, open_source("scenes", 0), torch.device("cpu"))
    assert not torch.allclose(untrained.decoder.predict.weight, decoder.predict.weight, atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_file_that_is_no_decoder_is_refused_in_words(content, tmp_path):
    path = tmp_path / DECODER
    save_file({"x": torch.zeros(1)}, path) if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match="should be the decoder of a masked autoencoder"):
        load_decoder(path)


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


def test_recipes_name_models_that_timm_builds():
    for recipe in RECIPES.values():
        model = timm.create_model(recipe.architecture)
        assert sum(p.numel() for p in model.parameters()) * 2 < 8 * 2**20
        assert TrainConfig.from_json(json.loads(json.dumps(recipe.to_json()))).to_json() == recipe.to_json()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs --recipe or --objective"),
        (["--objective", "mae", "--stages", "many"], "a stage looks like"),
        (["--objective", "mae", "--data", "cifar"], "scenes, digits or folder:PATH"),
        (["--objective", "distilled", "--architecture", "scenes_deit_distilled"], "trained teacher"),
        (["--objective", "mae", "--seed", "-1"], "seed must be"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments, said, tmp_path):
    command = [sys.executable, "-m", "model_zoo", "train", "--out", str(tmp_path / "out"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("600x48", Stage(600, 48)),
        ("600x48:0-0.5", Stage(600, 48, (0.0, 0.5))),
        ("600x112/0.75", Stage(600, 112, drop=0.75)),
        ("600x56:0-0.2/0.5@0.1~0-1", Stage(600, 56, (0.0, 0.2), 0.5, 0.1, (0.0, 1.0))),
    ],
)
def test_stages_are_read_as_they_are_written(text, stage):
    parser = argparse.ArgumentParser()
    configure(parser)
    args = parser.parse_args(["--objective", "supervised", "--stages", f"{text},64x32", "--out", "unused"])
    assert config_from(args).stages == (stage, Stage(64, 32))


def test_time_left_shrinks():
    reports = list(train(tiny("supervised"), report_every=2))
    assert reports[-1].eta == 0
    assert reports[0].eta > 0


def test_a_run_that_was_left_at_a_snapshot_counts_as_far_as_that():
    whole = tiny(
        "dino", stages=(Stage(64, 24, (0.0, 0.4)), Stage(64, 24, (0.4, 0.8), texture=(0.0, 1.0)), Stage(16, 32))
    )
    left = [whole, tiny("dino", init="runs/first/snapshots/step-00006.safetensors")]
    ended = [whole, tiny("dino", init="runs/first/model.safetensors")]
    assert steps_taken(left) == [6, 10]
    assert steps_taken(ended) == [9, 10]
    assert steps_taken([]) == []
    first, second, *others = (stage for _, stage in stages_taken(left))
    assert first == whole.stages[0]
    assert second == Stage(32, 24, (0.4, pytest.approx(0.6)), texture=(0.0, 0.5))
    assert others == list(left[1].stages)
    assert [stage for _, stage in stages_taken(ended)] == [*whole.stages, *ended[1].stages]


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


@pytest.mark.parametrize("objective", ["supervised", "dino", "mae"])
def test_a_network_with_registers_is_trained_watched_and_read_back(objective, tmp_path):
    stages = (Stage(32, 32, drop=0.5),)
    config = TrainConfig(objective, "scenes_vit_reg4", stages, batch_size=16, positions="near", arguments=TINY)
    *_, last = train(config, tmp_path, validate_every=10**9)
    if objective != "supervised":
        assert 0 < last.metrics["val_iou"] < 1
    weights = load_file(tmp_path / "model.safetensors")
    assert weights["reg_token"].shape == (1, 4, 16)
    assert weights["pos_embed"].shape == (1, 1 + 4 + 9, 16)
    again = timm.create_model("scenes_vit_reg4", num_classes=last.model.num_classes, **TINY)
    again.load_state_dict(weights)
    assert again.num_prefix_tokens == 5


def test_runs_without_labels_report_how_well_heads_outline_objects():
    *_, last = train(tiny("dino"), validate_every=10**9)
    assert {"val_knn_cls", "val_knn_mean", "val_iou"} <= last.metrics.keys()
    assert 0 < last.metrics["val_iou"] < 1
    images, masks = open_source("scenes", 0).masked(20, 32, torch.device("cpu"))
    assert images.shape == (20, 3, 32, 32)
    assert 0.05 < masks.float().mean() < 0.5
    assert open_source("digits", 0).masked(20, 32, torch.device("cpu")) is None


def test_validation_scenes_are_as_faint_as_those_trained_on():
    source = open_source("scenes", 0)
    faint, full = (source.validation(8, 32, 0.0, torch.device("cpu"), texture)[0] for texture in (0.0, 1.0))
    assert faint.std(1).max() < 0.01
    assert full.std(1).max() > 0.1


def test_fine_tuning_learns_from_few_images_and_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = timm.create_model("scenes_vit", num_classes=0, **TINY).eval().requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    labels = torch.arange(96) % 3
    colours = torch.eye(3)[labels][:, :, None, None]
    images = colours + 0.3 * torch.randn(96, 3, 24, 24)
    state = torch.get_rng_state()
    first, second = (fine_tuned(model, images, labels, "mean", epochs=8) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert not first.training
    assert (first(images).argmax(1) == labels).float().mean() > 0.9
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(p.requires_grad for p in model.parameters())
    by_cls = fine_tuned(model, images, labels, "cls", epochs=1)
    assert by_cls.global_pool == "token"
