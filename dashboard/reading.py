"""What attention maps say, in one sentence. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.maps import mass_mask
from dashboard.palette import number


@dataclass(frozen=True)
class Concentration:
    """How few patches hold a share of a map's mass.

    Attributes:
        name: the model.
        patches: patches needed.
        of: patches there are.
        share: the part of the query's attention that falls on patches at all, 0 to 1.
    """

    name: str
    patches: int
    of: int
    share: float


def concentration(name: str, values: np.ndarray, tau: float) -> Concentration:
    """Count the patches of the mass mask at ``tau``."""
    return Concentration(name, int(mass_mask(values, tau).sum()), values.size, float(values.sum()))


def sentence(found: Sequence[Concentration], tau: float, query: str, head: str, n: int) -> str:
    """What the maps say about how concentrated attention is, with n and the convention."""
    if not found:
        return ""
    order = sorted(found, key=lambda c: c.patches / c.of)
    rows = [f"{c.patches} of {c.of} patches in {c.name} ({percent(c.patches / c.of)})" for c in order]
    least, most = (percent(choose(c.share for c in found)) for choose in (min, max))
    onto = least if least == most else f"{least} to {most}"
    return (
        f"{percent(tau)} of what {query} gives to patches falls on {'; '.join(rows)}. "
        f"Even attention would need {percent(tau)} of the patches. Patches receive {onto} of all its attention, prefix "
        f"tokens the rest. {head}, n = {n} image, weights as the models used them, not renormalised."
    )


def percent(fraction: float) -> str:
    """A fraction as whole per cent."""
    figure = number(100 * fraction, 2) if 0 < fraction < 0.01 else f"{fraction * 100:.0f}"
    return f"{figure}\u202f%"
