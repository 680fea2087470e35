"""How maps are drawn: one popover of further choices, all of them in the link."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import streamlit as st

from dashboard.compute.requests import Size
from dashboard.controls import choices
from dashboard.controls.glossary import meaning
from dashboard.draw import head_maps
from dashboard.draw.panels import Look
from dashboard.state import link
from dashboard.state.selection import Depth
from model_zoo.adapter import ModelSpec

UNITS = {"weight": "attention weight", "times even": "times even attention"}
SAME = 1.1
"""Numbers of tokens are called the same up to this factor: a CLS token or four registers more are not seen."""


@dataclass(frozen=True)
class MapOptions:
    """What the popover says.

    Attributes:
        show: ``map``, ``mask`` (the photo inside the mass mask) or ``both`` (the map with the mask's outline).
        values: key of ``UNITS``.
        smooth: interpolate between patches.
        shared: one scale for all panels.
        tau: share of the mass inside the mask.
    """

    show: str = "map"
    values: str = "weight"
    smooth: bool = False
    shared: bool = True
    tau: float = 0.6

    @property
    def units(self) -> str:
        """Units of the drawn values."""
        return UNITS[self.values]

    def drawn(self, weights: np.ndarray, tokens: int) -> np.ndarray:
        """Attention weights as they are drawn: as they are, or times the number of tokens that share them."""
        return weights * tokens if self.values == "times even" else weights

    def masked(self, values: np.ndarray) -> dict[str, Any]:
        """The panel's arguments for the mass mask of a map, if one is drawn, and for a scale of its own."""
        return {
            "mask": head_maps.mass_mask(values, self.tau) if self.show != "map" else None,
            "contour_only": self.show == "both",
        }

    @property
    def look(self) -> Look:
        """What the panels need to know of it."""
        return Look(smooth=self.smooth)


def linked_size() -> Size:
    """The image size that the popover will show; known before it is drawn."""
    chosen = st.session_state.get("size", st.query_params.get("size"))
    return "uncropped" if chosen == "uncropped" else "native"


def flat() -> bool:
    """Draw the switch from maps over the image to colours alone, and return what is chosen."""
    chosen = link.first("flat") == "yes"
    st.session_state["flat_choice"] = chosen
    st.toggle(
        "Flat maps",
        key="flat_choice",
        help="Colours alone. Otherwise the image is seen through the map, the more the lower the value.",
        on_change=lambda: link.put("flat", *["yes"] * st.session_state["flat_choice"]),
    )
    return chosen


def tokens(specs: Iterable[ModelSpec | None], depth: Depth = choices.LAST) -> list[int]:
    """How many tokens share the attention in each model's layer at a depth; of those models that have attention."""
    return [spec.layers[depth.index(len(spec.layers))].keys for spec in specs if spec and spec.layers]


def linked_values(tokens: Iterable[int]) -> str:
    """The key of ``UNITS`` that the link names, else ``times even`` where the numbers of tokens differ."""
    linked, counts = link.first("values"), list(tokens)
    if linked in UNITS:
        return linked
    if linked:
        link.note(f"The link's values={linked[:20]} is none of {' and '.join(UNITS)} and was left out.")
        link.put("values")
    return "times even" if counts and max(counts) > SAME * min(counts) else "weight"


def mass_share(label: str, width: int | Literal["stretch"] = "stretch") -> float:
    """Draw the slider for the share of a map's sum that its mask holds, 0.6 as in DINO's figures."""
    return st.slider(
        label,
        0.1,
        0.95,
        0.6,
        0.05,
        key="tau",
        bind="query-params",
        width=width,
        help=meaning("mass mask", "DINO's figures use 60%."),
    )


def popover(tokens: Iterable[int]) -> MapOptions:
    """Draw the popover and return what is chosen.

    Args:
        tokens: how many tokens share the attention in each panel.
    """
    with st.popover("More"):
        show = choices.one_of(
            "Draw",
            ["map", "mask", "both"],
            "draw",
            help="The map; the photo inside the patches that hold most of its mass; or the map with their outline.",
        )
        tau = mass_share("Mass inside the mask")
        values = linked_values(tokens)
        st.session_state["values_choice"] = values
        st.segmented_control(
            "Values",
            list(UNITS),
            key="values_choice",
            required=True,
            help="Times even: "
            + meaning(
                "times even",
                "It is what you see first where the models' numbers of tokens differ, as weights do not compare.",
            ),
            on_change=lambda: link.put("values", st.session_state["values_choice"]),
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
        choices.one_of(
            "Image",
            ["native", "uncropped"],
            "size",
            help="Native is how the model's authors prepare an image, which mostly cuts off its rim. Uncropped is the "
            "whole image in its own proportions, to which the model's position embeddings are stretched.",
        )
    return MapOptions(show, values, sampling == "smooth", scale == "shared", tau)
