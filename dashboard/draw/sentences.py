"""What attention maps say, in one sentence. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.draw.head_maps import mass_mask
from dashboard.draw.palette import number


def literal(name: str) -> str:
    """A name that anyone may have chosen, in Markdown: what would be a sign of it stands for itself."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(name.split()))


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


def sentence(found: Sequence[Concentration], tau: float, query: str, head: str, n: int, *, shares: bool = True) -> str:
    """What the maps say about how concentrated attention is, with n and the convention.

    Args:
        found: one for each model and picture.
        tau: share of the mass in the mask.
        query: whose attention it is.
        head: which head, or how heads were reduced.
        n: pictures; of several, the shares of patches are means over them.
        shares: whether the maps hold shares of attention; their maximum over heads does not, and sums to more than one.
    """
    if not found:
        return ""
    if n == 1:
        rows = [f"{c.patches} of {c.of} patches in {c.name} ({percent(c.patches / c.of)})" for c in found]
    else:
        each = {c.name: [other.patches / other.of for other in found if other.name == c.name] for c in found}
        rows = [f"{percent(sum(values) / len(values))} of the patches in {name}" for name, values in each.items()]
    least, most = (percent(choose(c.share for c in found)) for choose in (min, max))
    onto = least if least == most else f"{least} to {most}"
    received = f"Patches receive {onto} of all its attention, prefix tokens the rest. " if shares else ""
    return (
        f"{percent(tau)} of what {query} gives to patches falls on {'; '.join(rows)}. "
        f"Even attention would need {percent(tau)} of the patches. {received}"
        f"{head}, n = {n} image{'s' * (n > 1)}{' (means over them)' * (n > 1)}, "
        "weights as the models used them, not renormalised."
    )


def on_object(
    shares: Mapping[str, float], areas: Sequence[float], centres: Sequence[float], what: str, query: str
) -> str:
    """How much of each map's mass lies on the object of one picture.

    Args:
        shares: model to the share of its map's mass on the object, 0 to 1; NaN for those that do not see it.
        areas: the object's share of what each model sees.
        centres: the share of the centre prior's mass on the object, for each model.
        what: what marks the object.
        query: whose attention it is.
    """
    seen = {name: value for name, value in shares.items() if np.isfinite(value)}
    if not seen:
        return ""
    rows = ", ".join(f"{name} **{percent(share)}**" for name, share in seen.items())
    return (
        f"On the {what}, of what {query} gives to patches: {rows}. An even map would have {_span(areas)}, one that "
        f"only favours the middle {_span(centres)}. This counts attention on any part of the object: whether a map has "
        "its outline is IoU, on the page DINO against supervised, and may rank models otherwise."
    )


def _span(fractions: Sequence[float]) -> str:
    least, most = (percent(choose(value for value in fractions if np.isfinite(value))) for choose in (min, max))
    return least if least == most else f"{least} to {most}"


def percent(fraction: float) -> str:
    """A fraction as whole per cent."""
    figure = number(100 * fraction, 2) if 0 < fraction < 0.01 else f"{fraction * 100:.0f}"
    return f"{figure}\u202f%"
