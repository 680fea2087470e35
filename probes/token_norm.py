"""Token norms: how long every token's vector is after every block, and which stand out."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr

from model_zoo.adapter import ModelSpec
from probes.core.base import Probe
from probes.core.capture import Tokens
from probes.core.stacking import stack


@dataclass
class _State:
    spec: ModelSpec
    patches: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)  # (image, layer) -> (y, x)
    prefix: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)  # (image, layer) -> (token,)


@dataclass(frozen=True)
class TokenNorm(Probe):
    r"""Euclidean norm of every token of the residual stream after every block, and the tokens of unusually high norm.

    .. math:: n^{(l)}_k = \lVert x^{(l)}_k \rVert_2, \qquad
        \text{high} \iff n^{(l)}_k > \text{factor} \cdot \operatorname{median}_{j \in \text{patches}} n^{(l)}_j

    with the median over the patches of the same image and layer.

    Args:
        factor: how many times the median a patch's norm must exceed to be called high.

    Returns:
        ``norm`` (image, layer, y, x): at least 0, arbitrary units of the model's residual stream. NaN where a layer's
        grid is smaller than the largest. ``high`` (image, layer, y, x): whether the patch's norm is high.
        ``prefix_norm`` (image, layer, token): the same norm of CLS, distillation and register tokens, absent
        where no block passes them on. For a convolutional network the tokens are the positions of its feature maps.

    Note:
        Norms are not comparable between models, nor between layers: the residual stream grows with depth and the next
        layer norm takes scale out. The rule is a convention: the paper cuts at a norm read off a histogram of one
        model. A high norm alone does not make a token an artifact; the paper also shows that it holds global and
        little local information.

    Reference:
        Darcet et al. 2024, Fig. 3, arXiv:2309.16588.
    """

    factor: float = 3.0
    title: ClassVar[str] = "Token norms"
    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    per_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 < self.factor < np.inf:
            raise ValueError(f"factor is {self.factor}; it must be a number above 1, such as 3.")

    def undefined(self, spec: ModelSpec) -> str | None:
        """Models whose blocks cannot be read."""
        return None if self.taps(spec) else "the blocks of this model are not known, so its tokens cannot be read"

    def taps(self, spec: ModelSpec) -> tuple[str, ...]:
        """The output of every block."""
        return tuple(point for point in spec.points if point.startswith("resid_post."))

    def init(self, spec: ModelSpec) -> _State:
        """No norms yet."""
        return _State(spec)

    def update(self, state: _State, seen: Tokens) -> _State:
        """Take in the norms of one block's output."""
        layer = int(seen.point.rpartition(".")[2])
        images, prefix, grid = seen.images, seen.prefix, seen.grid

        def keep(norms: np.ndarray) -> None:
            for image, values in zip(images, norms, strict=True):
                state.prefix[image, layer] = values[:prefix]
                state.patches[image, layer] = values[prefix:].reshape(grid)

        seen.send(torch.linalg.vector_norm(seen.values, dim=-1, dtype=torch.float64), keep)
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Norms of both."""
        return _State(a.spec, a.patches | b.patches, a.prefix | b.prefix)

    def compute(self, state: _State) -> xr.Dataset:
        """Stack the norms, padded with NaN to the largest layer, and apply the rule."""
        images, layers = (sorted({key[i] for key in state.patches}) for i in (0, 1))
        height, width = (max((grid.shape[i] for grid in state.patches.values()), default=0) for i in (0, 1))
        norm = stack(state.patches, (images, layers), (height, width))
        prefix = stack(state.prefix, (images, layers), (len(state.spec.prefix),))
        above = {key: values > self.factor * np.median(values) for key, values in state.patches.items()}
        high = stack(above, (images, layers), (height, width), fill=False, dtype=bool)
        where = ("image", "layer", "y", "x")
        grids = [state.patches[images[0], layer].shape for layer in layers] if images else []
        units = {"units": "norm, arbitrary units of the residual stream"}
        variables: dict[str, tuple] = {
            "norm": (where, norm, units | {"long_name": "L2 norm of the patch token"}),
            "high": (where, high, {"units": f"norm > {self.factor:g} × the median of its image and layer"}),
        }
        if np.isfinite(prefix).any():
            variables["prefix_norm"] = (("image", "layer", "token"), prefix, units)
        return xr.Dataset(
            variables,
            coords={
                "image": images,
                "layer": layers,
                "token": list(state.spec.prefix),
                "grid_height": ("layer", [grid[0] for grid in grids]),
                "grid_width": ("layer", [grid[1] for grid in grids]),
            },
            attrs={"factor": self.factor, "patch": state.spec.patch, "n": len(images)},
        )
