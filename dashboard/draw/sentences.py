"""What attention maps say, in one sentence. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.draw.head_maps import mass_mask
from dashboard.draw.palette import number


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
    """What the maps say about how concentrated attention is, with n and the convention.

    Args:
        found: one for each model and picture.
        tau: share of the mass in the mask.
        query: whose attention it is.
        head: which head, or how heads were reduced.
        n: pictures; of several, the shares of patches are means over them.
    """
    if not found:
        return ""
    if n == 1:
        order = sorted(found, key=lambda c: c.patches / c.of)
        rows = [f"{c.patches} of {c.of} patches in {c.name} ({percent(c.patches / c.of)})" for c in order]
    else:
        shares = {c.name: [other.patches / other.of for other in found if other.name == c.name] for c in found}
        means = sorted((sum(values) / len(values), name) for name, values in shares.items())
        rows = [f"{percent(mean)} of the patches in {name}" for mean, name in means]
    least, most = (percent(choose(c.share for c in found)) for choose in (min, max))
    onto = least if least == most else f"{least} to {most}"
    return (
        f"{percent(tau)} of what {query} gives to patches falls on {'; '.join(rows)}. "
        f"Even attention would need {percent(tau)} of the patches. Patches receive {onto} of all its attention, prefix "
        f"tokens the rest. {head}, n = {n} image{'s' * (n > 1)}{' (means over them)' * (n > 1)}, "
        "weights as the models used them, not renormalised."
    )


def on_object(shares: Mapping[str, float], areas: Sequence[float], what: str, query: str) -> str:
    """How much of each map's mass lies on the object of one picture.

    Args:
        shares: model to the share of its map's mass on the object, 0 to 1; NaN for those that do not see it.
        areas: the object's share of what each model sees.
        what: what marks the object.
        query: whose attention it is.
    """
    seen = {name: value for name, value in shares.items() if np.isfinite(value)}
    if not seen:
        return ""
    order = sorted(seen, key=lambda name: -seen[name])
    least, most = percent(min(areas)), percent(max(areas))
    area = least if least == most else f"{least} to {most}"
    rows = ", ".join(f"{name} **{percent(seen[name])}**" for name in order)
    return f"On the {what}, of what {query} gives to patches: {rows}. An even map would have {area}."


def percent(fraction: float) -> str:
    """A fraction as whole per cent."""
    figure = number(100 * fraction, 2) if 0 < fraction < 0.01 else f"{fraction * 100:.0f}"
    return f"{figure}\u202f%"
