"""Evaluation: each figure on inputs whose answer is known, and a model card's figures measured again."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from model_zoo.__main__ import main
from model_zoo.adapter import Adapter
from model_zoo.catalog import CATALOG
from model_zoo.evaluation import evaluate_scenes, read_labels
from model_zoo.features import extract, fit_linear, head_iou, knn_top1, last_attention, mass_mask
from model_zoo.images import ImageError, sources
from model_zoo.loading import load
from model_zoo.scenes import Scenes
from model_zoo.training.config import TrainConfig
from model_zoo.training.recipes import RECIPES

SHIPPED = [key for key, entry in CATALOG.items() if entry.weights == "shipped"]


@pytest.mark.parametrize("key", SHIPPED)
def test_a_card_states_its_figures_and_the_weights_fit_the_limits(key):
    entry, card = CATALOG[key], CATALOG[key].card()
    assert card["key"] == key
    assert card["figures"]["n"] == 2000
    assert card["commands"][0].startswith(f"python -m model_zoo train --recipe {key} --seed ")
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


def test_knn_and_linear_probe_find_separated_classes_and_nothing_in_noise():
    torch.manual_seed(0)
    centres = torch.randn(5, 16) * 4
    labels = torch.arange(1000) % 5
    features = centres[labels] + torch.randn(1000, 16)
    assert knn_top1(features[:600], labels[:600], features[600:], labels[600:]) > 0.98
    assert (torch.from_numpy(fit_linear(features[:600], labels[:600])(features[600:])) == labels[600:]).all()
    noise = torch.randn(1000, 16)
    assert abs(knn_top1(noise[:600], labels[:600], noise[600:], labels[600:]) - 0.2) < 0.1


def test_knn_is_a_weighted_vote_by_cosine():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    labels = torch.tensor([0, 1, 1])
    near_first = torch.tensor([[5.0, 0.5]])
    assert knn_top1(bank, labels, near_first, torch.tensor([0]), k=3) == 1.0  # two far votes for 1 weigh less
    assert knn_top1(bank, labels, torch.tensor([[0.5, 5.0]]), torch.tensor([1]), k=3) == 1.0


def test_mass_mask_is_the_smallest_set_that_reaches_tau():
    torch.manual_seed(0)
    attention = torch.rand(50, 49).softmax(-1)
    mask = mass_mask(attention, 0.6)
    mass = (attention * mask).sum(-1)
    assert (mass >= 0.6 - 1e-6).all()
    smallest = torch.where(mask, attention, math.inf).min(-1).values
    assert (mass - smallest < 0.6).all()
    assert (torch.where(mask, -math.inf, attention).max(-1).values <= smallest).all()


@pytest.mark.parametrize(
    ("name", "prefix"), [("scenes_vit", 1), ("scenes_deit_distilled", 2), ("vit_tiny_patch16_224", 1)]
)
def test_last_attention_is_the_rows_that_the_model_computes(name, prefix):
    """Against timm's own unfused attention, whose softmax can be read at the input of its dropout."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, img_size=64).eval()
    images = torch.randn(2, 3, 64, 64)
    rows = last_attention(model, images)
    attention = model.blocks[-1].attn
    attention.fused_attn = False
    seen = []
    attention.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        model(images)
    wanted = seen[0][:, :, 0, prefix:]
    assert torch.allclose(rows, wanted / wanted.sum(-1, keepdim=True), atol=1e-5)


class _Pointing(nn.Module):
    """A stand-in for the last block: attention on the bright half of the image, exactly."""

    num_prefix_tokens = 0
    cls_token = None

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Identity()
        self.patch_embed.patch_size = (8, 8)

    def forward_features(self, images):
        bright = nn.functional.avg_pool2d(images[:, :1], 8).flatten(2).transpose(1, 2)
        key = bright * 50
        return nn.functional.scaled_dot_product_attention(torch.ones_like(key)[:, None], key[:, None], key[:, None])[
            :, 0
        ]


def test_head_iou_of_attention_on_the_object_and_off_it():
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[:, :, :16] = True
    images = masks[:, None].float().expand(-1, 3, -1, -1)
    on, off = head_iou(_Pointing(), images, masks), head_iou(_Pointing(), 1 - images, masks)
    assert on.shape == (2, 1)
    assert (on > 0.6).all()  # tau of the mass, all of it inside
    assert (off == 0).all()


def test_features_of_every_kind_of_network():
    images = torch.randn(3, 3, 112, 112)
    for name, kinds in (("scenes_vit", {"cls", "mean"}), ("scenes_resnet", {"mean"})):
        model = timm.create_model(name).eval()
        code = extract(model, images, batch_size=2)
        assert code.keys() == kinds
        with torch.no_grad():
            wanted = model.forward_head(model.forward_features(images), pre_logits=True)
        assert torch.allclose(code["cls" if "cls" in kinds else "mean"], wanted, atol=1e-5)


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
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments, said, capsys):
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_scenes_reach_the_model_as_its_own_transform_would_bring_them():
    """The batched resize of scenes against the adapter's transform of the same pictures."""
    from model_zoo.evaluation import _scenes

    adapter = load("timm:scenes_vit@random:0", device="cpu")
    assert isinstance(adapter, Adapter)
    batched = _scenes(adapter, Scenes(), 6).images
    singly = torch.stack([adapter.preprocess(Scenes().image(i)) for i in range(6)])
    assert np.abs((batched - singly).numpy()).max() < 1.5 / 255 / 0.25
