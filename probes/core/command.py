"""``python -m probes list`` and ``python -m probes run``."""

import argparse
import dataclasses
import inspect
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import probes
from model_zoo.command_line import Parser, printable
from probes.core.base import Probe


class UsageError(ValueError):
    """Arguments that do not fit; the message is one sentence for a person."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 for bad input, 130 when interrupted."""
    parser = Parser(prog="python -m probes", description="Measure vision transformers.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the probes with their parameters")
    listing.add_argument("--json", action="store_true")
    _configure_run(commands.add_parser("run", help="measure models on images"))
    arguments = parser.parse_args(argv)
    try:
        return list_probes(arguments) if arguments.command == "list" else run(arguments)
    except KeyboardInterrupt:
        print("Stopped; nothing was written.", file=sys.stderr)
        return 130


def _configure_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="[LABEL=]MODEL", help="catalog key or timm:NAME; repeat it")
    add("--images", nargs="+", required=True, metavar="PATH", help="image files, folders or scenes:N")
    add("--probe", action="append", required=True, metavar="NAME", help="see `list`; repeat it")
    add("--out", required=True, type=Path, metavar="OUT.zarr")
    add("--param", action="append", default=[], metavar="NAME.KEY=VALUE")
    add("--strict", action="store_true", help="measure nothing if one of the images cannot be read")
    add("--limit", type=_positive, metavar="N", help="use the first N images")
    add("--batch-size", type=_positive, default=8, metavar="N")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    add(
        "--image-size",
        type=_size,
        metavar="N|HxW",
        help="N: the model's transform at N px; HxW: whole image, uncropped",
    )
    add("--engine", choices=["local", "ray"], default="local")
    add("--resume", action="store_true", help="continue a run that was broken off")


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _size(text: str) -> int | tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.isascii() and p.isdigit() and 16 <= int(p) <= 4096 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not understood: write N or HxW in pixels, 16 to 4096")
    sides = [int(p) for p in parts]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def list_probes(arguments: argparse.Namespace) -> int:
    """Print name, title and parameters of every probe."""
    found: list[dict[str, Any]] = []
    for name in probes.available():
        cls = probes.load(name)
        parameters = {f.name: f.default for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        summary = (inspect.getdoc(cls) or "").splitlines()[0]
        found.append({"name": name, "title": cls.title, "summary": summary, "parameters": parameters})
    if arguments.json:
        print(json.dumps(found, indent=1, default=str))
        return 0
    for entry in found:
        defaults = ", ".join(f"{k}={v}" for k, v in entry["parameters"].items())
        print(f"{entry['name']:22} {entry['summary']}" + (f"\n{'':22} {defaults}" if defaults else ""))
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Measure and write OUT.zarr."""
    # Imported here so that `list` and a wrong argument answer at once.
    from model_zoo.decoding import ImageError
    from model_zoo.images import sources
    from model_zoo.loading import load
    from model_zoo.reference import ModelError, parse_all
    from probes.core import output, runner, unreadable

    progress = _Progress()
    try:
        chosen = make_probes(arguments.probe, arguments.param)
        if arguments.engine == "ray" or arguments.resume:
            what = "--engine ray" if arguments.engine == "ray" else "--resume"
            raise UsageError(f"{what} needs the batch store, which this version does not have; leave it out.")
        output.check(arguments.out)
        references = parse_all(arguments.model)
        images = sources(arguments.images, arguments.limit)
        if arguments.strict:
            unreadable.refuse(images)
        models = {}
        for reference in references:
            progress.say(f"loading {reference.label}")
            models[reference.label] = load(
                reference, image_size=arguments.image_size, device=arguments.device, on_progress=progress.load
            )
        started = time.perf_counter()
        skipped = _Skipped(chosen)
        results = runner.run(
            models,
            images,
            chosen,
            batch_size=arguments.batch_size,
            dtype=arguments.dtype,
            on_progress=progress.step,
            on_unreadable=skipped,
        )
        progress.end()
        unreadable.report([images[place].name for place in skipped.places], len(images))
        images = [source for place, source in enumerate(images) if place not in skipped.places]
        _add_provenance(results, models, chosen)
        _report_bfloat16(results, models, images, chosen, progress.say)
        output.write(arguments.out, results)
    except (UsageError, ModelError, ImageError, output.OutputError, ValueError) as error:
        progress.end()
        print(f"python -m probes run: {printable(str(error))}", file=sys.stderr)
        return 2
    for name, by_label in results.items():
        for label, dataset in by_label.items():
            if "undefined" in dataset.attrs:
                print(f"{name} is not defined for {label}: {dataset.attrs['undefined']}.", file=sys.stderr)
    seconds = time.perf_counter() - started
    count = f"{len(images)} image{'s' * (len(images) != 1)}, {len(models)} model{'s' * (len(models) != 1)}"
    print(f"{count}, {seconds:.1f} s: {arguments.out}", file=sys.stderr)
    return 0


def make_probes(names: Sequence[str], parameters: Sequence[str]) -> dict[str, Probe]:
    """Probes with their parameters from ``NAME.KEY=VALUE``.

    Raises:
        UsageError: a probe or parameter that does not exist, or a value that does not fit.
    """
    given: dict[str, dict[str, Any]] = {}
    for name in names:
        if name not in probes.available():
            raise UsageError(f"There is no probe named {name!r}; choose from {', '.join(probes.available())}.")
        given[name] = {}
    for text in parameters:
        target, equals, value = text.partition("=")
        name, dot, key = target.partition(".")
        if not (equals and dot):
            raise UsageError(f"--param {text!r} is not understood; write NAME.KEY=VALUE.")
        if name not in given:
            raise UsageError(f"--param {text!r} is for a probe that is not asked for; add --probe {name}.")
        given[name][key] = _value(name, key, value)
    chosen = {}
    for name, arguments in given.items():
        try:
            chosen[name] = probes.load(name)(**arguments)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
    return chosen


def _value(name: str, key: str, text: str) -> Any:
    cls = probes.load(name)
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if key not in fields:
        has = f"it has {', '.join(sorted(fields))}" if fields else "it has none"
        raise UsageError(f"{name} has no parameter {key!r}; {has}.")
    kind = get_type_hints(cls)[key]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float):
            return kind(text)
    except (KeyError, ValueError):
        expected = "true or false" if kind is bool else "a whole number" if kind is int else "a number"
        raise UsageError(f"{name}.{key} is {text!r}; expected {expected}.") from None
    return text


def _add_provenance(results: Any, models: Any, chosen: dict[str, Probe]) -> None:
    """Parameters of the probe and digests of the weights, in each result's attributes."""
    for name, by_label in results.items():
        parameters = json.dumps(dataclasses.asdict(chosen[name]))  # type: ignore[call-overload]
        for label, dataset in by_label.items():
            digests = [models[part].digest for part in label.split("+") if part in models]
            dataset.attrs |= {"parameters": parameters, "weights_sha256": digests}


def _report_bfloat16(results: Any, models: Any, images: Any, chosen: Any, say: Callable[[str], None]) -> None:
    """Where bfloat16 was used, measure on the first image what it changes, say it and keep it with the result."""
    from probes.core.runner import bfloat16_differences

    for label, adapter in models.items():
        cast = {name: results[name][label] for name in chosen if results[name][label].attrs["dtype"] == "bfloat16"}
        if not cast:
            continue
        for name, differences in bfloat16_differences(adapter, images[0], {n: chosen[n] for n in cast}).items():
            for variable, difference in differences.items():
                if variable in cast[name]:
                    cast[name][variable].attrs["bfloat16_difference"] = difference
                    say(
                        f"{name} of {label}: bfloat16 changes {variable} by at most {difference:.2g} on the first image"
                    )


class _Skipped:
    """Places of the images that cannot be read; stops the run where leaving one out would change what is asked."""

    def __init__(self, chosen: dict[str, Probe]) -> None:
        self.places: dict[int, None] = {}
        of = {name: getattr(probe, "of", None) for name, probe in chosen.items()}
        self.counted = {name: place for name, place in of.items() if isinstance(place, int)}

    def __call__(self, place: int, error: Exception) -> None:
        self.places[place] = None
        for name, last in self.counted.items():
            if place <= last:
                raise UsageError(f"{name}.of={last} counts images, and image {place} cannot be read: {error}")


class _Progress:
    """One line on stderr: images done, rate and time left."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.shown = 0.0
        self.live = sys.stderr.isatty()
        self.open = False

    def say(self, text: str) -> None:
        self.end()
        print(text, file=sys.stderr)

    def load(self, stage: str, done: int, total: int | None) -> None:
        if self._due(done == total) and total and total > 2**20:
            self._line(f"{stage} {done / 2**20:,.0f} of {total / 2**20:,.0f} MB")

    def step(self, done: int, total: int) -> None:
        if done and not self.open:
            self.start = min(self.start, time.perf_counter())
        if self._due(done == total):
            seconds = time.perf_counter() - self.start
            rate = done / max(seconds, 1e-9)
            left = time.strftime("%H:%M:%S", time.gmtime((total - done) / max(rate, 1e-9)))
            self._line(f"{done}/{total} passes  {rate:.1f}/s  {left} left")

    def _due(self, last: bool) -> bool:
        now = time.perf_counter()
        if not last and now - self.shown < (0.2 if self.live else 10):
            return False
        self.shown = now
        return True

    def _line(self, text: str) -> None:
        if self.live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self.open = True
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.open:
            print(file=sys.stderr)
            self.open = False
