"""Maps of any kind by name, and how well a map picks out an object; see `probes.saliency_score`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

import probes
from model_zoo.adapter import Geometry, ModelSpec
from probes.core.attention import Attention
from probes.core.base import Probe
from probes.core.capture import Batch, forward
from probes.core.relevance import METHODS, relevance, vanished
from probes.core.relevance import undefined as relevance_undefined
from probes.core.targets import Target

MAPS = ("heads", "mean", "rollout", *METHODS)

CENTRE_WIDTH = 0.25
"""Standard deviation of the centre prior, as a share of each side of the input."""


def undefined(spec: ModelSpec, kind: str) -> str | None:
    """Say in one sentence why a model has no map of this kind; None where it has."""
    if kind in METHODS:
        return relevance_undefined(spec, kind)
    return _probe(kind).undefined(spec)


def maps_of(batch: Batch, kind: str, target: Target) -> np.ndarray:
    """Maps of a batch: (images, maps, rows, columns), one map an image except for ``heads``.

    Args:
        batch: the images, of a model for which the kind is not `undefined`.
        kind: ``heads`` (every head of the last attention layer, its CLS row; the mean over patch queries where it has
            none), ``mean`` (the same averaged over heads), ``rollout``, or a method of `probes.core.relevance`.
        target: what the methods of `probes.core.relevance` explain.

    Returns:
        NaN where a method gives the same value everywhere.
    """
    spec = batch.adapter.spec
    if kind in METHODS:
        found = relevance(batch.adapter, batch.inputs, kind, target)
        maps = found.maps.double().cpu().numpy()
        similarity = None if target.reference is None else found.score.values.double().cpu().numpy()
        maps[vanished(maps, kind, similarity)] = np.nan
        return maps[:, None]
    if kind == "rollout":
        return fold(_probe(kind), batch)["rollout"].values[:, None]
    layer = spec.layers[-1]
    attention = fold(_probe(kind), batch)["attention"].isel(layer=0).values
    heads = attention[:, : layer.heads, : layer.grid[0], : layer.grid[1]].astype(np.float64)
    return heads if kind == "heads" else heads.mean(1, keepdims=True)


def _probe(kind: str) -> Probe:
    """The probe behind a kind of map that takes no gradient."""
    make: Callable[..., Probe] = probes.load("attention-rollout" if kind == "rollout" else "attention-maps")
    return make() if kind == "rollout" else make(layers="last")


def fold(probe: Probe, batch: Batch) -> xr.Dataset:
    """The result of a probe that reads attention, over one batch."""
    spec = batch.adapter.spec
    state = probe.init(spec)

    def take(attention: Attention) -> None:
        nonlocal state
        queries = probe.queries(spec, attention.index)
        if queries is not None:
            for rows in attention.blocks() if queries == slice(None) else [attention.rows(queries)]:
                state = probe.update(state, rows)

    forward(batch.adapter, batch.inputs, batch.images, on_attention=take)
    return probe.compute(state)


def coverage(mask: np.ndarray, geometry: Geometry, grid: tuple[int, int]) -> np.ndarray:
    """The part of every cell of a grid over the model's input that an object covers.

    Args:
        mask: boolean (height, width), in pixels of the original image.
        geometry: where the model's input lies in the original.
        grid: rows and columns.

    Returns:
        (rows, columns), 0 to 1, exact for cells that cut through pixels. What a model pads is not covered.

    Raises:
        ValueError: the mask has another size than the image.
    """
    width, height = geometry.image
    if mask.shape != (height, width):
        found = " × ".join(map(str, mask.shape[::-1]))
        raise ValueError(f"The mask has {found} pixels and its image {width} × {height}; they must be the same size.")
    left, top, right, bottom = geometry.box
    down, across = _overlap(top, bottom, grid[0], height), _overlap(left, right, grid[1], width)
    area = (bottom - top) * (right - left) / (grid[0] * grid[1])
    return down @ mask.astype(np.float64) @ across.T / area


def _overlap(low: float, high: float, cells: int, pixels: int) -> np.ndarray:
    """How much of every pixel every cell of [low, high] takes: (cells, pixels)."""
    edges = np.linspace(low, high, cells + 1)
    pixel = np.arange(pixels)
    return np.clip(np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel), 0, None)


@dataclass(frozen=True)
class Overlap:
    """How a map and an object lie on each other; every number 0 to 1."""

    iou: float
    pointing: float
    mass_inside: float


def overlap(
    values: np.ndarray, mask: np.ndarray, geometry: Geometry, tau: float, covered: np.ndarray | None = None
) -> Overlap:
    r"""Hold one map against the object's true mask, within what the model sees.

    .. math::
        \text{IoU} = \frac{|M_\tau \cap O|}{|M_\tau \cup O|}, \quad
        \text{mass inside} = \sum_p \hat m_p c_p, \quad \hat m = m^+ / \textstyle\sum m^+

    with :math:`M_\tau` the patches of the mass mask as squares, :math:`O` the object in pixels and :math:`c_p` the part
    of patch p that it covers. Pointing: 1 if the centre of the highest patch lies on the object.

    Args:
        values: the map (rows, columns); what is negative counts as nothing.
        mask: boolean (height, width), in pixels of the original image.
        geometry: where the model's input lies in the original.
        tau: share of the mass in the mass mask.
        covered: `coverage` of the mask, where it is known already.

    Returns:
        NaN for a map without values, or an object outside of the model's crop.
    """
    if covered is None:
        covered = coverage(mask, geometry, (values.shape[0], values.shape[1]))
    positive = np.clip(values.astype(np.float64), 0, None)
    total = positive.sum()
    if not (np.isfinite(total) and total > 0 and covered.sum() > 0):
        return Overlap(np.nan, np.nan, np.nan)
    chosen = mass_mask(positive, tau)
    inside = covered[chosen].sum()
    row, column = divmod(int(values.argmax()), values.shape[1])
    return Overlap(
        iou=float(inside / (chosen.sum() + covered.sum() - inside)),
        pointing=float(_hit(mask, geometry, row, column, covered.shape)),
        mass_inside=float((positive * covered).sum() / total),
    )


def _hit(mask: np.ndarray, geometry: Geometry, row: int, column: int, grid: tuple[int, ...]) -> bool:
    """Whether the centre of a patch lies on the object."""
    left, top, right, bottom = geometry.cell(row, column, (grid[0], grid[1]))
    y, x = int((top + bottom) / 2), int((left + right) / 2)
    return 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and bool(mask[y, x])


def centre_prior(grid: tuple[int, int]) -> np.ndarray:
    r"""A map that knows nothing of the image but that photographers centre objects.

    .. math:: m_p = \exp\!\big(-\tfrac{(u_p - 1/2)^2 + (v_p - 1/2)^2}{2 \sigma^2}\big), \quad \sigma = 1/4

    with :math:`u_p, v_p` the centre of patch p as fractions of the model's input: a Gaussian stretched to its sides.

    Args:
        grid: rows and columns.

    Returns:
        (rows, columns), above 0 and at most 1.

    Note:
        It is strong where objects lie in the middle, and says nothing about images in which they do not.

    Reference:
        Judd et al. 2012, MIT-CSAIL-TR-2012-001 (a Gaussian stretched to the image as the baseline of saliency); Clarke
        and Tatler 2014, doi:10.1016/j.visres.2014.06.016 (a Gaussian of fixed width, not fitted to the data).
    """
    down, across = ((np.arange(cells) + 0.5) / cells - 0.5 for cells in grid)
    found: np.ndarray = np.exp(-(down[:, None] ** 2 + across[None] ** 2) / (2 * CENTRE_WIDTH**2))
    return found


def baselines(mask: np.ndarray, geometry: Geometry, covered: np.ndarray, tau: float) -> dict[str, Overlap]:
    r"""What maps that know nothing of the image score: uniform attention, and the `centre_prior`.

    .. math::
        \text{IoU of uniform attention} = \frac{t a}{t + a - t a}, \quad t = \lceil \tau P \rceil / P, \quad
        a = \textstyle\sum_p c_p / P

    In a uniform map all P patches are tied for the mass mask, so each is in it to the same part t, with which the mask
    covers that part of the object. Its mass inside is the object's area a, its pointing the share of patches whose
    centres lie on the object. The centre prior is scored by `overlap` like any map.

    Args:
        mask: boolean (height, width), in pixels of the original image.
        geometry: where the model's input lies in the original.
        covered: `coverage` of the mask on the model's grid.
        tau: share of the mass in the mass mask.

    Returns:
        ``uniform`` and ``centre``; NaN for an object outside of the model's crop.

    Note:
        Masks of as many patches drawn by chance have the same mean IoU, up to about a thousandth with 196 patches.
    """
    rows, columns = covered.shape
    centre = overlap(centre_prior((rows, columns)), mask, geometry, tau, covered)
    area = float(covered.mean())
    if area == 0:
        return {"uniform": Overlap(np.nan, np.nan, np.nan), "centre": centre}
    taken = float(mass_mask(np.ones(covered.shape), tau).mean())
    hits = [_hit(mask, geometry, row, column, covered.shape) for row in range(rows) for column in range(columns)]
    iou = taken * area / (taken + area - taken * area)
    return {"uniform": Overlap(iou, float(np.mean(hits)), area), "centre": centre}


def mass_mask(values: np.ndarray, tau: float) -> np.ndarray:
    r"""The smallest set of patches that holds a share of the map's mass.

    .. math:: \hat m = m / \sum m, \quad \text{the fewest patches with } \sum \hat m \ge \tau

    Args:
        values: map (y, x), not negative.
        tau: share of the mass, above 0 and at most 1.

    Returns:
        Boolean (y, x); all False for a map without any mass.

    Note:
        It says where the mass lies, not that the model used what is there.

    Reference:
        Caron et al. 2021, arXiv:2104.14294 (tau = 0.6 in its figures).
    """
    flat = values.ravel().astype(np.float64)
    total = flat.sum()
    mask = np.zeros(flat.size, dtype=bool)
    if total > 0:
        order = np.argsort(-flat, kind="stable")
        reached = np.cumsum(flat[order]) >= tau * total * (1 - 1e-12)
        mask[order[: int(np.argmax(reached)) + 1]] = True
    return mask.reshape(values.shape)


def trapezoid(curve: np.ndarray) -> np.ndarray:
    """Area under curves (..., points) over evenly spaced points from 0 to 1."""
    return np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1)
