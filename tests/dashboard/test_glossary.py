"""The glossary: every entry of the document is on the page, and what a control is about is told on hover."""

import re

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import navigation
from dashboard.controls import glossary
from tests.dashboard.test_pages import ADDRESSES, app
from tests.dashboard.turning import turn_to

CONTROLS = {"Slider", "Selectbox", "MultiSelect", "ButtonGroup", "Checkbox", "NumberInput"}
CALLED = {
    "Mass inside the mask": "mass mask",
    "Mass inside the outline": "mass mask",
    "Explain": "relevance",
    "Similar to": "embedding",
    "Vector of an image": "embedding",
    "Scale": "shared scale",
}
"""Controls that have another name than the term that they are about."""


def test_every_entry_of_the_document_is_read():
    text = glossary.SOURCE.read_text(encoding="utf-8")
    words = glossary.entries(text)
    assert len(words) == sum(line.startswith("**") for line in text.splitlines())
    assert list(words) == sorted(words, key=str.casefold)
    assert all(meaning[0].isupper() and meaning.endswith(".") for meaning in words.values())
    assert words["IoU"].startswith("Intersection over union")


def about(label: str) -> list[str]:
    """The terms of the glossary that a control's label holds, in singular or plural, or stands for."""
    plain = label.casefold()
    named = [word for word in glossary.words() if re.search(rf"\b{re.escape(word.casefold())}(s|es)?\b", plain)]
    return [*named, *([CALLED[label]] if label in CALLED else [])]


def controls(at: AppTest) -> list[tuple[str, str]]:
    """Label and hover text of every control on the screen."""
    protos = (getattr(element, "proto", None) for element in at._tree)
    return [(p.label, p.help) for p in protos if p is not None and p.DESCRIPTOR.name in CONTROLS]


def test_labels_are_matched_with_terms():
    assert about("From layer") == ["layer"]
    assert about("Patches") == ["patch"]
    assert about("Mass inside the mask") == ["mass mask"]
    assert about("Seed") == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_control_of_a_term_tells_what_it_means(address, settle):
    page = next(page for name, page, _ in navigation.pages() if name == address)
    at = app().run()
    if not page.default:
        turn_to(at, address)
    drawn = controls(settle(at))
    assert drawn or address in ("glossary", "results")  # which have none, the latter before there is a run
    silent = [(label, word) for label, told in drawn for word in about(label) if glossary.words()[word] not in told]
    assert not silent
