"""What was asked of a run and what it stands on: compared before a result is taken again or a run goes on.

Nothing here imports torch, so that a question that was answered before is answered at once.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_zoo.images import ImageSource, sources
from probes.core.output import MANIFEST
from probes.core.runs import identity
from probes.core.runs.identity import FileIdentity

FORMAT = 1
CALLED = {
    "models": "--model",
    "images": "--images",
    "limit": "--limit",
    "probes": "--probe",
    "parameters": "--param",
    "dtype": "--dtype",
    "device": "--device",
    "image_size": "--image-size",
    "code": "the code of this program",
    "versions": "the versions of packages",
}


def asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """What determines the numbers of a run, as far as it is said on the command line, paths absolute."""
    size = arguments.image_size
    return {
        "models": [_absolute(model, "@") for model in arguments.model],
        "images": [text if text.startswith("scenes:") else str(Path(text).absolute()) for text in arguments.images],
        "limit": arguments.limit,
        "probes": sorted(set(arguments.probe)),
        "parameters": sorted(_absolute(parameter, "=") for parameter in arguments.param),
        "dtype": arguments.dtype,
        "device": arguments.device,
        "image_size": list(size) if isinstance(size, tuple) else size,
        "code": identity.code(arguments.probe),
        "versions": identity.versions(),
    }


def _absolute(text: str, mark: str) -> str:
    """The text with what follows its last mark made absolute, where that is a file."""
    before, found, after = text.rpartition(mark)
    return f"{before}{mark}{Path(after).absolute()}" if found and after and Path(after).is_file() else text


def key(question: Mapping[str, Any]) -> str:
    """A digest of what was asked."""
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """What two questions differ in, for a person; None where they are one."""
    for name, called in CALLED.items():
        before, now = old.get(name), new.get(name)
        if before != now:
            if name in ("code", "versions"):
                return f"{called} changed"
            return f"{called} was {_said(before)}, not {_said(now)}"
    return None


def _said(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "left out"
    return "left out" if value is None else str(value)


def read(out: Path) -> dict[str, Any] | None:
    """The manifest of a result; None where there is none that can be read."""
    try:
        found = json.loads((out / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def answers(manifest: Mapping[str, Any], arguments: argparse.Namespace) -> bool:
    """Whether a result is just what is asked for: the same question, and every file behind it unchanged.

    Files are told by what the file system says of them, where that is enough, and else by their bytes.
    """
    if manifest["asked"] != asked(arguments) or (arguments.strict and any("skipped" in e for e in manifest["images"])):
        return False
    images = sources(arguments.images, arguments.limit)
    if [image.name for image in images] != [entry["name"] for entry in manifest["images"]]:
        return False
    entries = zip(images, manifest["images"], strict=True)
    unread = any(image.path is not None and entry["file"] is None for image, entry in entries)
    return not (unread and manifest["shards"]) and all(identity.unchanged(known) for known in _files(manifest))


def _files(manifest: Mapping[str, Any]) -> Iterator[FileIdentity]:
    for entry in [*manifest["images"], *manifest["files"]]:
        if entry["file"] is not None:
            yield FileIdentity(**entry["file"])


def changed(entries: Sequence[Any], images: Sequence[ImageSource]) -> str | None:
    """The name of the first image that is no longer what was measured, or that is missing; None where all are."""
    for entry in entries:
        if entry.place >= len(images) or images[entry.place].name != entry.name:
            return str(entry.name)
        if entry.file is not None and not identity.unchanged(entry.file):
            return str(entry.name)
    return None
