"""Values of a link: what anyone may write behind the question mark."""

import random
import string
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from dashboard.controls import object_masks
from dashboard.images import gallery, sets
from dashboard.state import link, selection
from model_zoo.catalog import CATALOG
from model_zoo.loading import load
from probes.core import targets

EXPECTED: tuple[type[Exception], ...] = ()
SPEC = load("timm:test_vit@random:0").spec

PIECES = (
    "", " ", ".", "..", "/", "\\", "\x00", "\x1b[2J", "\n", "\u202e", "²", "٣", "𝟗", "é", "%00", "%", "inf", "-inf",
    "nan", "1e999", "-1", "0", "00", "1", "8/12", "12/8", "0/0", "1/1", "999/999", "9" * 400, "0.5,0.5", "0,1", "1,1",
    "-0.1,0", "mean", "max", "top", "cls", "similarity", "photo:", "photo:chelsea", "photo:../../etc/passwd", "scene:",
    "scene:0", "scene:01", "scene:99999", "scene:-1", "upload:",
    "upload:0123456789abcdef", "zip-", "zip-000000000000", "scenes-",
    "scenes-100", "scenes-999999999", "chosen", "timm:", "timm:vit_tiny_patch16_224", "timm:vit_tiny_patch16_224@",
    "timm:vit_tiny_patch16_224@/etc/passwd", "timm:x@random:0", "timm:test_vit@random:", "@random:inf", "@step-00100",
    "photo:chelsea@1,2,3,4", "photo:chelsea@300,2,3,4", "scene:0@0,0,0,0", "hf-hub:x/y", "local-dir:/", "<script>",
    "'\"`", "None", "True", "[]", "{}", "a,b", "&model=", "=",
)  # fmt: skip


def cases(seed: int, count: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every name of the link in turn, with a few values made of pieces that mean or resemble something."""
    chance = random.Random(seed)
    for number in range(count):
        name = link.NAMES[number % len(link.NAMES)]
        values = tuple(value(chance) for _ in range(chance.randrange(1, 5)))
        yield f"{number} {name}={values!r}"[:200], partial(read, name, values)


def value(chance: random.Random) -> str:
    """One value, of pieces or of anything."""
    if chance.random() < 0.2:
        return "".join(chr(chance.randrange(0xD800)) for _ in range(chance.choice((1, 8, 300))))
    pieces = [chance.choice((*PIECES, *CATALOG)) for _ in range(chance.choice((1, 1, 2, 3)))]
    return chance.choice(("", "", ":", "@", ",", "/")).join(pieces) + chance.choice(
        ("", "", chance.choice(string.printable))
    )


def read(name: str, values: tuple[str, ...]) -> None:
    """What the pages make of a name's values: something that can be used, or a sentence."""
    if name == "model":
        kept, notes = selection.read_models(values)
        assert all(selection.reference(model).weights != "file" for model in kept), "a link opens no file"
        assert all(notes)
    elif name == "image":
        kept, notes = selection.read_images(values)
        assert all(gallery.title(image) and gallery.size(image) for image in kept)
        assert all(len(note) < 200 for note in notes)
    elif name == "set":
        chosen = selection.Selection(("timm:test_vit@random:0",), ("photo:chelsea",))
        assert all(sets.named(text, chosen.images).images for text in values)
    elif name == "layer":
        for depth in filter(None, map(selection.read_depth, values)):
            assert all(0 <= depth.index(layers) < layers for layers in (1, depth.of, 40))
    elif name in ("head", "heads"):
        assert all(head in ("mean", "max") or int(head) > 0 for head in filter(None, map(selection.read_head, values)))
    elif name in ("at", "pick", "query"):
        for point in filter(None, map(selection.read_point, values)):
            assert all(0 <= part < 1 for part in point)
            assert selection.read_point(selection.write_point(point))
    elif name == "box":
        for match in filter(None, map(object_masks._LINKED.fullmatch, values)):
            assert all(int(match[i]) < 1000 for i in (2, 3, 4, 5))
    elif name == "of":
        assert all(gallery.missing(text) is None or gallery.missing(text).endswith(".") for text in values)
    elif name == "target":
        for text in values:
            index = targets.class_index(SPEC, text)
            assert index is None or 0 <= index < SPEC.classes
            assert targets.undefined(SPEC, text) != ""
