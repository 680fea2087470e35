"""Films against the plain forward pass of the same models on the same frames, and their memory over the clip's length.

    python -m benchmarks.video timm:vit_small_patch16_224@random:0 --short-side 224

The ratio is processor time of the whole film (decoding twice, maps, drawing, H.264) by that of the forward passes
alone on as many frames, in turns; frames a second are its inverse. The clip is 640 × 360 at 25 frames a second, and as
long as ``--frames`` says; what a film costs once, whatever its length, counts in the ratio.

With ``--memory`` also the peak memory for a clip of 6 s and one of 60 s, each of a process of its own: 1650 frames,
which take minutes.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch

from benchmarks.harness import compare, peak, show
from model_zoo.input_size import step_of
from model_zoo.loading import load
from model_zoo.reference import parse
from probes.core.video import film
from probes.core.video.clip import Clip
from probes.core.video.framing import Framing, framing
from probes.core.video.reading import FileClip

SIZE, RATE = (640, 360), 25


def write(path: Path, seconds: float) -> None:
    """A clip of noise that drifts over a slope, so that frames differ and are not free to decode."""
    width, height = SIZE
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3)).astype(np.uint8)
    slope = np.linspace(20, 180, width).astype(np.uint8)[None, :, None]
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(round(seconds * RATE)):
            pixels = np.roll(noise, 3 * index, axis=1) + slope
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))


def made(names: list[str], clip: Clip, frame: Framing, batch: int) -> None:
    models = {name: load(name, image_size=frame.size) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        film.make(models, clip, frame, Path(folder) / "film.mp4", batch_size=batch)


def speed(names: list[str], short_side: int, batch: int, frames: int, turns: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "clip.mp4", frames / RATE)
        clip = FileClip(Path(folder) / "clip.mp4")
        frame = framing(clip.size, [step_of(parse(name).timm_name) for name in names], short_side)
        models = {name: load(name, image_size=frame.size) for name in names}
        inputs = torch.rand(frames, 3, *frame.size).split(batch)

        def plain() -> None:
            with torch.inference_mode():
                for adapter in models.values():
                    for part in inputs:
                        adapter.module(part)

        def whole() -> None:
            film.make(models, clip, frame, Path(folder) / "film.mp4", batch_size=batch)

        name = f"{', '.join(names)}: {frames} frames of {frame.size[1]} × {frame.size[0]} px"
        row = compare(name, whole, plain, turns, time.process_time)
    show([row])
    print(f"\nframes a second: {1 / row.ratio:.2f} of the plain forward's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--short-side", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--frames", type=int, default=16, help="of the film for the speed, %(default)s unless given")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure the peak memory, too; takes long")
    parser.add_argument("--peak", type=float, metavar="S", help="only print the peak of one film of so many seconds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "clip.mp4", arguments.peak)
            clip = FileClip(Path(folder) / "clip.mp4")
            steps = [step_of(parse(name).timm_name) for name in arguments.models]
            made(arguments.models, clip, framing(clip.size, steps, arguments.short_side), arguments.batch_size)
        print(f"{peak():.0f}")
        return
    speed(arguments.models, arguments.short_side, arguments.batch_size, arguments.frames, arguments.turns)
    if not arguments.memory:
        return
    command = [sys.executable, "-m", "benchmarks.video", *arguments.models, "--short-side", str(arguments.short_side)]
    short, long = (float(subprocess.check_output([*command, "--peak", str(seconds)], text=True)) for seconds in (6, 60))
    print(f"peak memory: {short:.0f} MiB for 6 s, {long:.0f} MiB for 60 s, {long / short:.3f} times")


if __name__ == "__main__":
    main()
