"""The zoo on the command line: ``python -m model_zoo list | train | evaluate``."""

import argparse
import json
import sys
from collections.abc import Sequence
from types import ModuleType

from model_zoo.catalog import CATALOG, CatalogEntry
from model_zoo.command_line import Parser, leave
from model_zoo.reference import ModelError


def _train() -> ModuleType:
    from model_zoo.training import command

    return command


def _evaluate() -> ModuleType:
    from probes.core.evaluation import command  # upward: it measures with the probes' capture, masks and scores

    return command


# Their modules import torch, so only the one that is asked for is imported.
COMMANDS = {
    "train": (_train, "train a small model on procedural scenes or on images"),
    "evaluate": (_evaluate, "measure a model on held-out images"),
}


def describe(entry: CatalogEntry) -> dict[str, str | int | list[int]]:
    """The facts of one entry as ``list --json`` gives them. These names are stable."""
    return {
        "key": entry.key,
        "family": entry.family,
        "objective": entry.objective,
        "weights": entry.weights,
        "parameters": entry.parameters,
        "patch": entry.patch,
        "input_size": list(entry.input_size),
        "prefix_tokens": entry.prefix_tokens,
        "licence": entry.licence,
        "paper": entry.paper,
    }


def list_models(arguments: argparse.Namespace) -> int:
    """Print the catalog as a table or as JSON."""
    if arguments.json:
        print(json.dumps([describe(entry) for entry in CATALOG.values()], indent=1))
        return 0
    print(
        f"{'key':22} {'weights':8} {'parameters':>10} {'patch':>5} {'input':>8} {'prefix':>6}  training, licence, paper"
    )
    for entry in CATALOG.values():
        height, width = entry.input_size
        patch = entry.patch or "-"
        size = f"{height}x{width}"
        facts = f"{entry.parameters / 1e6:9.1f}M {patch:>5} {size:>8} {entry.prefix_tokens:>6}"
        print(f"{entry.key:22} {entry.weights:8} {facts}  {entry.objective}, {entry.licence}, arXiv:{entry.paper}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 2 for bad input, told in one line on stderr."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(prog="python -m model_zoo", description="The models: what there is, training, evaluation.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,train,evaluate}")
    listing = commands.add_parser("list", help="the catalog")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=list_models)
    for name, (imported, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if argv[:1] == [name]:
            module = imported()
            module.configure(command)
            command.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except ModelError as error:
        print(f"{parser.prog} {arguments.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    leave(main)
