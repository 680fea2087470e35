"""Random crops and colour changes of a whole batch at once, on whatever device holds it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def jittered_crops(
    images: Tensor, size: int, scale: tuple[float, float], flip: bool = False, colour: float = 0.0
) -> Tensor:
    """One random square crop of every image, resized, with a random change of brightness and contrast.

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: side of the crops in pixels.
        scale: smallest and largest share of the image's area in a crop.
        flip: mirror half of the crops.
        colour: largest relative change of brightness and of contrast; colours keep their hue.

    Returns:
        (B, 3, size, size) in [0, 1].
    """
    count, device = len(images), images.device
    side = torch.sqrt(torch.empty(count, device=device).uniform_(*scale))
    centre = (torch.rand(count, 2, device=device) * 2 - 1) * (1 - side)[:, None]
    mirror = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0) if flip else torch.ones_like(side)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * mirror, side, centre
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    shrink = images.shape[-1] * math.sqrt(scale[0] * scale[1]) / size
    if shrink > 1.5:
        images = F.avg_pool2d(images, round(shrink))
    crops = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if colour:
        gain = 1 + (torch.rand(count, 1, 1, 1, device=device) * 2 - 1) * colour
        shift = (torch.rand(count, 1, 1, 1, device=device) * 2 - 1) * colour * 0.5
        crops = (crops - 0.5) * gain + 0.5 + shift
    return crops.clamp(0, 1)
