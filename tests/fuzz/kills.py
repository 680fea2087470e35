"""Runs that are killed with signal 9 at any moment and resumed, against the same run unbroken.

``python -m tests.fuzz 100 --only kills``; too slow for the round of all modules.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from PIL import Image

from probes.core.command import main

ALONE = True
EXPECTED = ()
MODEL = "timm:vit_tiny_patch16_224@random"
COUNT = 200
PROBES = ("attention-maps", "attention-distance", "cka", "token-norm", "embedding-similarity", "patch-filters")


def cases(seed: int, count: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each is killed one to three times."""
    chance = random.Random(seed)
    images = pictures(folder / "images", COUNT, broken=0.1)
    unbroken = folder / "unbroken.zarr"
    began = time.monotonic()
    assert child(arguments(images, unbroken)) == 0
    lasts = time.monotonic() - began
    for number in range(count):
        moments = [chance.random() * lasts for _ in range(chance.randrange(1, 4))]
        more = ["--workers", str(chance.randrange(2))]
        name = f"{number} after {', '.join(f'{moment:.2f}' for moment in moments)} s"
        yield name, partial(resumed_as_unbroken, images, folder / "out.zarr", unbroken, moments, more)


def resumed_as_unbroken(images: Path, out: Path, unbroken: Path, moments: list[float], more: list[str]) -> None:
    """Kill the run at each moment, let it end, and compare."""
    for moment in moments:
        kill_after(moment, [*arguments(images, out), *more, "--resume"])
        assert not out.exists() or same(out, unbroken)
    assert child([*arguments(images, out), *more, "--resume"]) == 0
    assert same(out, unbroken)
    assert not list(out.parent.glob(f".{out.name}.*")), "nothing is left beside"
    shutil.rmtree(out)


def arguments(images: Path, out: Path, *probes: str) -> list[str]:
    models = [word for i in range(2) for word in ("--model", f"{'ab'[i]}={MODEL}:{i}")]
    asked = [word for name in probes or PROBES for word in ("--probe", name)]
    return ["run", *models, "--images", str(images), *asked, "--image-size", "32x32", "--dtype", "float32",
            "--device", "cpu", "--out", str(out)]  # fmt: skip


def pictures(folder: Path, count: int, broken: float = 0.0) -> Path:
    """Small images, a share of them no images."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i:04d}.png"
        if rng.random() < broken:
            path.write_bytes(b"no image")
        else:
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    return folder


def child(words: list[str]) -> int:
    """Exit code of the command in a process of its own, which has what this one imported."""
    return os.waitstatus_to_exitcode(os.waitpid(begun(words), 0)[1])


def begun(words: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            code = main(words)
        finally:
            os._exit(code)
    return pid


def kill_after(seconds: float, words: list[str]) -> None:
    pid = begun(words)
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def groups(out: Path) -> Iterator[tuple[str, xr.Dataset]]:
    for probe in sorted(entry for entry in out.iterdir() if entry.is_dir()):
        for label in sorted(entry for entry in probe.iterdir() if entry.is_dir()):
            group = f"{probe.name}/{label.name}"
            yield group, xr.open_zarr(out, group=group, chunks=None).load()


def same(a: Path, b: Path) -> bool:
    """Every number, coordinate and attribute, bit for bit."""
    found, expected = dict(groups(a)), dict(groups(b))
    return found.keys() == expected.keys() and all(found[name].identical(expected[name]) for name in expected)
