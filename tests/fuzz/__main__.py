"""Run every module of hostile input and print figures; exit code 1 if anything foreign was raised."""

import argparse
import importlib
import pkgutil
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("count", type=int, metavar="N", help="cases of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="MODULE", help="one module alone")
    arguments = parser.parse_args()
    names = sorted(module.name for module in pkgutil.iter_modules(fuzz.__path__) if module.name != "__main__")
    chosen = [arguments.only] if arguments.only in names else [n for n in names if not arguments.only and not alone(n)]
    found = [run(name, arguments.seed, arguments.count) for name in chosen]
    if not found:
        parser.error(f"there is no module {arguments.only!r}; choose from {', '.join(names)}")
    return 1 if any(found) else 0


def alone(name: str) -> bool:
    """Whether a module runs only when it is asked for."""
    return getattr(importlib.import_module(f"tests.fuzz.{name}"), "ALONE", False)


def run(name: str, seed: int, count: int) -> int:
    """Run one module; the number of foreign exceptions."""
    module = importlib.import_module(f"tests.fuzz.{name}")
    tries = refused = foreign = 0
    longest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        for case, call in module.cases(seed, count, Path(folder)):
            began = time.perf_counter()
            try:
                call()
            except module.EXPECTED:
                refused += 1
            except Exception:
                foreign += 1
                print(f"{name}: {case!r}\n{traceback.format_exc()}", file=sys.stderr)
            tries += 1
            longest = max(longest, (time.perf_counter() - began, case))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # of the process so far; kilobytes on Linux
    print(
        f"{name}: {tries} tries, {refused} refused, {foreign} foreign exceptions, "
        f"longest {longest[0]:.2f} s ({longest[1]}), peak {peak:.0f} MB",
        flush=True,
    )
    return foreign


if __name__ == "__main__":
    sys.exit(main())
