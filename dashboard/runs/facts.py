"""What a run's manifest says, read as what anyone may have written: a type that does not fit makes it damaged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from dashboard.draw import palette
from dashboard.state import models
from model_zoo.reference import ModelError
from probes.core.output import OutputError

MOST_CHARACTERS = 300


@dataclass(frozen=True)
class Model:
    """A model of a run: its MODEL string, architecture, SHA-256 of the weights, input and type of its passes."""

    source: str
    architecture: str
    weights: str
    size: str
    dtype: str

    @property
    def title(self) -> str:
        """What people call it; the MODEL string where it is none that this dashboard knows."""
        try:
            return models.title(self.source)
        except ModelError:
            return self.source


@dataclass(frozen=True)
class Facts:
    """What a run was of.

    Attributes:
        models: label to model.
        images: images that were measured, in order: name to SHA-256, empty where it is no file.
        skipped: images that could not be read: name and reason.
        probes: probe to its title and parameters.
        settings: name to what was set, in the order of the command.
        versions: package to version.
        measured: where, when and for how long.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    images: tuple[tuple[str, str], ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    probes: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    measured: str = ""


def read(document: Mapping[str, Any] | None) -> Facts:
    """Take what is shown out of a manifest; without one nothing is known.

    Raises:
        OutputError: it is damaged.
    """
    if document is None:
        return Facts()
    try:
        return _read(document)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise OutputError("The run's manifest.json is damaged; measure anew.") from None


def _read(document: Mapping[str, Any]) -> Facts:
    entries = document["images"]
    asked, seconds = document["asked"], float(document["seconds"])
    measured = [entry for entry in entries if "skipped" not in entry]
    duration = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{palette.number(seconds)} s"
    after = document["resumed_after"]
    resumed = f", broken off and resumed after {int(after):,} images" if after else ""
    settings = {
        "Images": ", ".join(map(_short, asked["images"])),
        "At most": "" if asked["limit"] is None else f"{int(asked['limit']):,} images",
        "Parameters": ", ".join(map(_short, asked["parameters"])),
        "Type": _short(asked["dtype"]),
        "Device": _short(asked["device"]),
        "Image size": "" if asked["image_size"] is None else _short(asked["image_size"]),
    }
    return Facts(
        {_short(label): _model(about) for label, about in document["models"].items()},
        tuple((_short(entry["name"]), (entry["file"] or {}).get("sha256", "")) for entry in measured),
        tuple((_short(entry["name"]), _short(entry["skipped"])) for entry in entries if "skipped" in entry),
        {
            str(name): (
                _short(about["title"]),
                {str(k): _short(v) for k, v in about["parameters"].items() if v is not None},
            )
            for name, about in document["probes"].items()
        },
        {name: text for name, text in settings.items() if text},
        {_short(name): _short(text) for name, text in asked["versions"].items()},
        f"{_short(document['device'])}, {_short(document['finished'])[:16].replace('T', ' ')} UTC, {duration}{resumed}",
    )


def _model(about: Mapping[str, Any]) -> Model:
    size = "×".join(str(int(side)) for side in about["input_size"])
    source, architecture, weights = (_short(about[key]) for key in ("model", "architecture", "weights_sha256"))
    return Model(source, architecture, weights, size, _short(about["dtype"]))


def _short(value: Any) -> str:
    """Text of one line, no path of the machine that measured: of a file its name."""
    if isinstance(value, list):
        value = "×".join(map(str, value))
    text = "".join(c if c.isprintable() else " " for c in str(value))[:MOST_CHARACTERS]
    before, mark, after = (
        text.rpartition("@") if "@/" in text else text.rpartition("=") if "=/" in text else ("", "", text)
    )
    return f"{before}{mark}{PurePath(after).name}" if after.startswith("/") else text
