"""How maps are drawn: one popover of further choices, all of them in the link."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from dashboard.compute.requests import Size
from dashboard.controls import choices
from dashboard.controls.glossary import meaning
from dashboard.draw import head_maps
from dashboard.draw.panels import Look

UNITS = {"weight": "attention weight", "times even": "times even attention"}


@dataclass(frozen=True)
class MapOptions:
    """What the popover says.

    Attributes:
        show: ``map``, ``mask`` (the photo inside the mass mask) or ``both`` (the map with the mask's outline).
        values: key of ``UNITS``.
        smooth: interpolate between patches.
        shared: one scale for all panels.
        tau: share of the mass inside the mask.
        opacity: of the map over the photo.
    """

    show: str = "map"
    values: str = "weight"
    smooth: bool = False
    shared: bool = True
    tau: float = 0.6
    opacity: float = 0.8

    @property
    def units(self) -> str:
        """Units of the drawn values."""
        return UNITS[self.values]

    def masked(self, values: np.ndarray) -> dict[str, Any]:
        """The panel's arguments for the mass mask of a map, if one is drawn, and for a scale of its own."""
        return {
            "mask": head_maps.mass_mask(values, self.tau) if self.show != "map" else None,
            "contour_only": self.show == "both",
        }

    @property
    def look(self) -> Look:
        """What the panels need to know of it."""
        return Look(smooth=self.smooth, opacity=self.opacity)


def linked_size() -> Size:
    """The image size that the popover will show; known before it is drawn."""
    chosen = st.session_state.get("size", st.query_params.get("size"))
    return "uncropped" if chosen == "uncropped" else "native"


def popover() -> MapOptions:
    """Draw the popover and return what is chosen."""
    with st.popover("More"):
        show = choices.one_of(
            "Draw",
            ["map", "mask", "both"],
            "draw",
            help="The map; the photo inside the patches that hold most of its mass; or the map with their outline.",
        )
        tau = st.slider(
            "Mass inside the mask",
            0.1,
            0.95,
            0.6,
            0.05,
            key="tau",
            bind="query-params",
            help=meaning("mass mask", "DINO's figures use 60%."),
        )
        values = choices.one_of(
            "Values",
            list(UNITS),
            "values",
            help="Times even: " + meaning("times even"),
        )
        sampling = choices.one_of(
            "Patches",
            ["exact", "smooth"],
            "patches",
            help=meaning("patch", "Exact shows one value a patch. Smooth is interpolated, and only looks finer."),
        )
        scale = choices.one_of(
            "Scale",
            ["shared", "per panel"],
            "scale",
            help=meaning("shared scale", "Per panel, colours cannot be compared between models: each has its own bar."),
        )
        opacity = st.slider("Opacity of the map", 0.3, 1.0, 0.8, 0.1, key="opacity", bind="query-params")
        choices.one_of(
            "Image",
            ["native", "uncropped"],
            "size",
            help="Native is how the model's authors prepare an image, which mostly cuts off its rim. Uncropped is the "
            "whole image in its own proportions, to which the model's position embeddings are stretched.",
        )
    return MapOptions(show, values, sampling == "smooth", scale == "shared", tau, opacity)
