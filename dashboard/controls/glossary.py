"""What the words of the project mean: docs/glossary.md, for the page of words and for every control on hover."""

import re
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "docs" / "glossary.md"


def entries(text: str) -> dict[str, str]:
    """Word to meaning, in the order of the document: paragraphs that begin with a word in bold."""
    found = re.findall(r"^\*\*(.+?)\*\* (.+?)(?=\n\n|\Z)", text.strip(), flags=re.DOTALL | re.MULTILINE)
    return {word: " ".join(meaning.split()) for word, meaning in found}


@cache
def words() -> dict[str, str]:
    """The words of the document."""
    return entries(SOURCE.read_text(encoding="utf-8"))


def meaning(word: str, more: str = "") -> str:
    """What a control says on hover.

    Args:
        word: of the glossary.
        more: what is particular to this control.

    Raises:
        KeyError: the glossary has no such word.
    """
    return f"{words()[word]} {more}".strip()
