"""What a result stands on: whatever changed before, during or after a run is seen, and no number is another's."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from safetensors.torch import save_file

import model_zoo.loading
from model_zoo.adapter import Adapter
from model_zoo.loading import load
from model_zoo.reference import parse_all
from probes.core.cluster import ClusterError
from probes.core.command import main
from probes.core.runs import engine, folder, identity, in_turn, measure
from probes.core.runs.ray_worker import Worker
from tests.fuzz import kills
from tests.probes.families import peaked
from tests.probes.runs.breaking import broken_off

COUNT = 40
WEIGHTS = "w=timm:vit_tiny_patch16_224@"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kills.pictures(tmp_path_factory.mktemp("few") / "images", COUNT)


@pytest.fixture(scope="module")
def states() -> list[dict]:
    return [load(f"{kills.MODEL}:{seed}").module.state_dict() for seed in (5, 6)]


def asked(images: Path, out: Path, *more: object, probe: str = "attention-maps") -> list[str]:
    words = ["run", "--images", images, "--probe", probe, "--out", out, "--image-size", "32x32", "--device", "cpu"]
    return [*map(str, words), "--dtype", "float32", "--workers", "0", *map(str, more)]


def numbers(out: Path, group: str = "attention-maps/w", name: str = "attention") -> np.ndarray:
    return xr.open_zarr(out, group=group)[name].values


def test_a_link_that_points_to_another_checkpoint_is_another_model(few, states, tmp_path, capsys) -> None:
    for name, state in zip("ab", states, strict=True):
        save_file(state, tmp_path / f"{name}.safetensors")
    latest, out = tmp_path / "latest.safetensors", tmp_path / "out.zarr"
    latest.symlink_to("a.safetensors")
    words = asked(few, out, "--model", f"{WEIGHTS}{latest}")
    assert main(words) == 0
    first = numbers(out)
    latest.unlink()
    latest.symlink_to("b.safetensors")
    assert main(words) == 0
    assert "holds this already" not in capsys.readouterr().err
    assert not np.array_equal(numbers(out), first)


def test_weights_that_are_overwritten_after_they_were_read_answer_nothing(
    few, states, tmp_path, monkeypatch, capsys
) -> None:
    weights, out = tmp_path / "w.safetensors", tmp_path / "out.zarr"
    save_file(states[0], weights)
    words = asked(few, out, "--model", f"{WEIGHTS}{weights}")
    measuring = measure.Measurement.shards

    def overwritten(self, *arguments):
        save_file(states[1], weights)
        yield from measuring(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(measure.Measurement, "shards", overwritten)
        assert main(words) == 0
    first = numbers(out)
    assert main(words) == 0
    assert "holds this already" not in capsys.readouterr().err
    assert not np.array_equal(numbers(out), first)


def test_weights_that_are_overwritten_while_they_are_read_are_refused(
    few, states, tmp_path, monkeypatch, capsys
) -> None:
    weights = tmp_path / "w.safetensors"
    save_file(states[0], weights)
    reading = model_zoo.loading.load

    def overwritten(*arguments, **named):
        save_file(states[1], weights)
        return reading(*arguments, **named)

    monkeypatch.setattr(model_zoo.loading, "load", overwritten)
    assert main(asked(few, tmp_path / "out.zarr", "--model", f"{WEIGHTS}{weights}")) == 2
    assert "w.safetensors changed while it was read" in capsys.readouterr().err
    assert not (tmp_path / "out.zarr").exists()


def test_weights_that_may_not_be_read_are_a_sentence(few, states, tmp_path, monkeypatch, capsys) -> None:
    weights, opened = tmp_path / "w.safetensors", Path.open
    save_file(states[0], weights)

    def refuse(self, *arguments, **named):
        if self == weights:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)
    assert main(asked(few, tmp_path / "out.zarr", "--model", f"{WEIGHTS}{weights}")) == 2
    assert capsys.readouterr().err.endswith("w.safetensors cannot be read: Permission denied.\n")


@pytest.mark.parametrize("when", ["broken off", "under way"])
def test_the_image_to_be_similar_to_is_one_for_all_images(few, when, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(measure, "SMALLEST", 16)
    of, out = tmp_path / "of.png", tmp_path / "out.zarr"
    Image.new("RGB", (40, 40), "red").save(of)
    words = asked(few, out, "--model", f"a={kills.MODEL}:0", probe="attention-relevance")
    words += ["--param", "attention-relevance.target=similarity", "--param", f"attention-relevance.of={of}"]
    if when == "broken off":
        broken_off(words, monkeypatch)
        Image.new("RGB", (40, 40), "blue").save(of)
        assert main([*words, "--resume"]) == 2
        assert "of.png is not what was measured" in capsys.readouterr().err
        Image.new("RGB", (40, 40), "red").save(of)
        assert main([*words, "--resume"]) == 0
        return
    written = folder.RunFolder.write

    def write(self, name, how) -> None:
        written(self, name, how)
        if name == "0-000000.npz":
            Image.new("RGB", (40, 40), "blue").save(of)

    monkeypatch.setattr(folder.RunFolder, "write", write)
    assert main(words) == 2
    assert "of.png changed while the run was under way" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("first", ["together", "in turn"])
def test_a_run_goes_on_where_another_amount_of_memory_is_free(few, first, tmp_path, monkeypatch) -> None:
    """Which models are in memory together is decided once, as a shard is of all of them."""
    words = kills.arguments(few, tmp_path / "out.zarr", "attention-maps")
    room = {"together": 1e12, "in turn": 1.0}
    other = next(way for way in room if way != first)
    monkeypatch.setattr(in_turn, "room", lambda device: room[first])
    broken_off(words, monkeypatch)
    monkeypatch.setattr(in_turn, "room", lambda device: room[other])
    assert main([*words, "--resume"]) == 0
    document = json.loads((tmp_path / "out.zarr" / "manifest.json").read_text())
    assert document["resumed_after"] > 0
    assert list(document["models"]) == ["a", "b"]


def test_models_are_let_go_before_the_next_are_loaded(few, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(in_turn, "room", lambda device: 1.0)
    reading, here, held = model_zoo.loading.load, [], []
    made = engine.Here.__init__
    monkeypatch.setattr(engine.Here, "__init__", lambda self, *a, **n: (made(self, *a, **n), here.append(self))[0])

    def loading(reference, **named):
        held.append(len(here[0].models))
        return reading(reference, **named)

    monkeypatch.setattr(model_zoo.loading, "load", loading)
    assert main(kills.arguments(few, tmp_path / "out.zarr", "attention-maps")) == 0
    assert held == [0, 0]


def test_a_result_that_lost_a_chunk_is_measured_again_and_not_shown(few, tmp_path, capsys) -> None:
    out = tmp_path / "out.zarr"
    words = asked(few, out, "--model", f"w={kills.MODEL}:0")
    assert main(words) == 0
    before = numbers(out)
    chunk = next(path for path in (out / "attention-maps" / "w" / "attention").iterdir() if path.name[0] != ".")
    chunk.unlink()
    for command in (["show", str(out)], ["export", str(out), "--csv", str(tmp_path / "x.csv")]):
        assert main(command) == 2
        assert "out.zarr lost a part of attention-maps/w/attention" in capsys.readouterr().err
    assert main(words) == 0
    assert "holds this already" not in capsys.readouterr().err
    assert np.array_equal(numbers(out), before)


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: {"format": 1},
        lambda document: document | {"images": 3},
        lambda document: document | {"images": ["a"]},
        lambda document: document | {"undefined": [["attention-maps", "w", 3]]},
        lambda document: document | {"files": [{"file": {"path": "/x"}}]},
        lambda document: document | {"models": {"w": 3}},
        lambda document: {name: value for name, value in document.items() if name != "undefined"},
        lambda document: "[" * 100_000,
    ],
    ids=["only a format", "images", "an image", "undefined", "files", "models", "nothing undefined", "deep"],
)
def test_a_broken_manifest_answers_nothing_and_is_a_sentence(few, damage, tmp_path, capsys) -> None:
    out = tmp_path / "out.zarr"
    words = asked(few, out, "--model", f"w={kills.MODEL}:0", "--limit", "2")
    assert main(words) == 0
    path = out / "manifest.json"
    broken = damage(json.loads(path.read_text()))
    path.write_text(broken if isinstance(broken, str) else json.dumps(broken))
    capsys.readouterr()
    shown = main(["show", str(out)])
    said = capsys.readouterr()
    assert (shown, said.err.count("\n")) in ((0, 0), (2, 1)), "numbers without a word on them, or why not"
    assert main(words) == 0
    assert "holds this already" not in capsys.readouterr().err
    assert main(["show", str(out)]) == 0


def test_a_folder_among_the_shards_is_in_nobodys_way(few, tmp_path, monkeypatch) -> None:
    words = kills.arguments(few, tmp_path / "out.zarr", "attention-maps")
    broken_off(words, monkeypatch)
    (tmp_path / ".out.zarr.run" / "@eaDir").mkdir()
    assert main(words) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_a_run_whose_folder_was_removed_writes_nothing_into_the_next_ones(tmp_path) -> None:
    out = tmp_path / "out.zarr"
    with folder.claimed(out) as first:
        shutil.rmtree(first.path)
        with folder.claimed(out) as second:
            second.write_json("mine.json", 2)
            with pytest.raises(folder.OutputError, match="cannot be written"):
                first.write_json("mine.json", 1)
            first.remove()
            assert second.read_json("mine.json") == 2


def test_hessians_of_minibatches_are_those_of_one_long_run(tmp_path, monkeypatch) -> None:
    """Six images in shards of at least four: with mini-batches of three no mini-batch may lie in two shards."""
    monkeypatch.setattr(measure, "SMALLEST", 4)
    words = ["run", "--model", "a=scenes-vit-supervised", "--images", "scenes:6", "--probe", "hessian-spectrum"]
    words += ["--param", "hessian-spectrum.batch=3", "--param", "hessian-spectrum.products=2", "--batch-size", "2"]
    assert main([*words, "--device", "cpu", "--out", str(tmp_path / "out.zarr")]) == 0
    found = xr.open_zarr(tmp_path / "out.zarr", group="hessian-spectrum/a")
    assert (found.attrs["n"], found.sizes["batch"]) == (6, 2)


def test_a_decoder_is_part_of_a_model() -> None:
    with_one = peaked("vit_tiny_patch16_224")
    assert with_one.decoder is not None
    assert Adapter(with_one.module, image_size=(64, 96)).digest != with_one.digest
    reference = parse_all(["scenes-vit-mae"])[0]
    assert [path.name for path in model_zoo.loading.weight_files(reference)][1:] == ["decoder.safetensors"]


@pytest.mark.parametrize("name", ["code", "timm"])
def test_a_worker_with_another_version_is_refused(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # and back, as a worker changes to its home
    program = identity.program(["attention-maps"]) | {name: "another"}
    worker = Worker(tmp_path, "cpu", 1, torch.get_num_threads())
    with pytest.raises(ClusterError, match="another version of " + ("this program" if name == "code" else "timm")):
        worker.begin([], None, "float32", 1, ["attention-maps"], program)
