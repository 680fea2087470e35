"""Folders of images: links in them, what cannot be read in them, and names that no file can have."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from model_zoo import decoding
from model_zoo.__main__ import main as zoo
from model_zoo.decoding import ImageError, check_image, open_image
from model_zoo.images import sources
from probes.core.command import main
from probes.core.runs.loader import _open

LONG = "x" * 300


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20)).save(path)


def names(*paths: Path) -> list[str]:
    return [source.name for source in sources(paths)]


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of folders that cannot be listed."""
    closed: set[str] = set()
    scandir = os.scandir

    def guarded(path: Path | int) -> object:
        if not isinstance(path, int) and Path(path).name in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    return closed


def test_linked_folders_are_classes_like_others(tmp_path: Path) -> None:
    for name in ("all/cat/1.png", "all/cat/old/0.png", "all/dog/2.png", "some/bird/3.png", "some/a.png"):
        picture(tmp_path / name)
    for name in ("cat", "tabby"):
        (tmp_path / "some" / name).symlink_to(tmp_path / "all" / "cat", target_is_directory=True)
    (tmp_path / "some" / "z.png").symlink_to("a.png")
    (tmp_path / "set").symlink_to("some")
    found = ["a.png", "bird/3.png", "cat/1.png", "cat/old/0.png", "tabby/1.png", "tabby/old/0.png", "z.png"]
    assert names(tmp_path / "some") == names(tmp_path / "set") == found
    labels = [source.label and source.label() for source in sources([tmp_path / "some"])]
    assert labels == [None, "bird", "cat", "old", "tabby", "old", None]
    assert sources([tmp_path / "some"])[2].open().size == (20, 20)


def test_links_that_lead_back_or_above_are_not_followed(tmp_path: Path) -> None:
    for name in ("other.png", "set/a/1.png", "set/b/deep/2.png"):
        picture(tmp_path / name)
    for name, to in (("a/self", "."), ("a/up", ".."), ("b/deep/top", "../.."), ("above", "../.."), ("a/b", "../b")):
        (tmp_path / "set" / name).symlink_to(to)
    (tmp_path / "set" / "b" / "a").symlink_to("../a")
    (tmp_path / "set" / "loop").symlink_to("loop")
    found = names(tmp_path / "set")
    assert [name for name in found if name != "loop"] == [
        "a/1.png",
        "a/b/deep/2.png",
        "b/a/1.png",
        "b/deep/2.png",
    ]


def test_the_order_is_that_of_paths(tmp_path: Path) -> None:
    every = ["a b/1.png", "a/c/3.png", "a/z.png", "a.png", "b/10.png", "b/9.png", "Z.png", ".hidden/1.png"]
    for name in every:
        picture(tmp_path / name)
    (tmp_path / "notes.png").mkdir()
    assert names(tmp_path) == [str(path) for path in sorted(map(Path, every))]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, locked: set[str]) -> None:
    for name in ("a/1.png", "n02/2.png", "z.png"):
        picture(tmp_path / name)
    locked.add("n02")
    found = sources([tmp_path])
    assert [source.name for source in found] == ["a/1.png", "n02/*", "z.png"]
    assert found[1].label is not None
    assert found[1].label() == "n02"
    with pytest.raises(ImageError, match="cannot be read"):
        found[1].open()
    file, opened, said = _open(found[1])
    assert (file, opened) == (None, None)
    assert said is not None
    assert said.startswith("n02/* cannot be read: ")
    with pytest.raises(ImageError, match=r"n02 cannot be read: Permission denied\.$"):
        sources([tmp_path / "n02"])


def test_a_run_leaves_out_such_a_folder_or_refuses(
    tmp_path: Path, locked: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a/1.png", "n02/2.png"):
        picture(tmp_path / "set" / name)
    locked.add("n02")
    run = ["run", "--model", "m=timm:vit_tiny_patch16_224@random:0", "--image-size", "32x32", "--probe", "token-norm"]
    run += ["--images", str(tmp_path / "set"), "--out", str(tmp_path / "out.zarr")]
    assert main([*run, "--strict"]) == 2
    assert "1 of 2 images cannot be read: n02/*. With --strict" in capsys.readouterr().err
    assert main(run) == 0
    assert "1 of 2 images cannot be read: n02/*." in capsys.readouterr().err


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    code = zoo(command) if command[0] == "evaluate" else main(command)
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    return error


RUN = ["run", "--model", "m=timm:vit_tiny_patch16_224@random:0", "--probe", "token-norm"]
RELEVANCE = ["--probe", "attention-relevance", "--param", "attention-relevance.target=similarity"]
EVALUATE = ["evaluate", "--model", "timm:vit_tiny_patch16_224@random:0"]
TOO_LONG = {
    "run --images": [*RUN, "--images", LONG, "--out", "o.zarr"],
    "run --images in a folder": [*RUN, "--images", f"{LONG}/1.png", "--out", "o.zarr"],
    "run --out": [*RUN, "--images", "set", "--out", f"{LONG}.zarr"],
    "run --out in a folder": [*RUN, "--images", "set", "--out", f"{LONG}/o.zarr"],
    "run of": [*RUN, *RELEVANCE, "--param", f"attention-relevance.of={LONG}", "--images", "set", "--out", "o.zarr"],
    "evaluate --images": [*EVALUATE, "--images", LONG],
    "evaluate --out": [*EVALUATE, "--images", "set", "--out", LONG],
    "evaluate --classes": [*EVALUATE, "--images", "set", "--classes", LONG],
    "show": ["show", LONG],
    "export": ["export", LONG, "--csv", "a.csv"],
}


@pytest.mark.parametrize("case", TOO_LONG)
def test_a_name_that_is_too_long_is_one_sentence(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "set" / "n01" / "1.png")
    assert "File name too long" in refused(TOO_LONG[case], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_lies_in_a_folder_that_cannot_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: Path, **_: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(ImageError, match=r"1\.png cannot be read: Permission denied\.$"):
        sources([tmp_path / "1.png"])


@pytest.mark.parametrize("read", [open_image, check_image])
def test_want_of_memory_is_no_damage(read: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    picture(tmp_path / "1.png")
    monkeypatch.setattr(decoding, "_check" if read is check_image else "_to_rgb", full)
    with pytest.raises(MemoryError):
        read(tmp_path / "1.png")  # type: ignore[operator]
