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
from probes.core.attention import AttentionRows
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


CANCELS = 0.01
"""Where patches receive less than this, sums over them are formed directly and not as differences."""


@dataclass
class _Open:
    """Sums over the query rows of a batch that have come so far."""

    rows: int
    entropy: Tensor  # (image, head)
    masses: Tensor  # (image, head, token type)
    columns: Tensor  # (image, head, patch): sum of renormalised rows
    negentropy: Tensor  # (image, head): sum over rows of Σ Â log Â


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
        """Add a block of query rows; close the batch with its last row."""
        layer = state.spec.layers[seen.layer]
        block = _sums(layer, seen, state.spec.prefix)
        before = state.open.pop(seen.layer, None)
        if before is not None:
            block = _Open(*(getattr(before, name) + getattr(block, name) for name in vars(block)))
        if int(seen.queries[-1]) + 1 < layer.queries:
            state.open[seen.layer] = block
            return state
        values = _close(layer, block)
        state.moments[seen.layer] = state.moments.get(seen.layer, Moments()) + Moments.of(values)
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
    first = 0 if layer.queries == 1 else int((seen.queries < prefix).sum())
    weights = seen.weights[:, :, first:]
    entropy = seen.entropy()[:, :, first:].double()
    inside = weights[..., prefix:]
    mass = inside.sum(-1)
    special = weights[..., :prefix]
    names = prefix_names if prefix else ()
    kinds = [
        special[..., [i for i, name in enumerate(names) if name.startswith(kind)]].double().sum((2, 3))
        for kind in ("cls", "dist", "reg")
    ]
    # Σ Â log Â = (Σ A log A over patches) / mass − log mass, and Σ A log A over patches = −H − Σ A log A over prefix
    outside = torch.special.entr(special).double().sum(-1)
    floor = torch.finfo(mass.dtype).tiny
    safe = mass.clamp_min(floor)
    if float(mass.min()) > CANCELS:
        negentropy = (outside - entropy) / safe - safe.double().log()
    else:  # the difference above would lose its digits
        negentropy = -torch.special.entr(inside / safe.unsqueeze(-1)).sum(-1).double()
    return _Open(
        rows=weights.shape[2],
        entropy=entropy.sum(-1),
        masses=torch.stack([*kinds, mass.double().sum(-1)], -1),
        columns=((1 / safe).unsqueeze(2) @ weights).squeeze(2)[..., prefix:].double(),  # a slice would be copied
        negentropy=negentropy.sum(-1),
    )


def _close(layer: AttentionLayer, sums: _Open) -> np.ndarray:
    """Values of every image: (image, variable, head) in the order of `UNITS`."""
    n = sums.rows
    entropy = sums.entropy / n if layer.is_distribution else sums.entropy * torch.nan
    p = sums.columns / n
    marginal = torch.special.entr(p).sum(-1)
    defined = n > 1 and layer.is_distribution and layer.kind != "window"
    information = (sums.negentropy / n + marginal).clamp_min(0)
    nmi = information / (log(n) * marginal).sqrt() if defined else information * torch.nan
    masses = sums.masses / n
    columns = [entropy, entropy / log(layer.reach), nmi, *masses.unbind(-1)]
    return torch.stack(columns, 1).cpu().numpy()
