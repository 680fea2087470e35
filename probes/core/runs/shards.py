"""The shards of a run in its folder: written one by one, and read back when a run goes on."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.core.runs import stored
from probes.core.runs.folder import RunFolder
from probes.core.runs.measure import Entry, Shard


@dataclass(frozen=True)
class Provenance:
    """What the shards of a set of models stand on, beside the images; it must be one for all of them.

    Attributes:
        key: of what was asked.
        weights: digest of every model's weights.
        dtypes: type of every model's forward passes.
        device: where they ran.
        size: images of a shard.
    """

    key: str
    weights: dict[str, str]
    dtypes: dict[str, str]
    device: str
    size: int


@dataclass(frozen=True)
class Kept:
    """A shard on disk, without its sections.

    Attributes:
        path: its file.
        shard: its place and its images.
        provenance: what it stands on.
        batch_size: images of its last forward passes.
    """

    path: Path
    shard: Shard
    provenance: Provenance
    batch_size: int


def write(folder: RunFolder, group: int, shard: Shard, provenance: Provenance, batch_size: int) -> Kept:
    """Put a shard on disk, whole or not at all."""
    name = f"{group}-{shard.number:06d}.npz"
    header = Shard(shard.number, shard.first, shard.start, shard.stop, shard.entries)
    about = {"shard": header, "provenance": provenance, "batch_size": batch_size}
    folder.write(name, lambda file: stored.save(file, {"about": about, **shard.sections}))
    return Kept(folder.path / name, header, provenance, batch_size)


def found(folder: RunFolder, group: int) -> list[Kept]:
    """The shards of a set of models, from the first up to the first that is missing or damaged."""
    kept: list[Kept] = []
    while (one := _read(folder.path / f"{group}-{len(kept):06d}.npz")) is not None:
        if one.shard.start != (kept[-1].shard.stop if kept else 0):
            break
        kept.append(one)
    return kept


def _read(path: Path) -> Kept | None:
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:
                return None
        about = stored.read(path, "about")
        return Kept(path, about["shard"], about["provenance"], about["batch_size"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def entries(kept: Sequence[Kept]) -> list[Entry]:
    """Every image of the shards, in order."""
    return [entry for one in kept for entry in one.shard.entries]


def same_images(groups: Mapping[int, Sequence[Kept]]) -> str | None:
    """The name of the first image that was another for one set of models than for the first; None where all agree."""

    def content(entry: Entry) -> Any:
        return entry.name, bool(entry.skipped), entry.file and entry.file.sha256

    first, *others = [entries(kept) for kept in groups.values() if kept] or [[]]
    for other in others:
        for a, b in zip(first, other, strict=True):
            if content(a) != content(b):
                return a.name
    return None
