"""One result on disk, opened with care and read as little at a time as is shown."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import xarray as xr

from dashboard.cache import remember
from dashboard.runs import facts
from dashboard.runs.facts import Facts
from probes.core import output
from probes.core.output import OutputError
from probes.core.runs import manifest, reading, summary, under_way

FOLDER = "DASHBOARD_RUNS"
"""The environment variable that names the folder of runs; ``runs`` where it is not set."""
ENDING = ".zarr"
MOST_RUNS = 500
MOST_MODELS = 12
"""Models of a run that are drawn together."""
ENTRY_BYTES, KEPT_BYTES = 2**18, 2**24


@dataclass(frozen=True)
class Run:
    """A result: what it is called, where it lies, when it was written, what it was of, and probe to labels."""

    name: str
    path: Path
    written: int
    facts: Facts
    groups: Mapping[str, Sequence[str]]

    def datasets(self, probe: str) -> dict[str, xr.Dataset]:
        """Label, or ``LABEL+LABEL`` of a pair, to what is stored of a probe; nothing is read yet.

        Raises:
            OutputError: it is damaged.
        """
        return {label: summary.dataset(self.path, f"{probe}/{label}") for label in self.groups.get(probe, ())}

    def title(self, probe: str) -> str:
        """What people call a probe."""
        return self.facts.probes[probe][0] if probe in self.facts.probes else probe


def folder() -> Path:
    """Where the runs lie that the dashboard shows."""
    return Path(os.environ.get(FOLDER) or "runs")


def names() -> list[str]:
    """Results in the folder, the newest first: folders that end in .zarr, no links."""
    try:
        found = [entry for entry in os.scandir(folder()) if _is_result(entry)]
        newest = sorted(found, key=lambda entry: (-entry.stat(follow_symlinks=False).st_mtime, entry.name))
    except OSError:
        return []
    return [entry.name.removesuffix(ENDING) for entry in newest[:MOST_RUNS]]


def _is_result(entry: "os.DirEntry[str]") -> bool:
    plain = entry.name.isprintable() and not entry.name.startswith(".")
    return plain and entry.name.endswith(ENDING) and entry.is_dir(follow_symlinks=False)


def unfinished() -> list[str]:
    """A sentence for each run in the folder that is under way, or was broken off."""
    said = []
    for place in sorted(folder().glob(f".*{ENDING}.run"))[:MOST_RUNS]:
        name = place.name.removeprefix(".").removesuffix(".run")
        state = under_way.find(folder() / name)
        if state is None or not name.isprintable():
            continue
        minutes = (datetime.now(UTC) - state.written).total_seconds() / 60
        ago = (
            "less than a minute" if minutes < 1 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
        )
        turn = f" of turn {state.turn}" if state.turn > 1 else ""
        said.append(
            f"{name.removesuffix(ENDING)} is not whole yet: {state.done:,} of {state.images:,} images{turn} are kept, "
            f"the last written {ago} ago. It is shown here once it is whole; the same command with --resume goes on "
            "with one that was broken off."
        )
    return said


def of_folder(name: str) -> Run:
    """The result of this name in the folder.

    Raises:
        OutputError: there is none, or it cannot be opened; the message is one sentence.
    """
    if name not in names():
        raise OutputError("There is no such run in the folder of runs.")
    return opened(folder() / f"{name}{ENDING}")


def opened(path: Path) -> Run:
    """A result anywhere on the disk.

    Raises:
        OutputError: it is none of this program, or damaged; the message is one sentence.
    """
    try:
        if path.is_symlink() or not path.is_dir():
            raise OutputError(f"{path.name} is not a result of `python -m probes run`.")
        about = path.stat()
        return _opened(path.absolute(), about.st_ino, about.st_mtime_ns)
    except OSError as error:
        raise OutputError(f"{path.name} cannot be read: {error.strerror or error}.") from None


@remember(KEPT_BYTES, size=lambda _: ENTRY_BYTES)
def _opened(path: Path, inode: int, modified: int) -> Run:
    """A result is replaced as a whole, by another folder of the same name."""
    if output.not_ours(path) is not None:
        raise OutputError(f"{path.name} is not a result of `python -m probes run`.")
    reading.check(path)
    groups = {
        probe.name: tuple(sorted(label.name for label in probe.iterdir() if label.is_dir()))
        for probe in sorted(path.iterdir())
        if probe.is_dir()
    }
    return Run(path.name.removesuffix(ENDING), path, modified, facts.read(manifest.read(path)), groups)
