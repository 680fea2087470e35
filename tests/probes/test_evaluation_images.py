"""Evaluation on folders of images: figures found again on one's own, in little memory, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.data import ImageNetInfo, create_transform, resolve_data_config

import model_zoo.loading
from model_zoo.__main__ import main
from model_zoo.adapter import Adapter
from model_zoo.decoding import ImageError
from model_zoo.images import ImageSource, sources
from model_zoo.labels import LabelError
from model_zoo.reference import parse
from probes.core.evaluation import command
from probes.core.evaluation import images as evaluation
from probes.core.evaluation.classes import read_labels
from probes.core.evaluation.images import Labelled, Settings, evaluate_images

ROOT = Path(__file__).parents[2]
MODEL = "timm:vit_tiny_patch16_224@random:0"
COUNT = 12


def network(width: int = 192) -> torch.nn.Module:
    """A small one with ImageNet's 1,000 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=width, num_heads=3).eval()


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SHARD", 16)
    monkeypatch.setattr(evaluation, "QUERIES", 32)


def noise(count: int, classes: int = 3) -> tuple[list[ImageSource], list[str]]:
    """Images whose class is their mean colour, more or less."""
    random = np.random.default_rng(0)
    names = [str(random.integers(classes)) for _ in range(count)]
    pixels = [random.normal(110 + 12 * int(name), 60, (32, 32, 3)).clip(0, 255).astype(np.uint8) for name in names]
    return [ImageSource(f"{i}.png", partial(Image.fromarray, p)) for i, p in enumerate(pixels)], names


@pytest.fixture(scope="module")
def answered() -> tuple[list[Image.Image], list[list[int]]]:
    """Pictures, and the first ten answers of timm's own model under timm's own transform."""
    random = np.random.default_rng(1)
    pictures = [Image.fromarray(random.integers(0, 256, (50, 70, 3), dtype=np.uint8)) for _ in range(COUNT)]
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224").eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    with torch.inference_mode():
        logits = model(torch.stack([transform(picture) for picture in pictures]))
    return pictures, logits.topk(10).indices.tolist()


@pytest.fixture(scope="module")
def truths(answered) -> list[int]:
    """Classes of the pictures: the first answer to five of them, the third to three, none of the first five to four."""
    return [answers[0 if i < 5 else 2 if i < 8 else 9] for i, answers in enumerate(answered[1])]


@pytest.fixture(scope="module")
def by_class(answered, truths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a class, named by its WordNet id."""
    folder = tmp_path_factory.mktemp("imagenet")
    ids = ImageNetInfo("imagenet-1k").label_names()
    for i, (picture, truth) in enumerate(zip(answered[0], truths, strict=True)):
        (folder / ids[truth]).mkdir(exist_ok=True)
        picture.save(folder / ids[truth] / f"{i:02d}.png")
    return folder


def evaluate(images: Path, *more: object) -> list[str]:
    words = ["--model", MODEL, "--images", images, "--device", "cpu", "--workers", "0", "--figures", "top1", "--json"]
    return ["evaluate", *map(str, (*words, *more))]


def measured(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict[str, Any]:
    assert main(words) == 0
    return json.loads(capsys.readouterr().out)


def test_folders_by_wordnet_id_give_the_accuracy_of_timms_own_model(by_class: Path, capsys) -> None:
    figures = measured(capsys, evaluate(by_class))
    assert (figures["n"], figures["top1"], figures["top5"]) == (COUNT, 5 / COUNT, 8 / COUNT)
    assert figures["reported"] is None
    assert figures["knn"] is None


@pytest.mark.parametrize("form", ["kaggle", "numbers"])
def test_a_flat_folder_with_a_table_gives_the_same(form: str, answered, truths, tmp_path: Path, capsys) -> None:
    ids = ImageNetInfo("imagenet-1k").label_names()
    for i, picture in enumerate(answered[0]):
        picture.save(tmp_path / f"val_{i:08d}.png")
    (tmp_path / "val_broken.png").write_bytes(b"no image")
    lines = {
        "kaggle": ["ImageId,PredictionString", *(f"val_{i:08d},{ids[t]} 85 1 499 272 " for i, t in enumerate(truths))],
        "numbers": [f"val_{i:08d}.png {t}" for i, t in enumerate(truths)],
    }[form]
    table = tmp_path / "labels.txt"
    table.write_text("\n".join([*lines, f"val_broken.png,{ids[0] if form == 'kaggle' else 0}"]), encoding="utf-8")
    figures = measured(capsys, evaluate(tmp_path, "--labels", table))
    assert (figures["n"], figures["top1"], figures["top5"]) == (COUNT, 5 / COUNT, 8 / COUNT)
    assert figures["unreadable"] == ["val_broken.png"]


def test_a_table_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("a.png,1\na.png,2\n")
    with pytest.raises(ImageError, match=r"one class for a\.png, and has '1' and '2'"):
        read_labels(sources([tmp_path]), tmp_path / "labels.csv")


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("neighbours", [10, 20])
def test_knn_and_linear_probe_are_those_of_the_whole_in_memory(neighbours: int) -> None:
    module = network()
    images, names = noise(120)
    settings = Settings(("knn", "linear"), neighbours=neighbours, workers=0)
    figures = evaluate_images(Adapter(module, image_size=32), images, names, settings)

    inputs = torch.stack([Adapter(module, image_size=32).preprocess(image.open()) for image in images])
    with torch.inference_mode():
        features = module.forward_features(inputs)[:, 0].double().numpy()
    labels = np.array(list(map(int, names)))
    rank = np.array([(labels[:i] == labels[i]).sum() for i in range(120)])
    first = rank % 2 == 0
    bank, known, queries, wanted = features[first], labels[first], features[~first], labels[~first]
    cosine = np.einsum("qd,bd->qb", *(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, bank)))
    votes = np.zeros((len(queries), 3))
    for row in range(len(queries)):
        for place in np.argsort(-cosine[row])[:neighbours]:
            votes[row, known[place]] += np.exp(cosine[row, place] / 0.07)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(bank, known)
    assert figures.knn == pytest.approx((votes.argmax(1) == wanted).mean(), abs=1e-6)
    assert figures.linear == pytest.approx(linear.score(queries, wanted), abs=1e-6)
    assert 0.4 < figures.linear < 1, "neither trivial nor by chance"
    assert (figures.n, figures.bank, figures.top1) == (120, len(bank), None)


@pytest.mark.usefixtures("small_shards")
def test_classes_that_alternate_are_all_in_the_bank() -> None:
    """Every second image of a folder in which two classes take turns is of one class."""
    images, names = noise(48, classes=2)
    turns = [
        place
        for pair in zip(*(np.flatnonzero(np.array(names) == one)[:16] for one in "01"), strict=True)
        for place in pair
    ]
    settings = Settings(("knn", "linear"), workers=0)
    figures = evaluate_images(
        Adapter(network(), image_size=32), [images[i] for i in turns], [names[i] for i in turns], settings
    )
    assert figures.bank == 16
    assert figures.knn > 0.5
    assert figures.linear > 0.5


@pytest.mark.usefixtures("small_shards")
def test_a_bank_of_its_own_leaves_all_images_to_be_measured() -> None:
    adapter = Adapter(network(), image_size=32)
    images, names = noise(60)
    ids = ImageNetInfo("imagenet-1k").label_names()
    bank = Labelled([ImageSource(f"bank-{i.name}", i.open) for i in images], [ids[int(name)] for name in names])
    figures = evaluate_images(adapter, images[:20], names[:20], Settings(bank=bank, neighbours=1, workers=0))
    assert (figures.n, figures.bank, figures.knn) == (20, 60, 1.0), "each image finds itself"
    few = Labelled(bank.images[:1], bank.names[:1])
    with pytest.raises(ImageError, match="The bank has no image of 2 classes"):
        evaluate_images(adapter, images[:20], names[:20], Settings(bank=few, workers=0))


@pytest.mark.usefixtures("small_shards")
def test_memory_does_not_grow_with_the_images() -> None:
    adapter, width = Adapter(network(768), image_size=32), 768
    _ = adapter.spec, adapter.digest
    picture = Image.new("RGB", (32, 32))

    def peak(count: int) -> int:
        images = [ImageSource(f"{i}.png", lambda: picture) for i in range(count)]
        names = [str(i % 2) for i in range(count)]
        tracemalloc.start()
        evaluate_images(adapter, images, names, Settings(("top1", "knn"), workers=0))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(32)  # what is made once
    few, many = 64, 384
    assert peak(many) - peak(few) < 0.25 * 4 * width * (many - few)


KILLED = """
import os, signal, sys
from model_zoo.__main__ import main
from probes.core.evaluation import images
from probes.core.runs import folder
images.SHARD = 4
write = folder.RunFolder.write
def dies(self, name, how):
    if len(list(self.path.glob("*.npz"))) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, name, how)
folder.RunFolder.write = dies
main(sys.argv[1:])
"""


def test_a_killed_evaluation_goes_on_and_a_finished_one_is_not_measured_again(
    by_class: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(evaluation, "SHARD", 4)
    out = tmp_path / "out.json"
    words = evaluate(by_class, "--out", out, "--resume")
    died = subprocess.run([sys.executable, "-c", KILLED, *words], cwd=ROOT, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    assert not out.exists()

    others = [word.replace("random:0", "random:1") for word in words]
    assert main(others) == 2
    assert "the model changed" in capsys.readouterr().err
    assert main(words) == 0
    resumed = capsys.readouterr()
    assert f"8 of {COUNT} images are there already" in resumed.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]
    assert json.loads(out.read_text())["figures"] == json.loads(resumed.out)

    unbroken = tmp_path / "unbroken.json"
    assert measured(capsys, evaluate(by_class, "--out", unbroken)) == json.loads(resumed.out)

    with monkeypatch.context() as patch:
        patch.setattr(model_zoo.loading, "load", lambda *_, **__: pytest.fail("it is measured again"))
        assert measured(capsys, words) == json.loads(resumed.out)
    first = next(by_class.rglob("*.png"))
    os.utime(first, (1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(model_zoo.loading, "load", lambda *_, **__: pytest.fail("it is measured anew"))
        with pytest.raises(pytest.fail.Exception, match="anew"):
            main(words)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "2 of the 2 classes are none of the model's: 'cat', 'dog'. Its 1000 classes are written as WordNet ids"),
        (
            ["--classes", "{folder}/few.txt"],
            "should have a line for each of the model's 1000 outputs, in order; it has 2",
        ),
        (["--resume"], "give --out FILE.json"),
        (["--out", "{folder}"], "is there already and no evaluation"),
        (["--out", "{folder}/few.txt"], "is there already and no evaluation"),
        (["--out", "{folder}/nowhere/out.json"], "cannot be written"),
        (["--bank", "{folder}/nowhere"], "neither an image file nor a folder"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_exit_code_2(
    more: list[str], said: str, tmp_path: Path, capsys
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16)).save(tmp_path / name / "a.png")
    (tmp_path / "few.txt").write_text("cat\ndog\n")
    assert main(evaluate(tmp_path, *(word.format(folder=tmp_path) for word in more))) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_classes_of_a_head_of_ones_own_are_named_in_a_file(tmp_path: Path) -> None:
    module = network()
    module.reset_classifier(2)
    adapter = Adapter(module, image_size=32)
    images, numbers = noise(8, classes=2)
    names = [("cat", "dog")[int(number)] for number in numbers]
    with pytest.raises(LabelError, match="numbers from 0 to 1"):
        evaluate_images(adapter, images, names, Settings(workers=0))
    assert evaluate_images(adapter, images, names, Settings(("knn", "linear"), workers=0)).knn is not None
    table = tmp_path / "classes.txt"
    table.write_text("cat\ndog\n")
    named = evaluate_images(adapter, images, names, Settings(("top1",), classes=table, workers=0))
    numbered = evaluate_images(adapter, images, numbers, Settings(("top1",), workers=0))
    assert named == numbered
    table.write_text("dog\ncat\n")
    turned = evaluate_images(adapter, images, names, Settings(("top1",), classes=table, workers=0))
    assert turned.top1 == 1 - named.top1
    module.reset_classifier(0)
    with pytest.raises(LabelError, match="no classifier"):
        evaluate_images(Adapter(module, image_size=32), images, names, Settings(("top1",), workers=0))


def test_the_published_accuracy_stands_beside_of_just_these_weights(capsys) -> None:
    module = timm.create_model("deit_tiny_patch16_224.fb_in1k", depth=1)
    figures = {"top1": 0.7, "reported": vars(command._reported(Adapter(module, parse("deit-t16"))))}
    command._show(figures)
    assert "0.7000 (reported 0.7217 on ImageNet-1k's validation images at 224 px, timm's" in capsys.readouterr().out
    assert command._reported(Adapter(module, parse("timm:deit_tiny_patch16_224@random:0"))) is None
    command._show({"top1": 0.7, "reported": None})
    assert "0.7000 (not reported)" in capsys.readouterr().out
