"""Runs on a Ray cluster of two workers: the numbers of one process, whatever is broken off or lost."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probes.core import cluster
from probes.core.command import main
from probes.core.runs import folder, manifest, measure, on_ray
from probes.core.runs.on_ray import OnRay
from probes.core.runs.ray_worker import About
from tests.fuzz import kills

COUNT = 17
RAY = ["--engine", "ray", "--ray-workers", "2"]
PROBES = ("attention-maps", "attention-distance", "cka", "token-norm")


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    """Of four images, CKA's minibatch here, so that few images make several; a thread here as in every worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "SMALLEST", 4)
        yield
    torch.set_num_threads(threads)


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
    """One cluster for all tests that need one; it answers this machine alone, and only who has its token."""
    with cluster.connected(2, "cpu"):
        assert on_ray.ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
        assert os.environ["RAY_AUTH_MODE"] == "token"
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
    monkeypatch.delitem(sys.modules, "probes.core.runs.on_ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    refused([*words(images, tmp_path / "out.zarr"), *RAY], capsys, "pip install -r requirements-ray.txt")
    assert not list(tmp_path.iterdir())


def test_workers_without_ray(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused([*words(images, tmp_path / "out.zarr"), "--ray-workers", "2"], capsys, "add that")


class Killer:
    """Kills the workers that have their models with signal 9 when a shard is given out for the n-th time."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, most: int) -> None:
        self.processes: list[int] = []
        self.given: list[tuple[int, int]] = []
        self.lost: list[tuple[int, int] | None] = []
        give, check, lost = OnRay.give, OnRay._check, OnRay.lost

        def giving(engine: OnRay, place: tuple[int, int]) -> None:
            give(engine, place)
            self.given.append(place)
            if len(self.given) == at:
                for process in self.processes[:most]:
                    os.kill(process, signal.SIGKILL)

        def checking(engine: OnRay, about: About) -> None:
            check(engine, about)
            self.processes.append(about.process)

        def losing(engine: OnRay, place: tuple[int, int] | None, *more: Any) -> None:
            self.lost.append(place)
            lost(engine, place, *more)

        patch.setattr(OnRay, "give", giving)
        patch.setattr(OnRay, "_check", checking)
        patch.setattr(OnRay, "lost", losing)


@pytest.mark.usefixtures("_two_workers")
def test_the_numbers_are_those_of_one_process_also_where_a_worker_is_killed(
    images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, killer = tmp_path / "out.zarr", Killer(monkeypatch, at=2, most=1)
    assert main([*words(images, out), *RAY]) == 0
    said = capsys.readouterr().err
    assert "2 Ray workers, a thread each" in said
    assert "3 of 17 images cannot be read" in said
    assert killer.lost
    for place in killer.lost:
        assert place is None or killer.given.count(place) > 1
    found, expected = dict(kills.groups(out)), dict(kills.groups(unbroken))
    assert found.keys() == expected.keys()
    for name, dataset in expected.items():
        assert found[name].attrs == dataset.attrs
        for variable, values in dataset.variables.items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(found[name][variable], values, rtol=1e-6, atol=1e-6)
            else:
                assert (found[name][variable].values == values.values).all()
    one, two = (manifest.read(result) or {} for result in (unbroken, out))
    assert (one["engine"], two["engine"]) == ("local", "ray")
    for entry in ("key", "models", "device", "shards", "undefined"):
        assert two[entry] == one[entry]
    assert [e.get("skipped") for e in two["images"]] == [e.get("skipped") for e in one["images"]]
    assert main([*words(images, out), *RAY]) == 0
    assert "holds this already" in capsys.readouterr().err


@pytest.mark.usefixtures("_two_workers")
def test_a_cluster_goes_on_where_one_process_was_broken_off(
    images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, written = tmp_path / "out.zarr", folder.RunFolder.write

    def write(self, name: str, how) -> None:
        if len(list(self.path.glob("*.npz"))) == 2:
            raise KeyboardInterrupt
        written(self, name, how)

    with monkeypatch.context() as patch:
        patch.setattr(folder.RunFolder, "write", write)
        assert main(words(images, out)) == 130
    capsys.readouterr()
    assert main([*words(images, out), *RAY, "--resume"]) == 0
    assert "10 of 17 images are there already" in capsys.readouterr().err
    assert kills.same(out, unbroken)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.usefixtures("_two_workers")
def test_one_process_goes_on_where_a_cluster_gave_up(
    images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both workers are killed, and none is begun again."""
    out = tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(on_ray, "TRIES", 1)
        Killer(patch, at=4, most=2)
        refused([*words(images, out), *RAY], capsys, "was lost 1 times", "--resume")
    assert not out.exists()
    assert main([*words(images, out), "--resume"]) == 0
    assert "of 17 images are there already" in capsys.readouterr().err
    assert kills.same(out, unbroken)


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
