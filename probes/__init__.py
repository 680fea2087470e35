"""Probes: one module each, found by its file's name (attention-maps lives in attention_maps.py).

What they stand on is in `probes.core`.
"""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.core.base import Probe


def available() -> list[str]:
    """Names of all probes, sorted."""
    modules = (m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and m.name[0] != "_")
    return sorted(name.replace("_", "-") for name in modules)


def load(name: str) -> "type[Probe]":
    """The probe class of a name.

    Raises:
        ValueError: no such probe.
        TypeError: the module does not define exactly one probe.
    """
    from probes.core.base import Probe  # brings torch

    if name not in available():
        raise ValueError(f"There is no probe named {name!r}; choose from {', '.join(available())}.")
    module = import_module(f"probes.{name.replace('-', '_')}")
    found = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, Probe) and member.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define exactly one Probe, found {len(found)}")
    return found[0]
