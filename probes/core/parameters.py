"""Probes from what is written on a command line."""

import dataclasses
from collections.abc import Sequence
from types import NoneType
from typing import Any, get_args, get_type_hints

import probes
from probes.core.base import Probe

EXPECTED = {bool: "true or false", int: "a whole number", float: "a number"}


class UsageError(ValueError):
    """Arguments that do not fit; the message is one sentence for a person."""


def make_probes(names: Sequence[str], parameters: Sequence[str]) -> dict[str, Probe]:
    """Probes with their parameters from ``NAME.KEY=VALUE``.

    Raises:
        UsageError: a probe or parameter that does not exist or is given twice, or a value that does not fit.
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
        if key in given[name]:
            raise UsageError(f"--param {name}.{key} is given more than once; give it once.")
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
    hint = get_type_hints(cls)[key]
    kinds = get_args(hint) or (hint,)
    if NoneType in kinds and text.lower() == "none":
        return None
    if str in kinds:
        return text
    kind = next(kind for kind in kinds if kind is not NoneType)
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        expected = EXPECTED[kind] + (" or none" if NoneType in kinds else "")
        raise UsageError(f"{name}.{key} is {text!r}; expected {expected}.") from None
