"""Deletion and insertion curves: what becomes of a model's answer when patches go, or come, in the order of a map."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from probes.core.capture import Batch
from probes.core.targets import Target, embedding

FILLS = ("blur", "mean")
CHUNK = 32


def curves(batch: Batch, maps: np.ndarray, target: Target, *, steps: int, fill: str) -> tuple[np.ndarray, np.ndarray]:
    """The answer along both curves.

    Args:
        batch: the images.
        maps: (images, maps, rows, columns); cells with the highest values go first, ties in reading order.
        target: whose answer: the probability of its class; the cosine to its reference; without a classifier the
            cosine to the intact image's own embedding.
        steps: how many equal parts of the cells are taken.
        fill: what stands where a cell is missing: the image ``blur`` red, or its ``mean`` colour.

    Returns:
        deletion and insertion, (images, maps, steps + 1), at the parts 0, 1/steps ... 1 of the cells removed or shown.
        NaN for a map of NaN.
    """
    images, kinds, rows, columns = maps.shape
    cells = rows * columns
    inputs, empty = batch.inputs, _filled(batch.inputs, fill)
    answer = _Answer(batch, target)
    ends = answer(torch.cat([inputs, empty]), np.tile(np.arange(images), 2)).reshape(2, images)
    counts = np.round(np.arange(steps + 1) / steps * cells).astype(int)
    rank = np.empty((images, kinds, cells), dtype=int)
    order = np.argsort(-maps.reshape(images, kinds, cells), axis=-1, kind="stable")
    np.put_along_axis(rank, order, np.arange(cells)[None, None], -1)

    inner = counts[1:-1]
    taken = rank[:, :, None] < inner[:, None]  # (images, maps, steps − 1, cells)
    flat = torch.from_numpy(taken.reshape(-1, 1, rows, columns)).to(inputs.device)
    owner = np.repeat(np.arange(images), kinds * len(inner))
    found = np.empty((2, len(owner)))
    for start in range(0, len(owner), CHUNK):
        part = slice(start, min(start + CHUNK, len(owner)))
        which = torch.from_numpy(owner[part]).to(inputs.device)
        gone = F.interpolate(flat[part].to(inputs.dtype), inputs.shape[-2:], mode="nearest-exact") > 0.5
        for side, mask in enumerate((gone, ~gone)):
            found[side, part] = answer(torch.where(mask, empty[which], inputs[which]), owner[part])
    full = np.empty((2, images, kinds, steps + 1))
    full[..., 1:-1] = found.reshape(2, images, kinds, len(inner))
    full[0, ..., 0] = full[1, ..., -1] = ends[0][:, None]
    full[0, ..., -1] = full[1, ..., 0] = ends[1][:, None]
    full[:, ~np.isfinite(maps).all((2, 3))] = np.nan
    return full[0], full[1]


def random_orders(batch: Batch, grid: tuple[int, int], orders: int, seed: int) -> np.ndarray:
    """Maps (images, orders, rows, columns) that order the cells at random, the same for an image in any batch."""
    shape = (orders, *grid)
    return np.stack([np.random.default_rng((seed, image)).random(shape) for image in batch.images])


class _Answer:
    """The number whose change is followed, for inputs that are versions of the batch's images."""

    def __init__(self, batch: Batch, target: Target) -> None:
        self.adapter, self.target = batch.adapter, target
        self.classifies = target.reference is None and batch.adapter.spec.classes > 0
        intact = self._output(batch.inputs)
        if self.classifies:
            top = intact.argmax(-1) if target.classes is None else target.classes.expand(len(intact))
            self.goal = top.to(intact.device)
        else:
            self.goal = intact if target.reference is None else target.reference.to(intact).expand_as(intact)

    def __call__(self, inputs: Tensor, owner: np.ndarray) -> np.ndarray:
        output, goal = self._output(inputs), self.goal[torch.from_numpy(owner).to(inputs.device)]
        if self.classifies:
            values = output.softmax(-1).gather(1, goal[:, None])[:, 0]
        else:
            values = F.cosine_similarity(output, goal, dim=-1)
        return values.double().cpu().numpy()

    @torch.no_grad()
    def _output(self, inputs: Tensor) -> Tensor:
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
