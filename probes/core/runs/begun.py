"""What a run began with, kept in its folder: `--resume` goes on with just that."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_zoo.images import ImageSource, sources
from probes.core.base import Probe
from probes.core.parameters import UsageError
from probes.core.runs import manifest
from probes.core.runs.folder import RUN, RunFolder
from probes.core.runs.identity import FileIdentity, identify


@dataclass
class Begun:
    """A run's folder and what is kept there beside the shards.

    Attributes:
        folder: the folder.
        asked: the question.
        names: of all images.
        compared: the images, beside those that are measured, that probes compare with.
        turns: labels of the models that are in memory together, turn after turn; None before that is decided.
    """

    folder: RunFolder
    asked: dict[str, Any]
    names: list[str]
    compared: list[FileIdentity]
    turns: list[list[str]] | None = None

    def decide(self, choose: Callable[[], list[list[str]]]) -> list[list[str]]:
        """The turns: as before where a run goes on, as its shards are of all models of a turn."""
        if self.turns is None:
            self.turns = choose()
            self.keep()
        return self.turns

    def keep(self) -> None:
        """Put it on disk."""
        compared = [known.as_json() for known in self.compared]
        document = {"asked": self.asked, "names": self.names, "compared": compared, "turns": self.turns}
        self.folder.write_json(RUN, document)


def begin(
    folder: RunFolder,
    asked: dict[str, Any],
    images: Sequence[ImageSource],
    chosen: Mapping[str, Probe],
    *,
    resume: bool,
    say: Callable[[str], None],
) -> Begun:
    """Go on where a run was broken off, or clear what it left.

    Raises:
        UsageError: what was broken off stands on something else.
    """
    names = [image.name for image in images]
    old = folder.read_json(RUN)
    if resume and old is not None:
        if (what := manifest.difference(old["asked"], asked)) is not None:
            raise UsageError(cannot(what))
        if old["names"] != names:
            raise UsageError(cannot(f"there were {len(old['names'])} images and now others, {len(names)}"))
        before = [FileIdentity(**known) for known in old["compared"]]
        if (name := manifest.other_file(before)) is not None:
            raise UsageError(cannot(f"{name} is not what was measured"))
        return Begun(folder, asked, names, before, old["turns"])
    if any(folder.path.glob("*.npz")):
        say("What a run that was broken off had measured is discarded; --resume would have kept it.")
    folder.empty()
    begun = Begun(folder, asked, names, [identify(path) for path in _compared(chosen)])
    begun.keep()
    return begun


def cannot(why: str) -> str:
    """Why a run does not go on, and what to do."""
    return f"--resume cannot go on with the run that was broken off: {why}. Ask for the same, or leave --resume out."


def _compared(chosen: Mapping[str, Probe]) -> list[Path]:
    texts = [of for of in (getattr(probe, "of", None) for probe in chosen.values()) if isinstance(of, str)]
    paths = [source.path for text in dict.fromkeys(texts) for source in sources([text])]
    return [path for path in paths if path is not None]
