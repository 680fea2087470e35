"""``python -m probes``; what is slow to import comes when a command needs it."""

import argparse
import dataclasses
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import probes
from model_zoo.command_line import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 for bad input, 130 when interrupted."""
    parser = Parser(prog="python -m probes", description="Measure vision transformers.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the probes with their parameters")
    listing.add_argument("--json", action="store_true")
    _configure_run(commands.add_parser("run", help="measure models on images"))
    _configure_video(commands.add_parser("video", help="a film of what models attend to in a clip"))
    showing = commands.add_parser("show", help="what a result holds")
    showing.add_argument("result", type=Path, metavar="OUT.zarr")
    exporting = commands.add_parser("export", help="a result as CSV or NetCDF")
    exporting.add_argument("result", type=Path, metavar="OUT.zarr")
    form = exporting.add_mutually_exclusive_group(required=True)
    form.add_argument("--csv", type=Path, metavar="FILE|FOLDER", help="a table of all numbers, or one a variable")
    form.add_argument("--netcdf", type=Path, metavar="FILE", help="the whole tree, NetCDF 4")
    arguments = parser.parse_args(argv)
    try:
        return COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        resume = " `run --resume` goes on after the last whole shard." if arguments.command == "run" else ""
        print(f"Stopped; OUT is as it was.{resume}", file=sys.stderr)
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
    add("--batch-size", type=_positive, metavar="N", help="images in a forward pass; what fits if it is left out")
    add("--workers", type=_workers, metavar="N", help="processes that open images; 0 for none")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    add(
        "--image-size",
        type=_size,
        metavar="N|HxW",
        help="N: the model's transform at N px; HxW: whole image, uncropped",
    )
    add("--engine", choices=["local", "ray"], default="local", help="who measures: this process, or a Ray cluster")
    add("--ray-workers", type=_positive, metavar="N", help="with --engine ray; one a GPU or a core if it is left out")
    add("--resume", action="store_true", help="continue a run that was broken off")


def _configure_video(parser: argparse.ArgumentParser) -> None:
    from probes.core.video.arguments import configure

    configure(parser)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _workers(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not understood: write a whole number from 0 to 64")
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


def _run(arguments: argparse.Namespace) -> int:
    from probes.core.runs.command import run

    return run(arguments)


def _video(arguments: argparse.Namespace) -> int:
    from probes.core.video.command import run

    return run(arguments)


def _show(arguments: argparse.Namespace) -> int:
    from probes.core.runs.summary import run

    return run(arguments)


def _export(arguments: argparse.Namespace) -> int:
    from probes.core.runs.export import run

    return run(arguments)


COMMANDS = {"list": list_probes, "run": _run, "video": _video, "show": _show, "export": _export}
