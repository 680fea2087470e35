"""Deletion and insertion curves: what becomes of a model's answer when patches go, or come, in the order of a map."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from probes.core.capture import Batch
from probes.core.memory import at_once
from probes.core.targets import Target, embedding

FILLS = ("blur", "mean")
CHUNK = 32
"""Versions in a pass, where they fit."""


def curves(
    batch: Batch, maps: np.ndarray, orders: np.ndarray, target: Target, *, steps: int, fill: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The answer along both curves of every map, and along the deletion curves of random orders.

    A random order is as random backwards, and cells that come in backwards leave the same pictures as cells that go:
    its insertion curve is its deletion curve read from the end, and needs no passes of its own.

    Args:
        batch: the images.
        maps: (images, maps, rows, columns); cells with the highest values go first, ties in reading order.
        orders: (images, orders, rows × columns), cells in the order in which they go; see `random_orders`.
        target: whose answer: the probability of its class; the cosine to its reference; without a classifier the
            cosine to the intact image's own embedding.
        steps: how many equal parts of the cells are taken.
        fill: what stands where a cell is missing: the image ``blur`` red, or its ``mean`` colour.

    Returns:
        deletion and insertion (images, maps, steps + 1), at the parts 0, 1/steps ... 1 of the cells removed or shown,
        NaN for a map of NaN; deletion in the random orders (images, orders, steps + 1).
    """
    order = np.argsort(-maps.reshape(*maps.shape[:2], -1), axis=-1, kind="stable")
    versions = _Versions(batch, target, fill)
    deletion, insertion = (versions.along(order, maps.shape[2:], steps, shown) for shown in (False, True))
    for curve in (deletion, insertion):
        curve[~np.isfinite(maps).all((2, 3))] = np.nan
    chance = versions.along(orders, maps.shape[2:], steps, False)
    return deletion, insertion, chance


def random_orders(batch: Batch, cells: int, orders: int, seed: int) -> np.ndarray:
    """(images, orders, cells): the cells in random orders, the same for an image in any batch."""
    return np.stack(
        [np.random.default_rng((seed, image)).random((orders, cells)).argsort(-1) for image in batch.images]
    )


class _Versions:
    """Versions of the batch's images with cells missing, and the answers to them."""

    def __init__(self, batch: Batch, target: Target, fill: str) -> None:
        self.inputs, self.empty = batch.inputs, _filled(batch.inputs, fill)
        self.answer = _Answer(batch, target)
        every = np.arange(len(batch.inputs))
        self.intact = self.answer.of(self.answer.intact, every)
        self.nothing = self.answer.of(self.answer.output(self.empty), every)

    def along(self, order: np.ndarray, grid: tuple[int, int], steps: int, shown: bool) -> np.ndarray:
        """Answers (images, orders, steps + 1) as cells go in the given order, or are ``shown`` in it."""
        images, kinds, cells = order.shape
        counts = np.round(np.arange(1, steps) / steps * cells).astype(int)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(cells)[None, None], -1)
        taken = rank[:, :, None] < counts[:, None]  # (images, orders, steps − 1, cells)
        missing = torch.from_numpy((taken ^ shown).reshape(-1, 1, *grid)).to(self.inputs.device)
        owner = np.repeat(np.arange(images), kinds * len(counts))
        found = np.empty(len(owner))
        chunk = at_once(self.answer.adapter, CHUNK)
        for start in range(0, len(owner), chunk):
            part = slice(start, start + chunk)
            which = torch.from_numpy(owner[part]).to(self.inputs.device)
            gone = F.interpolate(missing[part].to(self.inputs.dtype), self.inputs.shape[-2:], mode="nearest-exact")
            version = torch.where(gone > 0.5, self.empty[which], self.inputs[which])
            found[part] = self.answer.of(self.answer.output(version), owner[part])
        full = np.empty((images, kinds, steps + 1))
        full[..., 1:-1] = found.reshape(images, kinds, len(counts))
        ends = (self.nothing, self.intact) if shown else (self.intact, self.nothing)
        full[..., 0], full[..., -1] = (end[:, None] for end in ends)
        return full


class _Answer:
    """The number whose change is followed, for inputs that are versions of the batch's images."""

    def __init__(self, batch: Batch, target: Target) -> None:
        self.adapter, self.target = batch.adapter, target
        self.classifies = target.reference is None and batch.adapter.spec.classes > 0
        self.intact = intact = self.output(batch.inputs)
        if self.classifies:
            top = intact.argmax(-1) if target.classes is None else target.classes.expand(len(intact))
            self.goal = top.to(intact.device)
        else:
            self.goal = intact if target.reference is None else target.reference.to(intact).expand_as(intact)

    def of(self, output: Tensor, owner: np.ndarray) -> np.ndarray:
        """The number for every output; ``owner`` says which image each is a version of."""
        goal = self.goal[torch.from_numpy(owner).to(output.device)]
        if self.classifies:
            values = output.softmax(-1).gather(1, goal[:, None])[:, 0]
        else:
            values = F.cosine_similarity(output, goal, dim=-1)
        return values.double().cpu().numpy()

    @torch.no_grad()
    def output(self, inputs: Tensor) -> Tensor:
        """What the model says of inputs: logits, or its embedding of each."""
        module: Any = self.adapter.module
        with self.adapter.lock:
            hidden = module.forward_features(inputs)
            if self.classifies:
                output: Tensor = module.forward_head(hidden).flatten(1)
            else:
                output = embedding(self.adapter, hidden, self.target.pool)
        return output if output.dtype == torch.float64 else output.float()


def _filled(inputs: Tensor, fill: str) -> Tensor:
    if fill == "mean":
        return inputs.mean((2, 3), keepdim=True).expand_as(inputs)
    sigma = min(inputs.shape[-2:]) / 16
    side = 2 * min(round(2 * sigma), (min(inputs.shape[-2:]) - 1) // 2) + 1
    return gaussian_blur(inputs, [side, side], [sigma, sigma])
