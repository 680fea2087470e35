"""Runs on a Ray cluster of two workers: the numbers of one process, whatever is broken off or lost."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from probes.core import cluster
from probes.core.command import main
from probes.core.runs import folder, manifest, measure
from probes.core.runs.on_ray import OnRay
from tests.fuzz import kills

COUNT = 17
RAY = ["--engine", "ray", "--ray-workers", "2"]
PROBES = ("attention-maps", "attention-distance", "cka", "token-norm")


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    """Of four images, CKA's minibatch here, so that few images make several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "SMALLEST", 4)
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of them no images, in the second shard and the last."""
    place = kills.pictures(tmp_path_factory.mktemp("ray") / "images", COUNT)
    for number in (5, 6, 16):
        (place / f"{number:04d}.png").write_bytes(b"no image")
    return place


@pytest.fixture(scope="module")
def unbroken(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "out.zarr"
    assert main(words(images, out)) == 0
    return out


@pytest.fixture(scope="module")
def _two_workers() -> Iterator[None]:
    """One cluster for all tests that need one."""
    with cluster.connected(2, "cpu"):
        yield


def words(images: Path, out: Path) -> list[str]:
    asked = kills.arguments(images, out, *PROBES)
    return [*asked, "--param", "cka.minibatch=4", "--batch-size", "2"]


def refused(words: list[str], capsys: pytest.CaptureFixture[str], *says: str) -> None:
    assert main(words) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in last for word in says), last


ADDRESSES = [
    ("127.0.0.1:1", "No Ray cluster answers at RAY_ADDRESS=127.0.0.1:1"),
    ("somewhere", "write HOST:PORT"),
    ("ray://127.0.0.1:10001", "write HOST:PORT"),
]


@pytest.mark.parametrize(("address", "says"), ADDRESSES, ids=[address for address, _ in ADDRESSES])
def test_a_cluster_that_is_not_there(
    address: str,
    says: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    refused([*words(images, tmp_path / "out.zarr"), *RAY], capsys, says)
    assert time.monotonic() - began < 30
    assert not list(tmp_path.iterdir())


def test_somebody_else_at_the_address(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port that takes the call and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        began = time.monotonic()
        refused([*words(images, tmp_path / "out.zarr"), *RAY], capsys, f"RAY_ADDRESS={address} cannot be used")
        assert time.monotonic() - began < 60


def test_ray_is_not_installed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused([*words(images, tmp_path / "out.zarr"), *RAY], capsys, "pip install -r requirements-ray.txt")
    assert not list(tmp_path.iterdir())


def test_workers_without_ray(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused([*words(images, tmp_path / "out.zarr"), "--ray-workers", "2"], capsys, "add that")


@pytest.mark.usefixtures("_two_workers")
def test_the_numbers_are_those_of_one_process(
    images: Path, unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    assert main([*words(images, out), *RAY]) == 0
    said = capsys.readouterr().err
    assert "2 Ray workers, a thread each" in said
    assert "3 of 17 images cannot be read" in said
    found, expected = dict(kills.groups(out)), dict(kills.groups(unbroken))
    assert found.keys() == expected.keys()
    for name, dataset in expected.items():
        assert found[name].attrs == dataset.attrs
        for variable, values in dataset.variables.items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(found[name][variable], values, rtol=1e-6, atol=1e-6)
            else:
                assert (found[name][variable].values == values.values).all()
    one, two = manifest.read(unbroken), manifest.read(out)
    assert one
    assert two
    assert (one["engine"], two["engine"]) == ("local", "ray")
    for entry in ("key", "models", "device", "shards", "undefined"):
        assert two[entry] == one[entry]
    assert [e.get("skipped") for e in two["images"]] == [e.get("skipped") for e in one["images"]]
    assert main([*words(images, out), *RAY]) == 0
    assert "holds this already" in capsys.readouterr().err


@pytest.mark.usefixtures("_two_workers")
@pytest.mark.parametrize("first", ["local", "ray"])
def test_either_engine_goes_on_where_the_other_was_broken_off(
    first: str,
    images: Path,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, written = tmp_path / "out.zarr", folder.RunFolder.write

    def write(self, name: str, how) -> None:
        if len(list(self.path.glob("*.npz"))) == 2:
            raise KeyboardInterrupt
        written(self, name, how)

    engines = [RAY, []] if first == "ray" else [[], RAY]
    with monkeypatch.context() as patch:
        patch.setattr(folder.RunFolder, "write", write)
        assert main([*words(images, out), *engines[0]]) == 130
    capsys.readouterr()
    assert main([*words(images, out), *engines[1], "--resume"]) == 0
    assert "10 of 17 images are there already" in capsys.readouterr().err
    assert kills.same(out, unbroken)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.usefixtures("_two_workers")
def test_a_lost_worker_is_replaced_and_its_shard_measured_again(
    images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, given, lost = [], [], []
    give, check, count = OnRay.give, OnRay._check, OnRay.lost

    def kill(self: OnRay, place: tuple[int, int]) -> None:
        give(self, place)
        given.append(place)
        if len(given) == 2:
            os.kill(begun[0], signal.SIGKILL)

    monkeypatch.setattr(OnRay, "_check", lambda self, about: (check(self, about), begun.append(about.process)))
    monkeypatch.setattr(OnRay, "lost", lambda self, place, *more: (lost.append(place), count(self, place, *more)))
    monkeypatch.setattr(OnRay, "give", kill)
    out = tmp_path / "out.zarr"
    assert main([*words(images, out), *RAY]) == 0
    assert lost[0] in given
    assert given.count(lost[0]) == 2
    assert kills.same(out, unbroken)


@pytest.mark.usefixtures("_two_workers")
def test_a_shard_whose_worker_is_lost_every_time_is_given_up(
    images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    processes: list[int] = []
    give, check = OnRay.give, OnRay._check

    def kill(self: OnRay, place: tuple[int, int]) -> None:
        give(self, place)
        if place == (4, 4):
            for process in processes:
                os.kill(process, signal.SIGKILL)
            processes.clear()

    monkeypatch.setattr(OnRay, "_check", lambda self, about: (check(self, about), processes.append(about.process)))
    out = tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(OnRay, "give", kill)
        refused([*words(images, out), *RAY], capsys, "was lost 3 times", "--resume")
    assert not out.exists()


@pytest.mark.usefixtures("_two_workers")
def test_an_image_that_the_workers_do_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A relative path, and workers that cannot stand where it begins."""
    (tmp_path / "here").mkdir()
    kills.pictures(tmp_path / "here" / "images", 3)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("probes.core.runs.on_ray.home", lambda: tmp_path / "nowhere")
    missing = str(tmp_path / "here" / "images" / "0000.png")
    refused([*words(Path("images"), tmp_path / "out.zarr"), *RAY], capsys, missing, "all machines of the cluster")
    assert [entry.name for entry in tmp_path.iterdir()] == ["here"]
