"""Names of a model's classes, and which output a name, a WordNet id or a number means."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

WORDNET_ID = re.compile(r"n\d{8}")
SHOWN = 3
"""Names that a message holds."""


class LabelError(ValueError):
    """Classes that are not the model's; the message says what was expected, what came and what to do."""


def class_names(model: nn.Module) -> tuple[str, ...]:
    """What each output of the classifier is called, in order; empty where that is not known.

    Names come from the checkpoint's own configuration where it has them; otherwise from ImageNet's lists in timm, by
    the number of classes (1,000 means ImageNet-1k, and so on), as WordNet's synonyms separated by commas.
    """
    if own := _own(model):
        return own
    subset = _subset(model)
    return _imagenet(subset) if subset else ()


def wordnet_ids(model: nn.Module) -> tuple[str, ...]:
    """The WordNet id (``n01440764``) of each output, in order; empty where the classes are not known as ImageNet's."""
    if own := _own(model):
        return own if all(WORDNET_ID.fullmatch(name) for name in own) else ()
    subset = _subset(model)
    return tuple(ImageNetInfo(subset).label_names()) if subset else ()


def _own(model: nn.Module) -> tuple[str, ...]:
    classes = int(getattr(model, "num_classes", 0) or 0)
    own = getattr(model, "pretrained_cfg", {}).get("label_names") or ()
    return tuple(own) if classes and len(own) == classes else ()


def _subset(model: nn.Module) -> str | None:
    return infer_imagenet_subset({"num_classes": int(getattr(model, "num_classes", 0) or 0)})


@cache
def _imagenet(subset: str) -> tuple[str, ...]:
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def outputs_of(names: Iterable[str], labels: Sequence[str], ids: Sequence[str], classes: int) -> dict[str, int]:
    """Which output of a classifier each name of a class means.

    All names are read in the same way: as WordNet ids; or as the classes' names (all synonyms as they stand, the first
    of them, or one that no other class has; an underscore is a space, case does not count); or as numbers from 0.

    Args:
        names: of folders, or of a table.
        labels: what each output is called, in order; empty where that is not known.
        ids: the WordNet id of each output, in order; empty where they have none.
        classes: outputs of the classifier.

    Raises:
        LabelError: names that are no class of the model, or the name of several.
    """
    wanted = sorted(set(names))
    called, shared = _by_name(labels)
    by_id = {identity: output for output, identity in enumerate(ids)}
    readings: tuple[Callable[[str], int | None], ...] = (
        by_id.get,
        lambda name: called.get(_plain(name)),
        lambda name: int(name) if name.isascii() and name.isdigit() and int(name) < classes else None,
    )
    found = max(({name: output for name in wanted if (output := read(name)) is not None} for read in readings), key=len)
    if len(found) == len(wanted):
        return found
    unknown = [name for name in wanted if name not in found]
    raise LabelError(_said(unknown, len(wanted), shared, labels, ids, classes))


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _by_name(labels: Sequence[str]) -> tuple[dict[str, int], Mapping[str, list[int]]]:
    """What each name means, the fullest form first; and names that several classes have."""
    called: dict[str, int] = {}
    shared: dict[str, list[int]] = {}
    for first, last in ((None, None), (0, 1), (0, None)):
        owners = defaultdict(list)
        for output, label in enumerate(labels):
            synonyms = label.split(",")
            forms = synonyms[first:last] if first is not None else [label] * (len(synonyms) > 1)
            for name in {_plain(form) for form in forms}:
                owners[name].append(output)
        for name, outputs in owners.items():
            if len(outputs) == 1 and name not in shared:
                called.setdefault(name, outputs[0])
            elif name not in called:
                shared[name] = outputs
    return called, shared


def _said(
    unknown: Sequence[str],
    count: int,
    shared: Mapping[str, list[int]],
    labels: Sequence[str],
    ids: Sequence[str],
    classes: int,
) -> str:
    came = ", ".join(repr(name[:40]) for name in unknown[:SHOWN]) + (", ..." if len(unknown) > SHOWN else "")
    several = [name for name in unknown if _plain(name) in shared]
    why = f"{len(unknown)} of the {count} classes are none of the model's: {came}"
    if several:
        outputs = " and ".join(map(str, shared[_plain(several[0])]))
        why = f"{several[0]!r} is the name of several classes of the model ({outputs})"
    forms = [f"numbers from 0 to {classes - 1}"]
    if labels:
        forms.insert(0, f"names such as {labels[0].split(',')[0]!r}")
    if ids:
        forms.insert(0, f"WordNet ids such as {ids[0]}")
    return (
        f"{why}. Its {classes} classes are written as {', or as '.join(forms)}, all in one way: name the folders or "
        "--labels so, say with --classes FILE what each output is called, or leave the classifier out with "
        "--figures knn linear."
    )
