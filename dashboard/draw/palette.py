"""The colours of maps, and how numbers are written: one place, so that every page agrees."""

import numpy as np

from probes.core.colour_map import INK, MIDDLE_GREY, colours, diverging, overlay, ramp, sequential

__all__ = ["INK", "MIDDLE_GREY", "colours", "diverging", "overlay", "ramp", "sequential"]


def plotly_scale(*, signed: bool = False) -> list[list[float | str]]:
    """The same colour map as a Plotly ``colorscale``."""
    return [[i / 16, "rgb({},{},{})".format(*colour)] for i, colour in enumerate(ramp(signed=signed))]


def css_gradient(*, signed: bool = False, flat: bool = True) -> str:
    """The colours of a colour bar as a CSS gradient from left to right; see `ramp`."""
    stops = ", ".join("rgb({},{},{})".format(*colour) for colour in ramp(signed=signed, flat=flat))
    return f"linear-gradient(to right, {stops})"


def number(value: float, digits: int = 3) -> str:
    """A number with at most ``digits`` significant digits, as a person would write it, with a true minus."""
    if not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    if abs(rounded) >= 10**digits:
        text = f"{rounded:,.0f}".replace(",", "\u202f")
    elif abs(rounded) >= 1e-4:
        text = f"{rounded:.10f}".rstrip("0").rstrip(".")
    else:
        mantissa, exponent = f"{rounded:.{digits - 1}e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}·10^{int(exponent)}"
    return text.replace("-", "\N{MINUS SIGN}")


def megabytes(size: float) -> str:
    """A memory size in MB (10⁶ bytes) or GB."""
    return f"{number(size / 1e9)} GB" if size >= 1e9 else f"{number(size / 1e6)} MB"
