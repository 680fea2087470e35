"""Evaluation: each figure on inputs whose answer is known, and a model card's figures measured again."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from model_zoo.__main__ import main
from model_zoo.adapter import Adapter
from model_zoo.catalog import CATALOG
from model_zoo.decoding import ImageError
from model_zoo.features import BATCH
from model_zoo.images import ImageSource, sources
from model_zoo.loading import load
from model_zoo.scenes import Scenes
from model_zoo.training.config import TrainConfig
from model_zoo.training.outline import head_iou
from model_zoo.training.recipes import RECIPES
from probes.core.evaluation import cards
from probes.core.evaluation.classes import read_labels
from probes.core.evaluation.images import Settings, evaluate_images
from probes.core.evaluation.scenes import _scenes, evaluate_scenes
from probes.core.runner import run
from probes.saliency_score import SaliencyScore

SHIPPED = [key for key, entry in CATALOG.items() if entry.weights == "shipped"]


@pytest.mark.parametrize("key", SHIPPED)
def test_a_card_states_its_figures_and_the_weights_fit_the_limits(key):
    entry, card = CATALOG[key], CATALOG[key].card()
    assert card["key"] == key
    assert card["figures"]["n"] == 2000
    assert card["commands"][0].startswith(f"python -m model_zoo train --recipe {key.removesuffix('-seed1')} --seed ")
    assert all(config["seed"] < 2**32 for config in card["configs"])
    assert (entry.folder / "model.safetensors").stat().st_size < 8 * 2**20
    assert "Limits" in (entry.folder / "README.md").read_text(encoding="utf-8")
    for step in card["snapshots"]:
        assert (entry.folder / "snapshots" / f"step-{step:05d}.safetensors").is_file()
    for name in ("linear", "knn", "iou"):
        if name in card["figures"]:
            assert f"{card['figures'][name]:.3f}" in (entry.folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", SHIPPED)
def test_a_cards_commands_run_the_recipes_that_are_here(key):
    card = CATALOG[key].card()
    assert len(card["commands"]) == len(card["configs"])
    for command, config in zip(card["commands"], card["configs"], strict=True):
        words = command.split()
        recipe = RECIPES[words[words.index("--recipe") + 1]]
        assert replace(TrainConfig.from_json(config), seed=recipe.seed) == recipe
        assert words[words.index("--seed") + 1] == str(config["seed"])


def test_the_shipped_weights_together_stay_below_30_mb():
    assert sum((CATALOG[key].folder / "model.safetensors").stat().st_size for key in SHIPPED) < 30 * 10**6


def test_the_shipped_weights_and_snapshots_together_stay_below_45_mib():
    files = [path for key in SHIPPED for path in CATALOG[key].folder.rglob("*.safetensors")]
    assert sum(path.stat().st_size for path in files) < 45 * 2**20


def test_a_cards_figures_are_found_again():
    """Top-1 and IoU of a card on the first 300 of its 2,000 scenes, within four standard errors of such a sample."""
    key, n = "scenes-vit-supervised", 300
    figures = CATALOG[key].card()["figures"]
    measured = evaluate_scenes(load(key, device="cpu"), n, bank_size=400)
    for name in ("top1", "iou"):
        found, stated = getattr(measured, name), figures[name]
        deviation = math.sqrt(stated * (1 - stated))  # the largest that a figure in [0, 1] with this mean can have
        assert abs(found - stated) <= 4 * deviation * math.sqrt(1 / n - 1 / 2000)
    assert measured.top5 > measured.top1
    assert measured.linear > 0.3


def test_shape_bias_of_a_linear_probe_lies_between_0_and_1_and_counts_add_up():
    adapter = load("timm:scenes_vit@random:0", device="cpu")
    measured = evaluate_scenes(adapter, 60, bank_size=120)
    assert 0 <= measured.shape_decided + measured.surface_decided <= 60
    assert measured.shape_bias == measured.shape_decided / (measured.shape_decided + measured.surface_decided)
    assert measured.features == "cls"


def test_a_folder_by_class_is_measured(tmp_path, capsys):
    scenes = Scenes(size=112)
    batch = scenes.batch(range(60))
    for row in range(60):
        folder = tmp_path / f"{['disc', 'ring', 'square'][row % 3]}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(batch.images[row].permute(1, 2, 0).numpy()).save(folder / f"{row}.png")
    arguments = ["--model", "timm:scenes_vit@random:0", "--images", str(tmp_path), "--device", "cpu", "--json"]
    assert main(["evaluate", *arguments]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["n"] == 60
    assert 0 <= figures["top1"] <= figures["top5"] <= 1
    assert figures["bank"] == 30
    assert figures["iou"] is None


def test_labels_come_from_a_table_or_the_folders(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    images = sources([tmp_path])
    table = tmp_path / "labels.csv"
    table.write_text("b.png,ring\na.png,disc\n", encoding="utf-8")
    assert read_labels(images, table) == ["disc", "ring"]
    table.write_text("b.png,ring\n", encoding="utf-8")
    with pytest.raises(ImageError, match=r"a\.png"):
        read_labels(images, table)
    with pytest.raises(ImageError, match="one folder per class"):
        read_labels(images, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "timm:scenes_vit@random:0", "--images", "scenes:0"], "scenes:"),
        (["--model", "timm:scenes_vit@random:0", "--images", "/nowhere"], "neither an image file nor a folder"),
        (["--model", "no-such-model", "--images", "scenes:4"], "no-such-model"),
        (["--model", "timm:scenes_vit@random:0", "--images", "scenes:4", "--labels", "x.csv"], "leave out --labels"),
        (["--model", "timm:scenes_vit@random:0", "--images", "{pictures}", "--finetune"], "scenes:N, or leave out"),
        (["--model", "timm:scenes_vit@random:0"], "--images is missing"),
        (["--images", "{pictures}"], "--model is missing"),
        (["--images", "scenes:x"], "'scenes:x' is not understood"),
        (["--finetune"], "--finetune belongs to one model"),
        (["--batch-size", "10"], "--batch-size belongs to one model"),
        (["--images", "scenes:4", "--out", "{pictures}/a.json"], "--out belongs to one model"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments, said, capsys, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    assert main(["evaluate", *(word.format(pictures=tmp_path) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_without_a_model_every_figure_of_every_card_stands_beside_its_own(monkeypatch, capsys):
    monkeypatch.setattr(cards, "shipped", lambda: ["scenes-resnet"])
    assert main(["evaluate", "--images", "scenes:60"]) == 0
    title, *lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert title == ["model", "figure", "card", "now"]
    card = CATALOG["scenes-resnet"].card()["figures"]
    rows = {name: (said, now) for _, name, said, now in lines}
    assert list(rows) == list(card)
    assert rows["features"] == (card["features"],) * 2
    assert rows["n"] == ("2000", "60")
    assert float(rows["linear"][0]) == pytest.approx(card["linear"], abs=1e-4)
    assert float(rows["linear"][1]) > 0.9


def test_all_shipped_models_have_a_card():
    assert cards.shipped() == [key for key, entry in CATALOG.items() if entry.weights == "shipped"]


def test_scenes_reach_the_model_as_its_own_transform_brings_them():
    adapter = load("timm:scenes_vit@random:0", device="cpu")
    (batched,) = (shown.batch for shown in _scenes(adapter, Scenes(), 6))
    singly = torch.stack([adapter.preprocess(Scenes().image(i)) for i in range(6)])
    assert torch.equal(batched.inputs, singly)
    assert all((mask() == Scenes().mask(i)).all() for i, mask in enumerate(batched.masks))


@pytest.fixture
def beit():
    """A small BEiT whose position bias decides where its heads look."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("beit_base_patch16_224", depth=2, embed_dim=192, num_heads=3, img_size=64)
        for block in network.blocks:
            block.attn.relative_position_bias_table.detach().normal_(std=4)
    return Adapter(network, image_size=64)


def test_iou_is_the_probes_with_the_bias_that_the_model_adds(beit):
    measured = evaluate_scenes(beit, 12, bank_size=40)
    scored = run({"m": beit}, sources(["scenes:12"]), {"s": SaliencyScore(steps=0)})["s"]["m"]
    assert measured.iou == pytest.approx(float(scored["iou"][:, measured.head].mean()), rel=1e-6)
    for block in beit.module.blocks:
        block.attn.relative_position_bias_table.zero_()
    assert abs(evaluate_scenes(beit, 12, bank_size=40).iou - measured.iou) > 1e-3


def small_images(count):
    pictures = np.random.default_rng(0).integers(0, 256, (count, 40, 40, 3), dtype=np.uint8)
    return [
        ImageSource(f"{i // 2 % 2}/{i}.png", partial(Image.fromarray, picture)) for i, picture in enumerate(pictures)
    ]


def test_images_are_opened_batch_by_batch(beit):
    opened, waiting = 0, []
    images = small_images(3 * BATCH + 5)

    def open_image(source):
        nonlocal opened
        opened += 1
        return source.open()

    beit.module.patch_embed.register_forward_hook(lambda *_: waiting.append(opened))
    counted = [ImageSource(source.name, partial(open_image, source)) for source in images]
    settings = Settings(batch_size=BATCH, workers=0)
    measured = evaluate_images(beit, counted, [source.name[0] for source in images], settings)
    assert measured.n == 3 * BATCH + 5
    assert waiting == [BATCH, 2 * BATCH, 3 * BATCH, 3 * BATCH + 5]


def test_unreadable_images_are_left_out_of_the_figures(beit):
    images = small_images(40)
    names = [source.name[0] for source in images]
    expected = evaluate_images(beit, images, names)

    def fail():
        raise ImageError("no image")

    broken = [ImageSource(f"broken-{i}", fail) for i in range(2)]
    measured = evaluate_images(
        beit, [broken[0], *images[:9], broken[1], *images[9:]], ["0", *names[:9], "1", *names[9:]]
    )
    assert measured == replace(expected, unreadable=["broken-0", "broken-1"])
    with pytest.raises(ImageError, match="None of the 2 images"):
        evaluate_images(beit, broken, ["0", "1"])


def test_a_damaged_file_is_said_and_strict_refuses_it(tmp_path, capsys):
    for label in ("disc", "ring"):
        (tmp_path / label).mkdir()
        for i in range(4):
            Scenes().image(i).save(tmp_path / label / f"{i}.png")
    (tmp_path / "ring" / "bad.png").write_bytes(b"no image")
    arguments = [
        "evaluate",
        "--model",
        "timm:scenes_vit@random:0",
        "--images",
        str(tmp_path),
        "--device",
        "cpu",
        "--json",
    ]
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["n"] == 8
    assert json.loads(output.out)["unreadable"] == ["ring/bad.png"]
    assert "1 of 9 images cannot be read: ring/bad.png." in output.err
    assert main([*arguments, "--strict"]) == 2
    assert "1 of 9 images cannot be read" in capsys.readouterr().err


def test_training_watches_the_same_overlap_as_the_probe_measures():
    adapter = load("timm:scenes_vit@random:0", device="cpu")
    scenes = Scenes(size=112)
    drawn = scenes.batch(range(6))
    images = [ImageSource(str(k), partial(scenes.image, k), partial(scenes.mask, k)) for k in range(6)]
    measured = run({"m": adapter}, images, {"s": SaliencyScore(steps=0)}, dtype="float32")["s"]["m"]["iou"]
    watched = head_iou(adapter.module, (drawn.images.float() / 255 - 0.5) / 0.25, drawn.masks)
    np.testing.assert_allclose(watched.numpy(), measured.values, atol=1e-6)
