"""Probes from what is written on a command line."""

import dataclasses
from collections.abc import Sequence
from typing import Any, get_type_hints

import probes
from probes.core.base import Probe


class UsageError(ValueError):
    """Arguments that do not fit; the message is one sentence for a person."""


def make_probes(names: Sequence[str], parameters: Sequence[str]) -> dict[str, Probe]:
    """Probes with their parameters from ``NAME.KEY=VALUE``.

    Raises:
        UsageError: a probe or parameter that does not exist, or a value that does not fit.
    """
    given: dict[str, dict[str, Any]] = {}
    for name in names:
        if name not in probes.available():
            raise UsageError(f"There is no probe named {name!r}; choose from {', '.join(probes.available())}.")
        given[name] = {}
    for text in parameters:
        target, equals, value = text.partition("=")
        name, dot, key = target.partition(".")
        if not (equals and dot):
            raise UsageError(f"--param {text!r} is not understood; write NAME.KEY=VALUE.")
        if name not in given:
            raise UsageError(f"--param {text!r} is for a probe that is not asked for; add --probe {name}.")
        given[name][key] = _value(name, key, value)
    chosen = {}
    for name, arguments in given.items():
        try:
            chosen[name] = probes.load(name)(**arguments)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
    return chosen


def _value(name: str, key: str, text: str) -> Any:
    cls = probes.load(name)
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if key not in fields:
        has = f"it has {', '.join(sorted(fields))}" if fields else "it has none"
        raise UsageError(f"{name} has no parameter {key!r}; {has}.")
    kind = get_type_hints(cls)[key]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float):
            return kind(text)
    except (KeyError, ValueError):
        expected = "true or false" if kind is bool else "a whole number" if kind is int else "a number"
        raise UsageError(f"{name}.{key} is {text!r}; expected {expected}.") from None
    return text
