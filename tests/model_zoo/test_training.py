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
from safetensors.torch import load_file, save_file

from model_zoo.catalog import DECODER
from model_zoo.mae import encode, load_decoder, stays
from model_zoo.scenes import Scenes
from model_zoo.training.command import config_from, configure
from model_zoo.training.config import Stage, TrainConfig, stages_taken, steps_taken
from model_zoo.training.data import open_source
from model_zoo.training.finetune import fine_tuned
from model_zoo.training.loop import build_objective, train
from model_zoo.training.recipes import RECIPES
from tests.model_zoo.trainings import TINY, tiny


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


def test_recipes_name_models_that_timm_builds():
    for recipe in RECIPES.values():
        model = timm.create_model(recipe.architecture)
        assert sum(p.numel() for p in model.parameters()) * 2 < 8 * 2**20
        assert TrainConfig.from_json(json.loads(json.dumps(recipe.to_json()))).to_json() == recipe.to_json()
