"""What people read names models as people call them: never a key, a MODEL string or the name of an architecture."""

import re
from collections.abc import Callable, Iterator

import pytest
from google.protobuf.message import Message
from streamlit.testing.v1 import AppTest

from dashboard import navigation
from dashboard.controls import model_search
from dashboard.draw import frame
from dashboard.state.models import architecture, reference, title
from dashboard.state.selection import read_models
from dashboard.views import zoo
from model_zoo import hub
from model_zoo.reference import ModelError
from tests.dashboard.test_pages import HOME
from tests.dashboard.turning import turn_to

SHIPPED, RANDOM, REFUSED = "scenes-vit-supervised", "timm:scenes_vit@random:0", "dino-s16"
INTERNAL = re.compile(r"scenes[-_](vit|deit|resnet)\w*|dino-s16|vit_small_patch16\w*|timm:\w+|@random|-random-\d")
NO_WORDS = {"code_text", "id", "widget_id", "form_id", "key", "url", "query_string", "element_id", "options_binding"}
"""Fields that are no words: the name to type on a model's card, ids, addresses."""
MARKDOWN = re.compile(r".{,30}(?:\*\*|\]\(|`).{,20}")
WITHOUT_FILES = {"glossary", "zoo", "digits", "scenes", "masked-reconstruction"}  # the last shows other models
WITHOUT_FILES |= {"results", "video"}  # there is no run; a film is of all models or none, and one is refused
ADDRESSES = [address for address, _, _ in navigation.pages()]


def words(message: Message) -> Iterator[str]:
    """Every text of an element's message to the browser, charts and components included."""
    for field, value in message.ListFields():
        if field.name in NO_WORDS:
            continue
        for one in value if field.is_repeated else [value]:
            if isinstance(one, Message):
                yield from words(one)
            elif isinstance(one, str):
                yield one


def on_screen(at: AppTest) -> list[str]:
    messages = (getattr(element, "proto", None) for element in at._tree)
    return [text for message in messages if isinstance(message, Message) for text in words(message)]


def test_titles_are_what_people_say() -> None:
    assert title(SHIPPED) == "ViT, supervised"
    assert title(RANDOM) == "ViT, untrained (seed 0)"
    assert title("timm:vit_small_patch16_224@random:3") == "ViT-S/16, untrained (seed 3)"
    assert title("scenes-vit-dino@step-00390") == "ViT, DINO, step 390"
    assert architecture("beit_base_patch16_224") == "BEiT-B/16"
    assert reference("timm:vit_small_patch16_224.dino").source == "dino-s16", (
        "the weights that the catalog has a name for"
    )
    assert read_models(["dino-s16", "timm:vit_small_patch16_224.dino"])[0] == ("dino-s16",)


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_internal_name_is_on_the_screen_or_in_a_file(address, settle, monkeypatch) -> None:
    def refuse(*_):
        raise ModelError("The hub is out of reach: use a shipped model.")

    saved: dict[str, Callable[[], str] | None] = {}
    footer = frame.footer

    def remembering(*texts, svg=None, csv=None, **more) -> None:
        saved.update(svg=svg, csv=csv)
        footer(*texts, svg=svg, csv=csv, **more)

    monkeypatch.setattr(frame, "footer", remembering)
    monkeypatch.setattr(hub, "fetch", refuse)
    page = next(page for name, page, _ in navigation.pages() if name == address)
    at = AppTest.from_file(HOME, default_timeout=120)
    at.query_params["model"] = [SHIPPED, RANDOM, REFUSED]
    at.query_params["points"] = "11 × 11"  # of the loss landscape, whose usual number takes a minute
    at.query_params["image"], at.query_params["set"] = [f"scene:{i}" for i in range(4)], ["chosen"]
    at.run()
    if not page.default:
        turn_to(at, address)
        at.run()
    said = on_screen(at)
    said += on_screen(settle(at))
    assert not at.exception
    files = [made() for made in saved.values() if made]
    assert files or address in WITHOUT_FILES
    assert not [found.group() for text in files for found in MARKDOWN.finditer(text)]
    said += files
    typed = {model_search.listed(model) for model in model_search.offered()}  # what finds a model
    said = [text for text in said if text not in typed and zoo.STRINGS.strip() not in text]  # how names are written
    found = {text[max(m.start() - 60, 0) : m.end() + 40] for text in said for m in INTERNAL.finditer(text)}
    assert not found
