"""The command ``python -m model_zoo evaluate``."""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import probes
from model_zoo.adapter import Adapter
from model_zoo.command_line import printable
from model_zoo.decoding import ImageError
from model_zoo.features import TEMPERATURE, K
from model_zoo.images import ImageSource, sources
from model_zoo.labels import LabelError
from model_zoo.reference import ModelError, parse
from model_zoo.reported import REPORTED, Reported
from probes.core import unreadable
from probes.core.evaluation import cards
from probes.core.evaluation.classes import read_labels
from probes.core.evaluation.images import FIGURES, Labelled, ResumeError, Settings, evaluate_images
from probes.core.evaluation.scenes import evaluate_scenes
from probes.core.output import OutputError
from probes.core.runs import identity
from probes.core.runs.folder import claimed
from probes.core.runs.loader import WorkerError
from probes.core.runs.progress import Progress

FORMAT = "evaluation 1"
FILE = "figures.json"
OF_ONE_MODEL = dict.fromkeys(("labels", "classes", "bank", "figures", "features", "batch_size", "workers", "out"))
OF_ONE_MODEL |= {"neighbours": K, "finetune": False, "strict": False, "resume": False}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``evaluate``."""
    add = parser.add_argument
    add("--model", help="a catalog key, timm:NAME, timm:NAME@random:SEED or @FILE; all shipped without it")
    add("--images", help="scenes:N, or a folder of images")
    add("--labels", type=Path, metavar="FILE", help="lines image,class; otherwise folders name the classes")
    add("--classes", type=Path, metavar="FILE", help="what each output of the classifier is called, a line each")
    add(
        "--bank",
        metavar="FOLDER",
        help="training images in a folder a class, for k-NN and linear probe",
    )
    add("--figures", nargs="+", choices=FIGURES, help="of images, measure these alone")
    add("--neighbours", type=_positive, default=K, metavar="K", help=f"of k-NN on images; {K} if it is left out")
    add("--features", choices=("cls", "mean"), help="for k-NN and linear probe")
    add("--finetune", action="store_true", help="on scenes, also train all weights on 1,000 labelled ones (minutes)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--batch-size", type=_positive, metavar="N", help="images in a forward pass; what fits if it is left out")
    add("--workers", type=int, choices=range(65), metavar="N", help="processes that open images; 0 for none")
    add("--strict", action="store_true", help="measure nothing if one of the images cannot be read")
    add("--json", action="store_true", help="print JSON")
    add("--out", type=Path, metavar="FILE.json", help="also write the figures there")
    add("--resume", action="store_true", help="go on with an evaluation for the same --out that was broken off")


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Prints the figures; 2 and one sentence on stderr for bad input, 130 when interrupted."""
    progress = Progress()
    try:
        if args.model is None:
            return _cards(args)
        figures = _evaluate(args, progress)
    except (ImageError, LabelError, ModelError, OutputError, ResumeError, WorkerError) as error:
        progress.end()
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except KeyError as error:
        progress.end()
        print(f"evaluate: the model has no {error} features; use --features mean", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        progress.end()
        print(f"evaluate: {printable(str(error.filename))} cannot be used: {error.strerror}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        progress.end()
        kept = "--resume goes on after the last whole shard" if args.out else "with --out FILE, --resume could go on"
        print(f"Stopped; {kept}.", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        _show(figures)
    return 0


def _cards(args: argparse.Namespace) -> int:
    """Prints every figure of every card, and what it is now."""
    if args.images and not args.images.startswith("scenes:"):
        raise ModelError(f"--model is missing: {args.images} would be measured. Shipped models take scenes:N alone.")
    given = [name for name, left_out in OF_ONE_MODEL.items() if getattr(args, name) != left_out]
    if given:
        raise ModelError(f"--{given[0].replace('_', '-')} belongs to one model: name it with --model.")
    count = len(sources([args.images])) if args.images else None
    if not args.json:
        print(cards.line("model", "figure", "card", "now"), flush=True)
    everything = []
    for found in cards.measured(cards.shipped(), count, args.device):
        everything.append(found)
        if not args.json:
            print(cards.table(found), flush=True)
    if args.json:
        print(json.dumps(everything, indent=1))
    return 0


def _evaluate(args: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The figures, and what they are."""
    if args.images is None:
        raise ImageError("--images is missing: give scenes:N or a folder of images.")
    on_scenes = args.images.startswith("scenes:")
    _check(args, on_scenes)
    found = sources([args.images])
    bank = sources([args.bank]) if args.bank else []
    names = [] if on_scenes else read_labels(found, args.labels)
    bank_names = read_labels(bank, None)
    if args.strict:
        unreadable.refuse([*found, *bank])
    from model_zoo.loading import load, weights_file  # brings torch

    asked = _asked(args, weights_file(parse(args.model)), [*found, *bank], [*names, *bank_names])
    if args.resume and (old := _written(args.out)) and old.get("asked") == asked:
        _report(old["figures"], len(found) + len(bank))
        return old["figures"]

    with _claimed(args.out) as folder:
        adapter = load(args.model, device=args.device)
        if on_scenes:
            measured = evaluate_scenes(adapter, len(found), kind=args.features, finetune=args.finetune)
        else:
            settings = Settings(
                args.figures or FIGURES, Labelled(bank, bank_names), args.classes, args.features,
                args.neighbours, args.workers, args.batch_size,
            )  # fmt: skip
            measured = evaluate_images(
                adapter, found, names, settings, folder=folder, resume=args.resume, progress=progress
            )
        figures: dict[str, Any] = {"model": args.model, "images": args.images} | vars(measured)
        if not on_scenes:
            reported = _reported(adapter)
            figures |= {"reported": reported and asdict(reported), "definitions": _definitions(args, measured.bank)}
        if folder is not None:
            document = {"format": FORMAT, "figures": figures, "weights_sha256": adapter.digest, "asked": asked}
            folder.write_json(FILE, document)
            (folder.path / FILE).rename(args.out)
            folder.remove()
    _report(figures, len(found) + len(bank))
    return figures


def _check(args: argparse.Namespace, on_scenes: bool) -> None:
    """Refuse what does not go together, and a place that cannot be written to."""
    if on_scenes and args.labels:
        raise ImageError("Scenes know their own labels: leave out --labels.")
    given = [name for name in ("classes", "bank", "figures") if getattr(args, name)]
    if on_scenes and given:
        raise ImageError(f"--{given[0]} is for a folder of images: leave it out with scenes.")
    if args.finetune and not on_scenes:
        raise ImageError("Fine-tuning is measured on scenes: give --images scenes:N, or leave out --finetune.")
    if args.classes and not args.classes.is_file():
        raise LabelError(f"--classes {args.classes} is no file: give one with a line for each output of the model.")
    if args.resume and args.out is None:
        raise OutputError("--resume goes on with what was kept beside --out: give --out FILE.json, too.")
    if args.out is not None and (args.out.is_dir() or (args.out.exists() and _written(args.out) is None)):
        raise OutputError(f"{args.out} is there already and no evaluation: choose another name for --out.")


def _written(out: Path) -> dict[str, Any] | None:
    """An evaluation on disk; None where there is none."""
    try:
        document = json.loads(out.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("format") == FORMAT else None


def _asked(
    args: argparse.Namespace, weights: Path | None, images: Sequence[ImageSource], names: Sequence[str]
) -> dict[str, Any]:
    """What determines the figures; files by what the file system says of them."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.name}\0{_stat(image.path)}\0".encode())
    settings = ("model", "images", "bank", "figures", "neighbours", "features", "finetune", "device", "strict")
    return {name: getattr(args, name) for name in settings} | {
        "weights": _stat(weights),
        "classes": args.classes and hashlib.sha256(args.classes.read_bytes()).hexdigest(),
        "files": digest.hexdigest(),
        "names": hashlib.sha256("\0".join(names).encode()).hexdigest(),
        "code": identity.code(probes.available()),
        "versions": identity.versions(),
    }


def _stat(path: Path | None) -> list[int] | None:
    if path is None or not path.is_file():
        return None
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _reported(adapter: Adapter) -> Reported | None:
    """The published figure of just these weights."""
    if adapter.reference is None or adapter.reference.weights != "hub":
        return None
    config = getattr(adapter.module, "pretrained_cfg", {})
    return REPORTED.get(f"{config.get('architecture')}.{config.get('tag')}")


def _definitions(args: argparse.Namespace, bank: int | None) -> dict[str, str]:
    """How the figures are defined, for a person."""
    base = f"the {bank} images of {args.bank}" if args.bank else f"every second image ({bank}), measured on the others"
    return {
        "preprocessing": "the model's own evaluation transform (timm's data configuration of the weights)",
        "knn": f"vote of the {args.neighbours} nearest by cosine, weight exp(cosine / {TEMPERATURE}); bank: {base}",
        "linear": f"top-1 of a logistic regression (L2, C = 0.1) on standardised frozen features; bank: {base}",
    }


def _report(figures: Mapping[str, Any], count: int) -> None:
    unreadable.report(figures["unreadable"] or (), count)


def _show(figures: Mapping[str, Any]) -> None:
    for name, value in figures.items():
        if value is None or name in ("reported", "definitions"):
            continue
        shown = f"{value:.4f}" if isinstance(value, float) else value
        beside = f" ({_beside(figures['reported'])})" if name == "top1" and "reported" in figures else ""
        print(f"{name:16} {shown}{beside}")
    for name, text in figures.get("definitions", {}).items():
        if name not in figures or figures[name] is not None:
            print(f"  {name}: {text}")


def _beside(reported: Mapping[str, Any] | None) -> str:
    if reported is None:
        return "not reported"
    size = f"{reported['input_size']} px"
    return f"reported {reported['top1']:.4f} on ImageNet-1k's validation images at {size}, {reported['source']}"


@contextmanager
def _claimed(out: Path | None) -> Any:
    """The folder beside OUT in which features are kept; None without OUT."""
    if out is None:
        yield None
    else:
        with claimed(out) as folder:
            yield folder
