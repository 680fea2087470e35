"""The glossary: every entry of the document is on the page, and a part of a word finds it."""

from dashboard.views import glossary


def test_every_entry_of_the_document_is_read():
    text = glossary.SOURCE.read_text(encoding="utf-8")
    words = glossary.entries(text)
    assert len(words) == sum(line.startswith("**") for line in text.splitlines())
    assert list(words) == sorted(words, key=str.casefold)
    assert all(meaning[0].isupper() and meaning.endswith(".") for meaning in words.values())
    assert words["IoU"].startswith("Intersection over union")
