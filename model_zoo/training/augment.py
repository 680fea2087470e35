"""Random crops and colour changes of a whole batch at once, on whatever device holds it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur


def jittered_crops(
    images: Tensor,
    size: int,
    scale: tuple[float, float],
    flip: bool = False,
    colour: float = 0.0,
    hue: float | None = None,
) -> Tensor:
    """One random square crop of every image, resized, with random changes of colour.

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: side of the crops in pixels.
        scale: smallest and largest share of the image's area in a crop.
        flip: mirror half of the crops.
        colour: strength of :func:`jittered_colours`; 0 is off.
        hue: its largest change of hue.

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
    return jittered_colours(crops, colour, hue) if colour else crops.clamp(0, 1)


def blurred(images: Tensor, share: float, most: float) -> Tensor:
    """A random share of the images through a Gaussian filter, one width for all of them.

    Args:
        images: (B, 3, H, W).
        share: how many are blurred, 0 to 1.
        most: largest standard deviation as a share of the side; the smallest is a tenth of it.
    """
    sigma = images.shape[-1] * most * float(torch.empty(1).uniform_(0.1, 1))
    reach = 2 * math.ceil(2 * sigma) + 1
    chosen = torch.rand(len(images), device=images.device) < share
    return torch.where(chosen[:, None, None, None], gaussian_blur(images, [reach, reach], [sigma, sigma]), images)


def jittered_colours(images: Tensor, strength: float, hue: float | None = None) -> Tensor:
    """Random changes of brightness, contrast, saturation and hue of every image; a fifth of them loses its colour.

    Hue and saturation are the angle and length of the colour in the plane of the YIQ space that brightness is not in.

    Args:
        images: (B, 3, H, W) in [0, 1].
        strength: largest relative change of contrast and saturation; brightness changes by half of it.
        hue: largest change of hue in turns, 0.5 for any hue at all; None is a tenth of ``strength``.

    Returns:
        images of the same shape, in [0, 1].
    """
    count, device = len(images), images.device
    change = (torch.rand(4, count, 1, 1, device=device) * 2 - 1) * strength
    turn = 0.1 if hue is None else hue / strength
    red, green, blue = images.unbind(1)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    i = 0.596 * red - 0.274 * green - 0.322 * blue
    q = 0.211 * red - 0.523 * green + 0.312 * blue
    angle = change[0] * (turn * 2 * math.pi)
    length = torch.where(torch.rand(count, 1, 1, device=device) < 0.2, 0.0, 1 + change[1])
    i, q = (
        (i * torch.cos(angle) - q * torch.sin(angle)) * length,
        (i * torch.sin(angle) + q * torch.cos(angle)) * length,
    )
    changed = torch.stack([y + 0.956 * i + 0.621 * q, y - 0.272 * i - 0.647 * q, y - 1.106 * i + 1.703 * q], dim=1)
    return ((changed - 0.5) * (1 + change[2])[:, None] + 0.5 + (change[3] / 2)[:, None]).clamp(0, 1)
