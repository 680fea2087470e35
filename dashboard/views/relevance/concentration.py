"""Where the positive relevance of a map lies: on the object, or on how few patches."""

from collections.abc import Sequence

import numpy as np

from dashboard.draw import head_maps
from dashboard.draw.sentences import percent
from dashboard.images import gallery
from dashboard.views.relevance.maps import METHODS, RelevanceMap
from probes.core.saliency import centre_prior, overlap


def reading(found: Sequence[RelevanceMap], picture: str) -> str:
    """How much of each map lies on the object, or how few patches hold most of it."""
    ready = [one for one in found if one.values is not None]
    if not ready:
        return ""
    mask = gallery.mask(picture) if picture.startswith("scene:") else None
    said = []
    for title in dict.fromkeys(one.model.title for one in ready):
        shares = [(one, share(one, mask)) for one in ready if one.model.title == title]
        targets = "; ".join(dict.fromkeys(one.note for one, _ in shares))
        said.append(f"**{title}** ({targets}): " + ", ".join(f"{METHODS[o.method]} {percent(s)}" for o, s in shares))
    if mask is not None:
        seen, (rows, columns) = next((o.model.geometries[0], o.values.shape) for o in found if o.values is not None)
        middle = overlap(centre_prior((rows, columns)), mask, seen, 0.6).mass_inside
        start = (
            f"Of the positive relevance, on the object, which covers {percent(float(mask.mean()))} of the scene (a map "
            f"that only favours the middle would have {percent(middle)})"
        )
    else:
        start = "Share of the patches that hold 60\u202f% of the positive relevance (even relevance: 60\u202f%)"
    return "  \n".join([f"{start}:", *said, "n = 1 image; each map divided by its own mean magnitude."])


def share(one: RelevanceMap, mask: np.ndarray | None) -> float:
    """The part of the positive relevance on the object; without one, of the patches that hold 60% of it."""
    values = np.clip(one.values if one.values is not None else np.zeros((1, 1)), 0, None)
    if mask is None:
        return float(head_maps.mass_mask(values, 0.6).mean())
    return overlap(values, mask, one.model.geometries[0], 0.6).mass_inside
