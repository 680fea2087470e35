"""What pages draw of stored results: a page that draws a probe offers its chart, and the navigation collects them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import plotly.graph_objects as go
import xarray as xr

Draw = Callable[[Mapping[str, xr.Dataset], Mapping[str, str], int], Mapping[str, go.Figure]]


@dataclass(frozen=True)
class Stored:
    """A page's chart of a stored result.

    Attributes:
        title: what it shows.
        draw: datasets and colours by model, and the place of the image that is shown, to figures by model; one that all
            models share has no name. It reads no more of a map than that image.
        of_image: it shows one image.
        instead: variables that it shows whole, which are not offered once more.
        units: what the colours of its pictures mean.
    """

    title: str
    draw: Draw
    of_image: bool = False
    instead: tuple[str, ...] = ()
    units: str = ""


OF_PROBE: dict[str, Stored] = {}
"""Probe to the chart that a page offers; the navigation fills it as it finds the pages."""
