"""The maps of all heads of the last block, and their scores against the objects' masks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from dashboard.compute.asking import ModelResult
from dashboard.draw import head_maps
from dashboard.images import masks
from dashboard.state.selection import Selection
from dashboard.views.dino_supervised.object_scores import BASELINES, Scores
from probes.core.saliency import Overlap, baselines, overlap


def with_baselines(selection: Selection) -> Selection:
    """The selection and, for every architecture in it, the same with random weights."""
    names = [reference.timm_name for reference in selection.references if reference.weights != "random"]
    random = [f"timm:{name.partition('.')[0]}@random:0" for name in dict.fromkeys(names)]
    return replace(selection, models=tuple(dict.fromkeys([*selection.models, *random])))


def heads_of(dataset: xr.Dataset, image: int) -> np.ndarray:
    """The maps (head, y, x) of the only layer, without padding."""
    return head_maps.layer_heads(dataset["attention"].isel(image=slice(image, image + 1)), 0)


def scores_of(model: ModelResult, keys: Mapping[int, tuple[str, str]], tau: float) -> Scores | None:
    """Scores of one model over the images that have a mask; None when it sees none of their objects.

    Args:
        model: with its maps.
        keys: place of the image to picture and mask.
        tau: share of the mass.
    """
    dataset = model.datasets.get("attention-maps")
    if dataset is None or not keys:
        return None
    found: list[list[Overlap]] = []
    chance: list[dict[str, Overlap]] = []
    areas = []
    places = list(keys)
    for place, (picture, key) in keys.items():
        geometry, heads = model.geometries[place], heads_of(dataset, place)
        covered = masks.covered(picture, key, geometry, heads.shape[1:])
        mask = masks.mask(picture, key)
        found.append([overlap(one, mask, geometry, tau, covered) for one in heads])
        chance.append(baselines(mask, geometry, covered, tau))
        areas.append(float(covered.mean()))
    seen = [row for row, ones in enumerate(found) if all(np.isfinite(one.iou) for one in ones)]
    if not seen:
        return None
    area, at = np.array(areas)[seen], tuple(places[row] for row in seen)
    return Scores(
        *_numbers([found[row] for row in seen]),
        area,
        "@random:" in model.model,
        {key: Scores(*_numbers([[chance[row][key]] for row in seen]), area, places=at) for key in BASELINES},
        model.spec.name if model.spec else "",
        at,
    )


def _numbers(rows: Sequence[Sequence[Overlap]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IoU, pointing and mass inside, each (image, head)."""
    numbers = np.array([[(one.iou, one.pointing, one.mass_inside) for one in row] for row in rows])
    return numbers[..., 0], numbers[..., 1], numbers[..., 2]
