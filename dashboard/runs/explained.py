"""What a probe's docstring says, for people who read a result: the formula, the convention, what it does not show."""

import inspect
import re
import textwrap
from dataclasses import dataclass

import probes

NOT_SHOWN = "What this does not show"
HEADINGS = {"Args": "Parameters", "Returns": "What is stored", "Note": NOT_SHOWN, "Reference": "Source"}
SECTION = re.compile(r"^(Args|Returns|Note|Raises|Reference):$", re.MULTILINE)
FORMULA = re.compile(r"^\.\. math::(.*(?:\n[ \t]*\S.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Explained:
    """The parts of a docstring, with the marks ``:math:`` and double backticks as they were written.

    Attributes:
        text: what is measured.
        formulas: LaTeX.
        parts: heading to text: what the parameters mean, what is stored, what it does not show, where it is from.
    """

    text: str
    formulas: tuple[str, ...]
    parts: dict[str, str]


def explained(probe: str) -> Explained | None:
    """What the probe of this name says of itself; None where there is none today."""
    if probe not in probes.available():
        return None
    begun, *sections = SECTION.split(inspect.getdoc(probes.load(probe)) or "")
    parts = {
        HEADINGS[name]: textwrap.dedent(text.strip("\n")).strip()
        for name, text in zip(sections[::2], sections[1::2], strict=True)
        if name in HEADINGS
    }
    formulas = tuple(" ".join(found.split()) for found in FORMULA.findall(begun))
    return Explained(FORMULA.sub("", begun).strip(), formulas, parts)


def markdown(text: str) -> str:
    """Text of a docstring as Markdown."""
    return re.sub(r":math:`([^`]+)`", r"$\1$", text).replace("``", "`")
