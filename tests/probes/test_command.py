"""The command line, in this process: its contract, its results and its refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import timm
import torch
import xarray as xr
from PIL import Image

from model_zoo.adapter import Adapter
from model_zoo.command_line import printable
from model_zoo.loading import load
from probes.core.command import main
from tests.probes.families import noise

TINY = "timm:vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "cat.png"
    Image.fromarray(skimage.data.chelsea()).save(path)
    return path


def hooked(adapter: Adapter, path: Path) -> list[np.ndarray]:
    """Attention of every layer by the unfused path and a hook on its dropout."""
    found: list[np.ndarray] = []
    for block in adapter.module.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda _, args: found.append(args[0].numpy()))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(adapter.module))
    with torch.inference_mode():
        adapter.module(transform(Image.open(path).convert("RGB"))[None])
    return found


def test_run_writes_what_the_model_computes(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    models = {"a": "timm:vit_small_patch16_224@random:0", "b": "timm:vit_small_patch14_reg4_dinov2@random:1"}
    arguments = [word for label, model in models.items() for word in ("--model", f"{label}={model}")]
    arguments += ["--probe", "attention-maps", "--probe", "attention-statistics", "--out", str(out)]
    assert main(["run", "--images", str(photo), *arguments]) == 0
    for label, model in models.items():
        dataset = xr.open_zarr(out, group=f"attention-maps/{label}").load()
        adapter = load(model)
        prefix = len(adapter.spec.prefix)
        assert dataset.attention.shape == ((1, 12, 6, 14, 14) if label == "a" else (1, 12, 6, 37, 37))
        assert dataset.attention.dtype == np.float32
        assert dataset.image_name.values.tolist() == ["cat.png"]
        assert dataset.attrs["weights_sha256"] == [adapter.digest]
        for layer, expected in enumerate(hooked(adapter, photo)):
            got = dataset.attention.values[0, layer].reshape(6, -1)
            np.testing.assert_allclose(got, expected[0, :, 0, prefix:], atol=1e-5)
        statistics = xr.open_zarr(out, group=f"attention-statistics/{label}").load()
        assert statistics.entropy.dims == ("layer", "head")
        assert (statistics.mass_patch > 0).all()


def test_one_point_is_each_models_own_patch(tmp_path: Path) -> None:
    path, out = tmp_path / "wide.png", tmp_path / "out.zarr"
    noise(1, (640, 400))[0].save(path)
    models = {"a": f"{TINY}@random:0", "b": "timm:vit_small_patch14_reg4_dinov2@random:1"}
    base = ["run", "--images", str(path), "--probe", "attention-maps", "--out", str(out)]
    both = [word for label, model in models.items() for word in ("--model", f"{label}={model}")]
    assert main([*base, *both, "--param", "attention-maps.query=@0.4,0.6"]) == 0
    found = {label: xr.open_zarr(out, group=f"attention-maps/{label}").load() for label in models}
    # The point is (256, 240). a sees the middle 400 · 224 / 248 = 361.3 px in 14 patches, b the middle 400 in 37.
    for label, patch in (("a", (8, 4)), ("b", (22, 12))):
        assert (found[label].query_row == patch[0]).all()
        assert (found[label].query_column == patch[1]).all()
        query = f"attention-maps.query={patch[0]}:{patch[1]}"
        assert main([*base, "--model", f"{label}={models[label]}", "--param", query]) == 0
        alone = xr.open_zarr(out, group=f"attention-maps/{label}").load()
        np.testing.assert_allclose(found[label].attention, alone.attention, atol=1e-7)
        assert float(alone.attention.std()) > 0


def test_one_target_and_one_start_for_all_models(photo: Path, tmp_path: Path) -> None:
    of, out = tmp_path / "of.png", tmp_path / "out.zarr"
    noise(1, (300, 200))[0].save(of)
    arguments = ["--model", f"a={TINY}@random:0", "--model", "b=timm:vit_small_patch8_224.dino@random:1"]
    arguments += ["--probe", "attention-relevance", "--probe", "attention-rollout"]
    parameters = (
        "relevance.target=top-or-similarity",
        f"relevance.of={of}",
        "relevance.start=0.9",
        "rollout.start=0.5",
    )
    arguments += [word for parameter in parameters for word in ("--param", f"attention-{parameter}")]
    assert main(["run", "--images", str(photo), *arguments, "--out", str(out)]) == 0
    for label, target in (("a", "top"), ("b", "similarity")):
        assert xr.open_zarr(out, group=f"attention-relevance/{label}").attrs["target"] == target
        assert xr.open_zarr(out, group=f"attention-relevance/{label}").attrs["start"] == 10
        assert xr.open_zarr(out, group=f"attention-rollout/{label}").attrs["start"] == 6


def test_a_second_run_replaces_the_first(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    base = ["run", "--images", str(photo), "--probe", "attention-maps", "--out", str(out)]
    assert main([*base, "--model", f"first={TINY}@random:0"]) == 0
    assert main([*base, "--model", f"second={TINY}@random:0", "--param", "attention-maps.query=3:4"]) == 0
    assert [p.name for p in (out / "attention-maps").iterdir() if p.is_dir()] == ["second"]
    assert json.loads(xr.open_zarr(out, group="attention-maps/second").attrs["parameters"])["query"] == "3:4"
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


def test_whole_image_at_its_own_shape(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    arguments = ["--model", f"a={TINY}@random:0", "--image-size", "160x240", "--probe", "attention-maps"]
    assert main(["run", "--images", str(photo), *arguments, "--out", str(out)]) == 0
    assert xr.open_zarr(out, group="attention-maps/a").attention.shape == (1, 12, 3, 10, 15)


def test_undefined_is_said_and_kept(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.zarr"
    arguments = ["--model", "cnn=timm:resnet18@random:0", "--probe", "attention-maps", "--out", str(out)]
    assert main(["run", "--images", str(photo), *arguments]) == 0
    assert "not defined for cnn" in capsys.readouterr().err
    assert "convolutional" in xr.open_zarr(out, group="attention-maps/cnn").attrs["undefined"]


BAD = [
    (["--model", "no-such"], "no-such"),
    (["--probe", "attention"], "choose from attention-"),
    (["--images", "missing.jpg"], "neither an image file nor a folder"),
    (["--images", "scenes:0"], "scenes:N"),
    (["--images", "NOT-AN-IMAGE"], "not an image"),
    (["--param", "attention-maps.layer=3"], "has no parameter 'layer'"),
    (["--param", "attention-maps.query=middle"], "ROW:COL"),
    (["--param", "attention-maps.query=@0.4,1"], "@X,Y such as @0.4,0.6"),
    (["--param", "attention-maps.layers=1.5"], "relative depths from 0.0 to 1.0"),
    (["--probe", "attention-rollout", "--param", "attention-rollout.start=-1"], "start is '-1'; it must be last or"),
    (["--probe", "patch-pca", "--param", "patch-pca.layer=12.5"], "layer is '12.5'; it must be last or"),
    (["--probe", "attention-relevance", "--param", "attention-relevance.target=top-or-similarity"], "of=IMAGE"),
    (["--param", "cka.points=all"], "add --probe cka"),
    (["--out", "result"], ".zarr"),
    (["--out", "nowhere/out.zarr"], "does not exist"),
    (["--batch-size", "0"], "positive"),
    (["--image-size", "big"], "HxW"),
    (["--model", f"a={TINY}@random:0", "--model", f"a={TINY}@random:1"], "a"),
]


@pytest.mark.parametrize(("bad", "says"), BAD, ids=[" ".join(b) for b, _ in BAD])
def test_bad_input_is_one_line(
    bad: list[str],
    says: str,
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("NOT-AN-IMAGE").write_bytes(b"hello")
    defaults = {
        "--model": f"m={TINY}@random:0",
        "--images": str(photo),
        "--probe": "attention-maps",
        "--out": "out.zarr",
    }
    arguments = [w for key, value in defaults.items() if key not in bad for w in (key, value)]
    try:
        code = main(["run", *arguments, *bad])
    except SystemExit as exit_:
        code = exit_.code
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert code == 2
    assert says in last
    assert "Traceback" not in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["NOT-AN-IMAGE"], "nothing half-written"


def test_a_strangers_folder_is_not_replaced(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "thesis.zarr"
    out.mkdir()
    (out / "chapter.txt").write_text("precious")
    arguments = ["--model", f"{TINY}@random:0", "--images", str(photo), "--probe", "attention-maps"]
    assert main(["run", *arguments, "--out", str(out)]) == 2
    assert "not a result" in capsys.readouterr().err
    assert (out / "chapter.txt").read_text() == "precious"


def test_bfloat16_reports_its_difference(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.zarr"
    arguments = ["--model", f"a={TINY}@random:0", "--dtype", "bfloat16", "--probe", "attention-maps"]
    assert main(["run", "--images", str(photo), *arguments, "--out", str(out)]) == 0
    attributes = xr.open_zarr(out, group="attention-maps/a").attention.attrs
    assert 0 < attributes["bfloat16_difference"] < 0.05
    assert "bfloat16 changes attention by at most" in capsys.readouterr().err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["attention-maps"]["parameters"] == {"query": "cls", "layers": "all"}
    assert main(["list"]) == 0
    assert "attention-statistics" in capsys.readouterr().out


BROKEN = ("0-first.png", "broken\x1b[31m.png", "é\nnew.png")


@pytest.fixture
def folder(photo: Path, tmp_path: Path) -> Path:
    """Five images; three more that are none, one of them the first."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        Image.open(photo).resize((64, 48)).rotate(30 * i).save(folder / f"good-{i}.png")
    for name in BROKEN:
        (folder / name).write_bytes(b"no image")
    return folder


def arguments_for(folder: Path, out: Path, *more: str) -> list[str]:
    model = f"a={TINY}@random:0"
    return ["run", "--model", model, "--images", str(folder), "--image-size", "32x32", "--out", str(out), *more]


def test_unreadable_images_are_left_out_and_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if they were not there, whatever the size of a batch, except for what is said of them."""
    probes = ["--probe", "attention-maps", "--probe", "attention-distance", "--probe", "patch-filters"]
    assert main(arguments_for(folder, tmp_path / "all.zarr", *probes, "--batch-size", "2")) == 0
    error = capsys.readouterr().err
    assert "3 of 8 images cannot be read: 0-first.png, broken\\x1b[31m.png, é\\nnew.png." in error
    assert "\x1b" not in error
    for name in BROKEN:
        (folder / name).unlink()
    assert main(arguments_for(folder, tmp_path / "good.zarr", *probes)) == 0
    assert "cannot be read" not in capsys.readouterr().err
    for probe in ("attention-maps", "attention-distance", "patch-filters"):
        found, expected = (xr.open_zarr(tmp_path / f"{n}.zarr", group=f"{probe}/a").load() for n in ("all", "good"))
        named = found.attrs.pop("unreadable", [])
        assert [printable(name) for name in named] == ([] if probe == "patch-filters" else [*map(printable, BROKEN)])
        assert "unreadable" not in expected.attrs
        assert found.attrs == expected.attrs
        xr.testing.assert_allclose(found, expected, rtol=1e-4)


def test_strict_refuses_before_any_work(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.zarr"
    assert main(arguments_for(folder, out, "--probe", "attention-maps", "--strict")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "3 of 8 images cannot be read: 0-first.png, " in error
    assert "loading" not in error
    assert not out.exists()
    for name in BROKEN:
        (folder / name).unlink()
    assert main(arguments_for(folder, out, "--probe", "attention-maps", "--strict")) == 0


def test_all_unreadable_is_wrong_input(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in folder.glob("good-*"):
        path.unlink()
    assert main(arguments_for(folder, tmp_path / "out.zarr", "--probe", "attention-maps")) == 2
    assert "None of the 3 images can be read" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out.zarr").exists()


def test_an_image_that_is_counted_to_must_not_shift(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Image 1 of the folder would become another one without the first."""
    asked = ["--probe", "patch-similarity", "--param", "patch-similarity.of=1"]
    assert main(arguments_for(folder, tmp_path / "out.zarr", *asked)) == 2
    assert "patch-similarity.of=1 counts images, and image 0 cannot be read" in capsys.readouterr().err
