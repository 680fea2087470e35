"""The whole command ``python -m probes run`` over a folder of JPEGs against plain inference of the same images.

Plain inference loads the same model, opens the images with the same loader and runs ``module(x)`` in the same batches
and the same type; nothing is read or written. Both in one process, in turns: the ratio is that of images a second.

``python -m benchmarks.batch_runs [--images N] [--dtype float32|bfloat16] [--turns N]``

With ``--ray`` instead: two Ray workers of one thread each against one, images a second when all have their models and
have measured each image once.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model_zoo.images import sources
from model_zoo.loading import load
from model_zoo.reference import parse
from probes.core.command import main as command
from probes.core.precision import autocast
from probes.core.runs.batch_size import fitting
from probes.core.runs.loader import Loader, preprocessing, worker_count

MODEL = "timm:vit_small_patch16_224@random:0"
PROBES = ("attention-distance", "attention-statistics", "cka", "token-norm")


def jpegs(folder: Path, count: int) -> Path:
    """Pictures of 500 × 375, as in ImageNet."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.jpg", quality=90)
    return folder


def plain(folder: Path, dtype: str, workers: int | None) -> None:
    adapter = load(MODEL)
    images = sources([folder])
    loader = Loader({"a": adapter}, images, worker_count(workers, len(images), adapter.device))
    name = preprocessing(adapter)
    with torch.inference_mode(), autocast(adapter, dtype):
        opened = loader.opened()
        while batch := list(islice(opened, fitting([adapter]))):
            adapter.module(torch.stack([one.inputs[name] for one in batch]).to(adapter.device))


def probed(folder: Path, dtype: str, workers: int | None, out: Path, probes: list[str]) -> None:
    asked = [word for name in probes for word in ("--probe", name)]
    more = [] if workers is None else ["--workers", str(workers)]
    words = ["run", "--model", f"a={MODEL}", "--images", str(folder), *asked, "--dtype", dtype, "--out", str(out)]
    assert command([*words, *more]) == 0


def on_workers(folder: Path, dtype: str, probes: list[str], turns: int) -> None:
    import probes as known
    from probes.core import cluster
    from probes.core.runs.engine import Task
    from probes.core.runs.on_ray import on_ray

    reference, images = parse(MODEL), sources([folder])
    adapter = load(reference)
    asked = {name: known.load(name)() for name in probes}
    task = Task((reference.label,), images, asked, {reference.label: dtype}, size=32, batch_size=8)
    rates: dict[int, list[float]] = {1: [], 2: []}
    with cluster.connected(2, "cpu"):
        for turn in range(turns):
            for workers, found in rates.items():
                words = argparse.Namespace(
                    ray_workers=workers, device="cpu", image_size=None, dtype=dtype, probe=probes
                )
                with on_ray(words, len(images), lambda text: None) as engine:
                    engine.begin([reference], {reference.label: adapter})
                    for _ in engine.measure(task).shards():
                        pass
                    seconds = timed(time.perf_counter, lambda engine=engine: list(engine.measure(task).shards()))
                found.append(len(images) / seconds)
            print(f"turn {turn + 1}: one {rates[1][-1]:.1f}, two {rates[2][-1]:.1f} images/s", flush=True)
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    print(
        f"{len(images)} images, {dtype}: two Ray workers of one thread each against one: "
        f"{statistics.median(ratios):.2f} times the images/s ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def timed(clock: Callable[[], float], work: Callable[..., None], *arguments: object) -> float:
    start = clock()
    work(*arguments)
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--probe", action="append", help="others than the four")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine; leaves the workers out")
    parser.add_argument("--ray", action="store_true", help="two Ray workers against one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "images").mkdir()
        folder = jpegs(Path(place) / "images", asked.images)
        if asked.ray:
            on_workers(folder, asked.dtype, asked.probe or list(PROBES), asked.turns)
            return
        plain(folder, asked.dtype, asked.workers)
        times, clock = [], time.process_time if asked.processor_time else time.perf_counter
        for turn in range(asked.turns):
            floor = timed(clock, plain, folder, asked.dtype, asked.workers)
            out = Path(place) / f"{turn}.zarr"
            work = timed(clock, probed, folder, asked.dtype, asked.workers, out, asked.probe or list(PROBES))
            times.append((floor, work))
            print(f"plain {floor:.1f} s, command {work:.1f} s, {floor / work:.2f}", flush=True)
        ratios = [floor / work for floor, work in times]
        rate = asked.images / statistics.median(work for _, work in times)
        print(
            f"{asked.images} images, {asked.dtype}, {torch.get_num_threads()} threads: {rate:.1f} images/s, "
            f"{statistics.median(ratios):.2f} of plain inference ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
