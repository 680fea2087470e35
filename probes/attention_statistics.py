"""Attention statistics: how spread, how alike and onto which tokens attention goes, per layer and head."""

from dataclasses import dataclass, field
from math import log
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from model_zoo.adapter import ModelSpec
from model_zoo.layout import AttentionLayer
from probes.core.attention import AttentionRows, log_normaliser, row_dot
from probes.core.base import Probe, layer_coordinates
from probes.core.moments import Moments, by_layer, images, merge

UNITS = {
    "entropy": "nats",
    "entropy_normalised": "fraction of the log of the keys within reach",
    "nmi": "fraction",
    "mass_cls": "fraction of attention",
    "mass_distillation": "fraction of attention",
    "mass_register": "fraction of attention",
    "mass_patch": "fraction of attention",
}


@dataclass
class _Open:
    """Sums over the query rows of some images that have come so far."""

    rows: int
    sums: Tensor  # (image, :, head): entropy, Σ Â log Â, patch mass, mass of the kinds of prefix tokens there are
    columns: Tensor  # (image, head, patch): sum of renormalised rows


@dataclass
class _State:
    spec: ModelSpec
    moments: dict[int, Moments] = field(default_factory=dict)  # layer -> over images, of (variable, head)
    open: dict[int, _Open] = field(default_factory=dict)


@dataclass(frozen=True)
class AttentionStatistics(Probe):
    r"""Entropy, mutual information and attention mass per token type, mean over patch queries, then over images.

    .. math::
        H = -\sum_k A_{qk}\log A_{qk}, \qquad
        \mathrm{NMI} = \frac{\sum_{qk} \tfrac1N \hat A_{qk}\log(\hat A_{qk}/p_k)}{\sqrt{\log N \cdot H(p)}},
        \quad p_k = \tfrac1N \sum_q \hat A_{qk}

    with :math:`\hat A` the attention among patches, rows renormalised.

    Returns:
        (layer, head) each, and ``*_sem``, the standard error of the mean over images (NaN for one image):
        ``entropy``: nats, 0 to the log of the number of keys within reach: all, or a window's. ``entropy_normalised``:
        divided by that log, 0 to 1.
        ``nmi``: 0 (all queries attend alike) to 1. ``mass_cls``, ``mass_distillation``, ``mass_register``,
        ``mass_patch``: what patch queries give to each token type; they sum to 1. NaN for a token type the layer
        does not have, and for NMI where a single token asks (class attention, pooling), whose other numbers are that
        token's own, and in windows, where it would measure the windows. A window that reaches over the edge gives part
        of its attention to padding, which no mass counts. Talking heads (CaiT) mix heads after the softmax: their rows
        are no distributions, so entropy and NMI are NaN and masses may leave 0 to 1.

    Note:
        High entropy is not unimportance, and mass is blind to the size of the values. Entropies in nats are not
        comparable across numbers of keys; the normalised ones are, roughly.

    Reference:
        Park et al. 2023, arXiv:2305.00729 (NMI); Darcet et al. 2024, arXiv:2309.16588 (registers).
    """

    title: ClassVar[str] = "Attention statistics"
    reads: ClassVar[frozenset[str]] = frozenset({"attention"})

    def init(self, spec: ModelSpec) -> _State:
        """Nothing counted."""
        return _State(spec)

    def update(self, state: _State, seen: AttentionRows) -> _State:
        """Add a block of query rows; close its images with their last row."""
        index, layer = seen.layer, state.spec.layers[seen.layer]
        block = _sums(layer, seen, state.spec.prefix)
        before = state.open.pop(seen.layer, None)
        if before is not None:
            block = _Open(*(getattr(before, name) + getattr(block, name) for name in vars(block)))
        if not seen.ends(layer):
            state.open[seen.layer] = block
            return state

        rows, names = block.rows, state.spec.prefix

        def add(reduced: np.ndarray) -> None:
            values = Moments.of(_values(layer, names, rows, reduced))
            state.moments[index] = state.moments.get(index, Moments()) + values

        seen.send(_reduced(block), add)
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Merge the moments."""
        return _State(a.spec, merge(a.moments, b.moments))

    def compute(self, state: _State) -> xr.Dataset:
        """Means and standard errors."""
        layers = state.spec.layers
        mean, sem = by_layer(state.spec, state.moments, len(UNITS))
        variables = {}
        for i, (name, units) in enumerate(UNITS.items()):
            variables[name] = (("layer", "head"), mean[i], {"units": units})
            variables[f"{name}_sem"] = (("layer", "head"), sem[i], {"units": units})
        for name, kind in (("mass_cls", "cls"), ("mass_distillation", "dist"), ("mass_register", "reg")):
            exists = any(token.startswith(kind) for token in state.spec.prefix)
            absent = [i for i, layer in enumerate(layers) if not (exists and layer.prefix)]
            for variable in (name, f"{name}_sem"):
                variables[variable][1][absent] = np.nan
        return xr.Dataset(variables, coords=layer_coordinates(state.spec), attrs={"n": images(state.moments)})


def _sums(layer: AttentionLayer, seen: AttentionRows, prefix_names: tuple[str, ...]) -> _Open:
    """Sum over the patch queries of one block; over the only query where a layer has one."""
    prefix = layer.prefix
    first = 0 if layer.queries == 1 else seen.before(prefix)
    weights = seen.weights[:, :, first:]
    inside, special = weights[..., prefix:], weights[..., :prefix]
    mass = inside.sum(-1)
    safe = mass.clamp_min(torch.finfo(mass.dtype).tiny)
    # log A = s − Z with scores s and log normaliser Z, so H = Z − Σ A s and Σ Â log Â = Σ A s / m − Z − log m, with the
    # second sum over patches and m their mass: nothing small is left over from large terms, however small m is
    if seen.scores is None:
        normaliser = torch.zeros_like(mass)
        scored, scored_special = (-torch.special.entr(part.clamp_min(0)).sum(-1) for part in (inside, special))
    else:
        scores = seen.scores[:, :, first:]
        normaliser = log_normaliser(weights, scores)
        scored = row_dot(inside, scores[..., prefix:])
        scored_special = (special * scores[..., :prefix]).sum(-1)
    entropy = normaliser - scored - scored_special
    negentropy = (scored / safe - normaliser - safe.log()).clamp(-log(inside.shape[-1]), 0)
    kinds = [_of_kind(special, columns) for columns in _kinds(prefix_names if prefix else ()).values()]
    return _Open(
        rows=weights.shape[2],
        sums=torch.stack([entropy, negentropy, mass, *kinds], 1).sum(-1, dtype=torch.float64),
        columns=((1 / safe).unsqueeze(2) @ weights).squeeze(2)[..., prefix:].double(),  # a slice would be copied
    )


def _kinds(names: tuple[str, ...]) -> dict[int, slice]:
    """Where the prefix tokens of every kind there is lie, side by side; the kinds by their place in `UNITS`."""
    found = {}
    for place, kind in enumerate(("cls", "dist", "reg")):
        columns = [i for i, name in enumerate(names) if name.startswith(kind)]
        if columns:
            found[place] = slice(columns[0], columns[-1] + 1)
    return found


def _of_kind(special: Tensor, columns: slice) -> Tensor:
    """Attention on prefix tokens of one kind: (image, head, q)."""
    only = columns.stop - columns.start == 1
    return special[..., columns.start] if only else special[..., columns].sum(-1)


def _reduced(sums: _Open) -> Tensor:
    """What leaves the device: the entropy of p, then the sums: (image, :, head)."""
    marginal = torch.special.entr(sums.columns / sums.rows).sum(-1)
    return torch.cat([marginal.unsqueeze(1), sums.sums], 1)


def _values(layer: AttentionLayer, names: tuple[str, ...], n: int, reduced: np.ndarray) -> np.ndarray:
    """Values of every image over n rows: (image, variable, head) in the order of `UNITS`."""
    marginal, reduced = reduced[:, 0], reduced[:, 1:] / n
    entropy = reduced[:, 0] if layer.is_distribution else np.full_like(marginal, np.nan)
    nmi = np.full_like(marginal, np.nan)
    if n > 1 and layer.is_distribution and layer.kind != "window":
        information = (reduced[:, 1] + marginal).clip(0)
        np.divide(information, np.sqrt(log(n) * marginal), out=nmi, where=marginal > 0)
    masses = [np.zeros_like(marginal) for _ in range(3)]
    for i, place in enumerate(_kinds(names if layer.prefix else ())):
        masses[place] = reduced[:, 3 + i]
    return np.stack([entropy, entropy / log(layer.reach), nmi, *masses, reduced[:, 2]], 1)
