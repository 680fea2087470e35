"""How a model is named: the MODEL strings of the command line and of links.

``KEY``, ``KEY@step-00390`` (a shipped snapshot of its training), ``timm:NAME``, ``timm:NAME@random:SEED`` or
``timm:NAME@FILE``, or ``trained:ID`` (held in this process), each with ``LABEL=`` in front where wanted.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_zoo import trained
from model_zoo.catalog import CATALOG, CatalogEntry

Weights = Literal["shipped", "hub", "random", "file", "trained"]

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()-]{0,63}")
TIMM_NAME = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)?")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz")
LARGEST_SEED = 2**63 - 1


class ModelError(Exception):
    """A model that cannot be named, found or loaded. The message is one sentence meant for the user."""


@dataclass(frozen=True)
class ModelReference:
    """One model with one set of weights, and what a figure calls it.

    Attributes:
        label: Name in results and legends; a group of the result on disk, so it holds no slash and no plus.
        key: Catalog key, or None for a model named by its timm name.
        timm_name: Name that ``timm.create_model`` takes, with its tag where it has one.
        weights: Where the weights come from.
        seed: Seed of random weights, else None.
        path: Checkpoint file, a snapshot's too, else None.
        step: Step of the training that a snapshot was taken after, else None.
        identity: Name of a model that was trained in this process, else None.
    """

    label: str
    key: str | None
    timm_name: str
    weights: Weights
    seed: int | None = None
    path: Path | None = None
    step: int | None = None
    identity: str | None = None

    @property
    def source(self) -> str:
        """The MODEL string without its label: two references with one source are the same model."""
        if self.key is not None:
            return self.key if self.step is None else f"{self.key}@{step_name(self.step)}"
        match self.weights:
            case "random":
                return f"timm:{self.timm_name}@random:{self.seed}"
            case "trained":
                return f"trained:{self.identity}"
            case "file":
                return f"timm:{self.timm_name}@{self.path}"
            case _:
                return f"timm:{self.timm_name}"


def parse(text: str, *, allow_files: bool = True) -> ModelReference:
    """Read one MODEL string.

    Args:
        text: ``[LABEL=]MODEL``.
        allow_files: Whether ``timm:NAME@FILE`` may name a file of this machine. A page that takes its models from a
            link says no, or a link could have the server open any file.

    Raises:
        ModelError: The string names no model; the message says what would.
    """
    label, model = _split_label(text.strip())
    if not model:
        raise ModelError(f"Expected a model, got {text!r}: give a catalog key or timm:NAME.")
    if model in CATALOG:
        entry = CATALOG[model]
        return ModelReference(label or entry.key, entry.key, entry.timm_name, entry.weights)
    key, _, name = model.partition("@")
    if key in CATALOG:
        return _snapshot(label, CATALOG[key], name)
    if model.startswith("trained:"):
        return _trained(label, model.removeprefix("trained:"))
    if not model.startswith("timm:"):
        way_on = "see `python -m model_zoo list`" if allow_files else "choose one of the catalog, or write timm:NAME"
        raise ModelError(f"No model is called {model!r}{_nearest(model, CATALOG)}: {way_on}.")
    name, at, origin = model.removeprefix("timm:").partition("@")
    name = _known_timm_name(name, wants_hub=not at)
    if not at:
        return ModelReference(label or name, None, name, "hub")
    if origin.startswith("random:") or origin == "random":
        seed = _seed(origin.removeprefix("random").removeprefix(":"))
        return ModelReference(label or f"{name}-random-{seed}", None, name, "random", seed=seed)
    if not allow_files:
        raise ModelError("A file cannot be named here: use a catalog key, timm:NAME or timm:NAME@random:SEED.")
    path = checkpoint_path(origin)
    return ModelReference(label or _as_label(f"{name}-{path.stem}"), None, name, "file", path=path)


def _trained(label: str, identity: str) -> ModelReference:
    held = trained.get(identity)
    if held is None:
        raise ModelError(f"The model trained:{identity[:40]} is no longer held on this server: train it again.")
    return ModelReference(label or held.label, None, held.timm_name, "trained", identity=identity)


def step_name(step: int) -> str:
    """What a snapshot is called in a MODEL string."""
    return f"step-{step:05d}"


def _snapshot(label: str, entry: CatalogEntry, name: str) -> ModelReference:
    """A snapshot by its name, which is looked up among those that are shipped and never used as a path."""
    known = {step_name(step): (step, path) for step, path in entry.snapshots().items()}
    if not known:
        raise ModelError(f"{entry.key} has no snapshots of its training: write {entry.key} alone.")
    if name not in known:
        raise ModelError(f"{entry.key} has no snapshot {name[:40]!r}: its snapshots are {', '.join(known)}.")
    step, path = known[name]
    named = label or f"{entry.key}-{name}"
    return ModelReference(named, entry.key, entry.timm_name, entry.weights, path=path, step=step)


def parse_all(texts: Iterable[str], *, allow_files: bool = True) -> tuple[ModelReference, ...]:
    """Read several MODEL strings and see that no label occurs twice.

    Raises:
        ModelError: A string names no model, or two models would share a label.
    """
    references = tuple(parse(text, allow_files=allow_files) for text in texts)
    label, times = Counter(reference.label for reference in references).most_common(1)[0] if references else ("", 0)
    if times > 1:
        raise ModelError(f"{times} models are labelled {label!r}: put a LABEL= of its own in front of each.")
    return references


def checkpoint_path(text: str) -> Path:
    """The checkpoint file that ``text`` names, absolute.

    Raises:
        ModelError: No such file, a folder, or not a kind of checkpoint that can be read.
    """
    if not text:
        raise ModelError("Expected a checkpoint file after @, got nothing: write timm:NAME@FILE or timm:NAME@random:0.")
    try:
        path = Path(text).expanduser().resolve()
        is_file, exists = path.is_file(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{text!r} is not a usable path: give a checkpoint file.") from error
    if not is_file:
        found = "is not a file" if exists else "does not exist"
        raise ModelError(f"The checkpoint {text!r} {found}: give a .safetensors, .pth or .npz file.")
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f"The checkpoint {path.name!r} is none of {', '.join(SUFFIXES)}: give a file of those kinds.")
    return path


def _split_label(text: str) -> tuple[str, str]:
    before, equals, after = text.partition("=")
    if not equals or ":" in before or "@" in before:
        return "", text
    if not LABEL.fullmatch(before.strip()):
        raise ModelError(f"{before!r} cannot be a label: use up to 64 letters, digits, spaces, dots, dashes, brackets.")
    return before.strip(), after.strip()


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > LARGEST_SEED:
        raise ModelError(f"Expected a seed from 0 to {LARGEST_SEED}, got {text!r}: write for example @random:0.")
    return int(text)


def _known_timm_name(name: str, *, wants_hub: bool) -> str:
    if not TIMM_NAME.fullmatch(name):
        raise ModelError(f"{name!r} is not a timm model name: write for example timm:vit_small_patch16_224.dino.")
    import timm  # takes seconds, and a catalog key needs none of it

    import model_zoo.architectures  # noqa: F401 (registers the networks of the shipped models)

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ModelError(f"timm has no model {architecture!r}{_nearest(architecture, timm.list_models())}.")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:
        known = ", ".join(tags) or "none"
        raise ModelError(f"timm has no {architecture} tagged {tag!r}: its tags are {known}.") from None
    if wants_hub and not tags:
        raise ModelError(f"timm has no published weights for {architecture}: write timm:{architecture}@random:0.")
    return name


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = [other for other in names if other.startswith(name)][:3] or difflib.get_close_matches(name, names, n=3)
    return f" (nearest: {', '.join(close)})" if close else ""


def _as_label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ._()-]", "-", text)[:64]
