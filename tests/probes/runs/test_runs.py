"""Runs over many images: killed and resumed, in little memory, one at a time, and never a wrong number."""

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import probes
from model_zoo.images import sources
from model_zoo.loading import load
from probes.core.command import main
from probes.core.runner import run
from probes.core.runs import export, folder, manifest, measure, stored
from tests.fuzz import kills
from tests.probes.runs.breaking import COUNT, broken_off

ROOT = Path(__file__).parents[3]


def names(place: Path) -> list[str]:
    return sorted(entry.name for entry in place.iterdir())


def test_resuming_measures_only_what_is_missing(
    images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    broken_off(kills.arguments(images, out), monkeypatch)
    assert "--resume" in capsys.readouterr().err
    assert names(tmp_path) == [".out.zarr.run"]
    assert main([*kills.arguments(images, out), "--resume"]) == 0
    assert "images are there already" in capsys.readouterr().err
    assert kills.same(out, unbroken)
    assert names(tmp_path) == ["out.zarr"]
    document = json.loads((out / "manifest.json").read_text())
    assert 32 <= document["resumed_after"] < COUNT
    assert sum("skipped" in entry for entry in document["images"]) > 2
    assert len(document["images"]) == COUNT


@pytest.mark.parametrize("name", [name for name in probes.available() if "batch" not in probes.load(name).reads])
def test_shards_are_the_unsplit_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every probe's states stored, read back and merged, against one state over all images."""
    monkeypatch.setattr(measure, "SMALLEST", 4)
    shards = "cka.minibatch=4" if name == "cka" else None
    pictures = kills.pictures(tmp_path / "images", 10)
    out = tmp_path / "out.zarr"
    words = [*kills.arguments(pictures, out, name), "--batch-size", "2", *(["--param", shards] if shards else [])]
    assert main(words) == 0
    models = {label: load(f"{kills.MODEL}:{i}", image_size=(32, 32)) for i, label in enumerate("ab")}
    probe = probes.load(name)(minibatch=4) if shards else probes.load(name)()
    expected = run(models, sources([pictures]), {name: probe}, dtype="float32", batch_size=2)[name]
    found = {group.partition("/")[2]: dataset for group, dataset in kills.groups(out)}
    assert found.keys() == expected.keys()
    for label, dataset in found.items():
        whole = expected[label]
        xr.testing.assert_allclose(dataset, whole, rtol=1e-6, atol=1e-7)
        assert {k: dataset.attrs[k] for k in whole.attrs} == {k: _plain(v) for k, v in whole.attrs.items()}


@pytest.mark.parametrize("name", [name for name in probes.available() if "batch" in probes.load(name).reads])
def test_shards_of_probes_with_passes_of_their_own(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SMALLEST", 2)
    out, model = tmp_path / "out.zarr", "timm:vit_tiny_patch16_224@random:0"
    words = ["run", "--model", f"a={model}", "--images", "scenes:4", "--probe", name, "--image-size", "32x32"]
    assert main([*words, "--dtype", "float32", "--batch-size", "1", "--out", str(out)]) == 0
    expected = run(
        {"a": load(model, image_size=(32, 32))}, sources(["scenes:4"]), {name: probes.load(name)()},
        dtype="float32", batch_size=1,
    )[name]["a"]  # fmt: skip
    xr.testing.assert_allclose(xr.open_zarr(out, group=f"{name}/a").load(), expected, rtol=1e-5, atol=1e-6)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def test_the_same_question_is_answered_without_measuring(
    unbroken: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probes.core.runs import command

    monkeypatch.setattr(command, "_run", lambda *_: pytest.fail("it is measured again"))
    assert main(kills.arguments(images, unbroken)) == 0
    error = capsys.readouterr().err
    assert "holds this already" in error
    assert "images cannot be read" in error


def test_an_answer_needs_no_torch(unbroken: Path, images: Path) -> None:
    code = (
        "import sys, time\nfrom probes.core.command import main\nbegan = time.process_time()\n"
        "assert main(sys.argv[1:]) == 0\nprint(time.process_time() - began, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *kills.arguments(images, unbroken)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, torch = done.stdout.split()
    assert torch == "False"
    assert float(seconds) < 0.5


@pytest.mark.parametrize("what", ["image", "name", "parameter", "strict"])
def test_another_question_is_no_answer(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, out = kills.pictures(tmp_path / "images", 6), tmp_path / "out.zarr"
    words = kills.arguments(pictures, out, "attention-maps")
    if what == "strict":
        (pictures / "broken.png").write_bytes(b"no image")
    assert main(words) == 0
    capsys.readouterr()
    before = xr.open_zarr(out, group="attention-maps/a").load()
    if what == "image":
        (pictures / "0001.png").write_bytes((pictures / "0002.png").read_bytes())
    elif what == "name":
        (pictures / "0001.png").rename(pictures / "0009.png")
    elif what == "parameter":
        words += ["--param", "attention-maps.query=mean"]
    else:
        assert main([*words, "--strict"]) == 2
        return
    assert main(words) == 0
    assert "holds this already" not in capsys.readouterr().err
    assert not before.identical(xr.open_zarr(out, group="attention-maps/a").load())


def test_files_that_were_only_touched_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, out = kills.pictures(tmp_path / "images", 3), tmp_path / "out.zarr"
    assert main(kills.arguments(pictures, out, "attention-maps")) == 0
    (pictures / "0001.png").touch()
    assert main(kills.arguments(pictures, out, "attention-maps")) == 0
    assert "holds this already" in capsys.readouterr().err


CHANGES = [
    ("image", "0003.png is not what was measured"),
    ("missing", f"there were {COUNT} images"),
    ("parameter", "--param was left out, not attention-maps.query=mean"),
    ("model", "--model was"),
    ("size", "--image-size was"),
    ("weights", "the weights of w are not those that were measured"),
]


@pytest.mark.parametrize(("what", "says"), CHANGES, ids=[what for what, _ in CHANGES])
def test_resuming_something_else_is_refused(
    what: str,
    says: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from safetensors.torch import save_file

    out, weights, mine = tmp_path / "out.zarr", tmp_path / "w.safetensors", tmp_path / "images"
    shutil.copytree(images, mine)
    (mine / "0003.png").write_bytes((images / "0004.png").read_bytes())
    state = load(f"{kills.MODEL}:5").module.state_dict()
    save_file(state, weights)
    words = kills.arguments(mine, out, "attention-maps")
    words += ["--model", f"w=timm:vit_tiny_patch16_224@{weights}"]
    broken_off(words, monkeypatch)
    kept = names(tmp_path / ".out.zarr.run")
    capsys.readouterr()
    if what == "image":
        Image.new("RGB", (40, 40)).save(mine / "0003.png")
    elif what == "missing":
        (mine / "0078.png").unlink()
    elif what == "parameter":
        words += ["--param", "attention-maps.query=mean"]
    elif what == "model":
        words += ["--model", f"c={kills.MODEL}:2"]
    elif what == "size":
        words[words.index("32x32")] = "32x48"
    else:
        state["head.bias"] = state["head.bias"] + 1
        save_file(state, weights)
    assert main([*words, "--resume"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert says in last
    assert not out.exists()
    assert names(tmp_path / ".out.zarr.run") == kept, "what was measured is kept"


def test_a_damaged_shard_is_measured_again(
    images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"
    broken_off(kills.arguments(images, out), monkeypatch, shards=2)
    shard = tmp_path / ".out.zarr.run" / "0-000001.npz"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert main([*kills.arguments(images, out), "--resume"]) == 0
    assert kills.same(out, unbroken)


def test_two_runs_on_one_out(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.zarr"
    with folder.claimed(out):
        for more in ([], ["--resume"]):
            assert main([*kills.arguments(images, out), *more]) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert f"is being written by another run (process {os.getpid()})" in error
        assert names(tmp_path) == [".out.zarr.run"]
    assert names(tmp_path) == []


@pytest.mark.parametrize("when", ["first shard", "second shard", "result"])
def test_a_full_disk(
    when: str,
    images: Path,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, synchronised, seen = tmp_path / "out.zarr", os.fsync, []

    def full(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(path.name)
        number = {"first shard": "0-000000", "second shard": "0-000001", "result": ".zattrs"}[when]
        if number in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synchronised(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(kills.arguments(images, out)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in error
    assert not out.exists()
    assert not list(tmp_path.glob(".out.zarr.run/.*")), "no half of a file is left"
    assert names(tmp_path) == ([] if when == "first shard" else [".out.zarr.run"])
    assert main([*kills.arguments(images, out), "--resume"]) == 0
    assert kills.same(out, unbroken)


def test_a_place_that_cannot_be_written_to(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(kills.arguments(images, tmp_path / "out.zarr")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be written: Permission denied" in error


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """Half a MB an image would be 175 MB more for 350 more of them."""
    pictures = kills.pictures(tmp_path / "images", 400)
    code = (
        "import resource, sys\nfrom probes.core.command import main\nassert main(sys.argv[1:]) == 0\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = {}
    for count in (50, 400):
        words = ["run", "--model", f"a={kills.MODEL}:0", "--images", str(pictures), "--limit", str(count)]
        words += ["--probe", "logit-lens", "--param", "logit-lens.ranks=100", "--probe", "cka", "--image-size", "64x64"]
        words += ["--dtype", "float32", "--device", "cpu", "--workers", "1", "--out", str(tmp_path / f"{count}.zarr")]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        peaks[count] = int(done.stdout)
    assert peaks[400] < 1.1 * peaks[50]


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_running_out_of_memory_halves_the_batch_and_counts_no_image_twice(
    side_by_side: int, images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocator's own error, from a real request for more than there is, in the middle of the second shard."""
    import torch

    from probes.core.runner import Fold
    from probes.core.runs import engine

    monkeypatch.setattr(engine, "lanes", lambda *asked: side_by_side)

    taken, take = [], Fold.take

    def short(self: Fold, batch) -> None:
        take(self, batch)
        taken.append(len(batch.images))
        if len(batch.images) > 4 and len(taken) > 5:
            torch.empty(2**60)

    monkeypatch.setattr(Fold, "take", short)
    out = tmp_path / "out.zarr"
    assert main(kills.arguments(images, out)) == 0
    assert max(taken) == 16
    assert {16, 8, 4} <= {*taken}
    for name, dataset in kills.groups(out):
        expected = xr.open_zarr(unbroken, group=name).load()
        xr.testing.assert_allclose(dataset, expected, rtol=1e-5, atol=1e-6)
        assert dataset.attrs == expected.attrs


def test_models_that_do_not_fit_together_are_measured_in_turn(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probes.core.runs import in_turn

    asked = ("attention-maps", "attention-distance")
    assert main(kills.arguments(images, tmp_path / "together.zarr", *asked)) == 0
    monkeypatch.setattr(in_turn, "free_bytes", lambda: 60 * 2**20)
    words = kills.arguments(images, tmp_path / "turn.zarr", *asked)
    broken_off(words, monkeypatch, shards=4)
    assert main([*words, "--resume"]) == 0
    assert "2 turns" in capsys.readouterr().err
    assert kills.same(tmp_path / "turn.zarr", tmp_path / "together.zarr")


def test_states_are_read_back_as_they_were(tmp_path: Path) -> None:
    from probes.core.hsic import Sums
    from probes.core.moments import Moments

    value = {
        (0, "norm"): np.arange(6, dtype=np.float32).reshape(2, 3),
        1: Moments.of(np.random.default_rng(0).random((3, 2))),
        "text": ["ä", None, True, 0.1, (1, range(2, 5)), np.float64(0.5), np.array(["a", "bc"]), np.zeros((0, 3))],
        "sums": Sums(),
    }
    with (tmp_path / "x.npz").open("wb") as file:
        stored.save(file, {"a/b c": value})
    found = stored.read(tmp_path / "x.npz", "a/b c")
    assert repr(found) == repr(value)
    with pytest.raises(TypeError, match="cannot be stored"):
        stored.save(io.BytesIO(), {"a": lambda: 0})


def test_nothing_but_states_is_made_of_a_file(tmp_path: Path) -> None:
    for name in ("os:system", "probes.core.runs.stored:save", "subprocess:Popen"):
        with pytest.raises(ValueError, match="no state of a probe"):
            stored._class(name)


def test_a_manifest_says_what_was_computed_from_what(unbroken: Path) -> None:
    document = manifest.read(unbroken)
    assert document is not None
    assert document["models"]["a"]["weights_sha256"] == load(f"{kills.MODEL}:0", image_size=32).digest
    assert document["probes"]["cka"]["parameters"]["minibatch"] == 32
    assert document["asked"]["versions"]["torch"]
    entry = document["images"][0]
    assert entry["file"]["sha256"] == hashlib.sha256(Path(entry["file"]["path"]).read_bytes()).hexdigest()
    skipped = [entry for entry in document["images"] if "skipped" in entry]
    assert all("is not an image" in entry["skipped"] for entry in skipped)


def test_show(unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(unbroken)]) == 0
    said = capsys.readouterr().out
    dataset = xr.open_zarr(unbroken, group="attention-distance/a").load()
    assert f"distance: {float(dataset.distance.mean()):.4g} (" in said
    for word in ("attention-maps", "a: timm:vit_tiny_patch16_224@random:0, 32×32 px, float32", "left out: ", "cka"):
        assert word in said
    assert main(["show", str(tmp_path)]) == 2
    assert "not a result" in capsys.readouterr().err


def test_export_as_csv_and_netcdf(unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd

    assert main(["export", str(unbroken), "--csv", str(tmp_path / "all.csv")]) == 0
    assert "attention-maps/a/attention" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "all.csv", low_memory=False)
    chosen = table[(table.probe == "attention-distance") & (table.model == "a") & (table.variable == "distance")]
    expected = xr.open_zarr(unbroken, group="attention-distance/a").load()
    np.testing.assert_allclose(chosen.value, expected.distance.values.ravel())
    assert chosen.layer_name.tolist()[:3] == ["blocks.0.attn"] * 3
    assert main(["export", str(unbroken), "--csv", str(tmp_path / "tables")]) == 0
    maps = pd.read_csv(tmp_path / "tables" / "attention-maps" / "a" / "attention.csv")
    attention = xr.open_zarr(unbroken, group="attention-maps/a").load()
    np.testing.assert_allclose(maps.value, attention.attention.values.ravel(), rtol=1e-6)
    assert maps.image_name.iloc[-1] == attention.image_name.values[-1]
    assert main(["export", str(unbroken), "--netcdf", str(tmp_path / "all.nc")]) == 0
    for name, dataset in kills.groups(unbroken):
        found = xr.open_dataset(tmp_path / "all.nc", group=name, engine="h5netcdf").load()
        xr.testing.assert_equal(found, dataset)
        assert found.attrs["probe"] == dataset.attrs["probe"]
    capsys.readouterr()
    for words in (["--csv", str(tmp_path / "no" / "x.csv")], ["--csv", str(tmp_path / "tables")]):
        assert main(["export", str(unbroken), *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert names(tmp_path) == ["all.csv", "all.nc", "tables"]


def test_a_name_that_would_be_a_formula_is_a_text_in_an_export(tmp_path: Path) -> None:
    import pandas as pd

    names = ["=1+1.png", "-2", "@sum.png", "plain.png"]
    told = xr.Dataset(
        {"value": ("=dim", np.linspace(-1.5, 1, 4), {"units": "+cmd"})}, coords={"image_name": ("=dim", names)}
    )
    assert export.to_table({"probe/=label": told}, tmp_path / "all.csv") == []
    export.to_folder({"probe/a": told}, tmp_path / "tables")
    whole = pd.read_csv(tmp_path / "all.csv", dtype=str)
    for table in (whole, pd.read_csv(tmp_path / "tables" / "probe" / "a" / "value.csv", dtype=str)):
        assert table["image_name"].tolist() == ["'=1+1.png", "-2", "'@sum.png", "plain.png"]
        assert table["value"].tolist()[0] == "-1.5"
        assert "'=dim" in table
    assert set(whole["model"]) == {"'=label"}
    assert set(whole["units"]) == {"'+cmd"}


def test_killed_at_any_moment_and_resumed_it_is_the_unbroken_run(images: Path, unbroken: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    assert kills.child([*kills.arguments(images, tmp_path / "timed.zarr"), "--workers", "1"]) == 0
    lasts = time.monotonic() - began
    assert kills.same(tmp_path / "timed.zarr", unbroken), "decoding processes change nothing"
    for moments in ([0.35 * lasts, 0.45 * lasts], [0.8 * lasts]):
        kills.resumed_as_unbroken(images, tmp_path / "out.zarr", unbroken, moments, [])
