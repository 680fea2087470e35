"""Attention sanity: does a map change when the network's weights are replaced by random ones, block by block."""

import copy
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from model_zoo.adapter import Adapter, ModelSpec
from probes.core import targets
from probes.core.base import Probe, one_of
from probes.core.capture import Batch
from probes.core.precision import full_precision
from probes.core.relevance import METHODS
from probes.core.saliency import MAPS, maps_of, undefined

KINDS = tuple(kind for kind in MAPS if kind != "heads")
OUTPUT = ("head", "norm", "fc_norm", "fc", "attn_pool", "pre_logits", "head_dist")


@dataclass
class _State:
    spec: ModelSpec
    stages: list[str] = field(default_factory=list)
    maps: dict[int, np.ndarray] = field(default_factory=dict)  # image -> (stage, row, column), the original first
    vector: str = ""  # what stands for the images, where a similarity is explained


@dataclass(frozen=True)
class AttentionSanity(Probe):
    r"""Rank correlation of a map with itself after the weights were randomised from the output down.

    .. math:: \rho_s = \operatorname{corr}\big(\operatorname{rank} m(\theta),\; \operatorname{rank} m(\theta_s)\big)

    with :math:`\theta_s` the network whose classifier, then last block, and so on down to stage s are random. The last
    stage is a randomly initialised network. A map that stays the same cannot be about what the network learned.

    Random means: linear and convolution weights uniform within :math:`\pm 1/\sqrt{\text{fan in}}` and no bias, norms
    at identity, tokens, positions and bias tables normal with standard deviation 0.02; gains (LayerScale) keep their
    values in another order.

    Args:
        map: ``mean`` (last attention layer, CLS row, over heads), ``rollout``, or a method of attention-relevance.
        target: what relevance explains: ``top`` (the class the intact network finds, kept throughout), a class,
            ``similarity``, or ``top-or-similarity``, which is the latter for a model without a classifier.
        of: the image to be similar to; only with ``similarity`` and ``top-or-similarity``.
        seed: of the random weights.
        pool: what stands for an image in a similarity: ``head`` (what the classifier reads, or what timm pools),
            ``cls``, ``mean`` (over the patch tokens), or ``card`` (of these the one that stands for an image in this
            model, see `probes.core.targets.vector`).

    Returns:
        ``correlation`` (image, stage): Spearman's, −1 to 1, over the map's cells; NaN where a map vanished.
        ``map`` (image, stage, y, x): the maps themselves, in their own units, the intact network's as stage 0, whose
        correlation is 1. The coordinate ``stage_name`` says what is random: ``intact``, ``classifier``, ``block N``
        (from 1) and everything above it, ``embedding``: everything.

    Note:
        A low correlation does not make a map faithful. A high one can come from the image: a method that follows edges
        finds the same edges with any weights. One seed is one random network.

    Reference:
        Adebayo et al. 2018, arXiv:1810.03292.
    """

    map: str = "mean"
    target: str = "top"
    of: targets.Of | None = None
    seed: int = 0
    pool: str = "head"
    title: ClassVar[str] = "Sanity checks"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})

    def __post_init__(self) -> None:
        one_of("map", self.map, KINDS)
        targets.check(self.target, self.of, self.pool)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {2**32 - 1}.")

    def undefined(self, spec: ModelSpec) -> str | None:
        """No such map, or no such target for a relevance map."""
        return undefined(spec, self.map) or (targets.undefined(spec, self.target) if self.map in METHODS else None)

    @property
    def autocasts(self) -> bool:
        """Attention's own maps come from forward passes, relevance from gradients."""
        return self.map not in METHODS

    def init(self, spec: ModelSpec) -> _State:
        """No maps yet."""
        return _State(spec)

    def update(self, state: _State, seen: Batch) -> _State:
        """Draw the maps of a batch at every stage, from a copy that is randomised step by step."""
        target = self._target(seen.adapter)
        state.vector = target.readout(seen.adapter) if target.reference is not None else ""
        with torch.no_grad(), full_precision(seen.adapter):
            settled = target.fixed(target.score(seen.adapter, seen.inputs).classes) if self.map in METHODS else target
        with seen.adapter.lock, torch.inference_mode(False):
            adapter = Adapter(copy.deepcopy(seen.adapter.module), seen.adapter.reference, seen.adapter.image_size)
        maps, state.stages = [maps_of(seen, self.map, settled)[:, 0]], ["intact"]
        for name, parameters in stages(adapter):
            with torch.inference_mode(False), torch.no_grad():
                randomise(adapter.module, parameters, self.seed)
            state.stages.append(name)
            if targets.meant(state.spec, self.target) == "similarity":
                settled = self._target(adapter)  # the other image's embedding moves with the network
            batch = Batch(adapter, seen.images, seen.inputs, seen.originals)
            maps.append(maps_of(batch, self.map, settled)[:, 0])
        state.maps |= dict(zip(seen.images, np.stack(maps, 1), strict=True))
        return state

    def _target(self, adapter: Adapter) -> targets.Target:
        return targets.resolve(adapter, self.target, self.of, self.pool) if self.map in METHODS else targets.Target()

    def merge(self, a: _State, b: _State) -> _State:
        """Maps of both."""
        return _State(a.spec, a.stages or b.stages, a.maps | b.maps, a.vector or b.vector)

    def compute(self, state: _State) -> xr.Dataset:
        """Correlate every stage with the intact network."""
        images = sorted(state.maps)
        maps = np.stack([state.maps[i] for i in images]).astype(np.float32)
        flat = np.stack([state.maps[i] for i in images]).reshape(*maps.shape[:2], -1)
        correlation = np.array([[spearman(one[0], stage) for stage in one] for one in flat])
        return xr.Dataset(
            {
                "correlation": (("image", "stage"), correlation, {"units": "Spearman's rank correlation"}),
                "map": (("image", "stage", "y", "x"), maps, {"units": "the map's own"}),
            },
            coords={
                "image": images,
                "stage": np.arange(len(state.stages)),
                "stage_name": ("stage", state.stages),
            },
            attrs={
                "map": self.map,
                "target": targets.meant(state.spec, self.target),
                "seed": self.seed,
                "n": len(images),
                **({"vector": state.vector} if state.vector else {}),
            },
        )


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, ties sharing their mean rank; NaN where one of the two does not vary."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def stages(adapter: Adapter) -> Iterator[tuple[str, list[str]]]:
    """Names and modules' parameters of the stages from the output down: every tensor of the network in one of them."""
    modules = adapter.module
    taps = [tap.module for point, tap in adapter.layout.taps.items() if point.startswith("resid_post.")]
    last = [f"blocks_token_only.{i}" for i, _ in enumerate(getattr(modules, "blocks_token_only", ()))]
    blocks = [*taps, *last]
    groups: dict[str, list[str]] = {place: [] for place in ("classifier", *blocks, "embedding")}
    for name in modules.state_dict():
        groups[_place(name, blocks)].append(name)
    yield "classifier", groups["classifier"]
    for index in reversed(range(len(blocks))):
        yield f"block {index + 1}", groups[blocks[index]]
    yield "embedding", groups["embedding"]


def _place(name: str, blocks: list[str]) -> str:
    for path in blocks:
        if name.startswith(f"{path}."):
            return path
    if name.split(".")[0] in OUTPUT:
        return "classifier"
    stage = ".".join(name.split(".")[:2])  # Swin merges patches before a stage's first block
    return next((path for path in blocks if path.startswith(f"{stage}.")), "embedding")


def randomise(model: nn.Module, names: list[str], seed: int) -> None:
    """Replace tensors in place. What a tensor becomes depends on the seed and its name, not on the order."""
    tensors = model.state_dict(keep_vars=True)
    for name in names:
        owner = model.get_submodule(name.rpartition(".")[0])
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
        tensor = tensors[name]
        tensor.copy_(_drawn(name.rpartition(".")[2], tensor, owner, generator))


def _drawn(kind: str, old: Tensor, owner: nn.Module, generator: torch.Generator) -> Tensor:
    if not old.is_floating_point():
        return torch.zeros_like(old) if kind == "num_batches_tracked" else old
    if "norm" in type(owner).__name__.lower():
        return torch.full_like(old, 1.0 if kind in ("weight", "running_var") else 0.0)
    if isinstance(owner, (nn.Linear, nn.Conv2d)):
        if kind == "bias":
            return torch.zeros_like(old)
        bound = owner.weight[0].numel() ** -0.5
        return (torch.rand(old.shape, generator=generator) * 2 - 1) * bound
    if not isinstance(old, nn.Parameter):  # tables of positions that were never learned
        return old
    if old.squeeze().ndim < 2 and old.numel() > 1 and "token" not in kind:
        return old.flatten()[torch.randperm(old.numel(), generator=generator).to(old.device)].view(old.shape)
    return torch.randn(old.shape, generator=generator) * 0.02
