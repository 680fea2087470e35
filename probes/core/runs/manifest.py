"""What was asked of a run and what it stands on: compared before a result is taken again or a run goes on.

Nothing here imports torch, so that a question that was answered before is answered at once.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from model_zoo.images import ImageSource, sources
from probes.core.output import MANIFEST
from probes.core.runs import identity
from probes.core.runs.identity import FileIdentity

FORMAT = 1
HELD: dict[str, Any] = {
    "asked": dict,
    "models": dict,
    "probes": dict,
    "undefined": list,
    "engine": str,
    "device": str,
    "batch_size": int,
    "shards": int,
    "resumed_after": int,
    "started": str,
    "finished": str,
    "seconds": (int, float),
    "files": list,
    "images": list,
}
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
        "models": [_resolved(model, "@") for model in arguments.model],
        "images": [text if text.startswith("scenes:") else str(Path(text).absolute()) for text in arguments.images],
        "limit": arguments.limit,
        "probes": sorted(set(arguments.probe)),
        "parameters": sorted(_resolved(parameter, "=") for parameter in arguments.param),
        "dtype": arguments.dtype,
        "device": arguments.device,
        "image_size": list(size) if isinstance(size, tuple) else size,
        "code": identity.code(arguments.probe),
        "versions": identity.versions(),
    }


def _resolved(text: str, mark: str) -> str:
    """The text with what follows its last mark made absolute and followed through links, where that is a file."""
    before, found, after = text.rpartition(mark)
    with suppress(OSError, ValueError, RuntimeError):
        path = Path(after).expanduser()
        if found and after and path.is_file():
            return f"{before}{mark}{path.resolve()}"
    return text


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
    """The manifest of a result as it stands; None where there is none that can be read."""
    try:
        found = json.loads((out / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def is_whole(found: Mapping[str, Any]) -> bool:
    """Whether a manifest that anyone may have written to has what is read from it, of the kinds that it has to be."""
    if any(not isinstance(found.get(name), kind) for name, kind in HELD.items()):
        return False
    images = all(_is_image(entry) for entry in found["images"])
    files = all(isinstance(entry, dict) and _is_file(entry.get("file")) for entry in found["files"])
    reasons = all(isinstance(one, list) and list(map(type, one)) == [str] * 3 for one in found["undefined"])
    models = all(isinstance(model, dict) and _is_model(model) for model in found["models"].values())
    return images and files and reasons and models


def _is_image(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or "file" not in entry:
        return False
    return (entry["file"] is None or _is_file(entry["file"])) and isinstance(entry.get("skipped", ""), str)


def _is_file(known: Any) -> bool:
    return isinstance(known, dict) and known.keys() == FileIdentity.__dataclass_fields__.keys()


def _is_model(model: Mapping[str, Any]) -> bool:
    said = all(isinstance(model.get(name), str) for name in ("model", "architecture", "weights_sha256", "dtype"))
    return said and isinstance(model.get("input_size"), list)


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


def other_file(known: Sequence[FileIdentity]) -> str | None:
    """The path of the first file that no longer holds what it held; None where all do."""
    return next((one.path for one in known if not identity.unchanged(one)), None)


def changed(entries: Sequence[Any], images: Sequence[ImageSource]) -> str | None:
    """The name of the first image that is no longer what was measured, or that is missing; None where all are."""
    for entry in entries:
        if entry.place >= len(images) or images[entry.place].name != entry.name:
            return str(entry.name)
        if entry.file is not None and not identity.unchanged(entry.file):
            return str(entry.name)
    return None
