"""Signed distance functions of the ten object classes, evaluated for many images at once.

Every function takes point coordinates ``x`` (to the right) and ``y`` (upwards) of any shape in the object's own frame,
where the object fits a circle of radius about 1, and returns a field of the same shape: negative inside, zero on the
outline, positive outside. The sign is exact everywhere, so masks are exact; away from the outline the magnitude is a
lower bound of the distance where two parts are joined or cut (Hart 1996, "Sphere tracing"), which is enough for
anti-aliasing and shading.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

ShapeFunction = Callable[[Tensor, Tensor], Tensor]


def _circle(x: Tensor, y: Tensor, cx: float, cy: float, radius: float) -> Tensor:
    return torch.sqrt((x - cx) ** 2 + (y - cy) ** 2) - radius


def _box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    qx, qy = x.abs() - half_width, y.abs() - half_height
    outside = torch.sqrt(qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2)
    return outside + torch.maximum(qx, qy).clamp(max=0)


def _polygon(x: Tensor, y: Tensor, vertices: list[tuple[float, float]]) -> Tensor:
    """Exact signed distance of a simple polygon: nearest edge, sign by the parity of crossings of a ray."""
    nearest = torch.full_like(x, math.inf)
    inside = torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        ex, ey = bx - ax, by - ay
        px, py = x - ax, y - ay
        along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        nearest = torch.minimum(nearest, (px - ex * along) ** 2 + (py - ey * along) ** 2)
        if ay != by:
            straddles = (y < ay) != (y < by)
            inside ^= straddles & (px < py * (ex / ey))
    distance = torch.sqrt(nearest)
    return torch.where(inside, -distance, distance)


def disc(x: Tensor, y: Tensor) -> Tensor:
    """A filled circle."""
    return _circle(x, y, 0, 0, 0.82)


def ring(x: Tensor, y: Tensor) -> Tensor:
    """A circle with a wide hole."""
    return _circle(x, y, 0, 0, 0.66).abs() - 0.26


def square(x: Tensor, y: Tensor) -> Tensor:
    """A square on its side."""
    return _box(x, y, 0.72, 0.72)


def triangle(x: Tensor, y: Tensor) -> Tensor:
    """An equilateral triangle with rounded corners, a tip up."""
    corners = [(math.sin(angle), math.cos(angle)) for angle in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    return _polygon(x, y + 0.15, corners) - 0.08


def star(x: Tensor, y: Tensor) -> Tensor:
    """Five points, rounded a little."""
    corners = []
    for k in range(10):
        radius, angle = (1.0 if k % 2 == 0 else 0.45), math.pi * k / 5
        corners.append((radius * math.sin(angle), radius * math.cos(angle)))
    return _polygon(x, y, corners) - 0.05


def heart(x: Tensor, y: Tensor) -> Tensor:
    """A square standing on its corner with a half disc on each of its two upper sides."""
    half = 0.56
    u, v = (x + y) * math.sqrt(0.5), (y - x) * math.sqrt(0.5)
    u, v = u + 0.18, v + 0.18
    lobes = torch.minimum(_circle(u, v, half, 0, half), _circle(u, v, 0, half, half))
    return torch.minimum(_box(u, v, half, half), lobes)


def cross(x: Tensor, y: Tensor) -> Tensor:
    """Two bars of equal arms, one upright."""
    return torch.minimum(_box(x, y, 0.92, 0.29), _box(x, y, 0.29, 0.92))


def crescent(x: Tensor, y: Tensor) -> Tensor:
    """A disc with a disc taken out of its right side."""
    return torch.maximum(_circle(x, y, -0.1, 0, 0.92), -_circle(x, y, 0.42, 0, 0.74))


def leaf(x: Tensor, y: Tensor) -> Tensor:
    """The lens between two circles, its tips up and down."""
    return torch.maximum(_circle(x, y, 0.62, 0, 1.18), _circle(x, y, -0.62, 0, 1.18))


def bone(x: Tensor, y: Tensor) -> Tensor:
    """A bar with two knobs at either end."""
    knobs = _circle(x.abs(), y.abs(), 0.7, 0.27, 0.31)
    return torch.minimum(_box(x, y, 0.7, 0.22), knobs)


SHAPES: dict[str, ShapeFunction] = {
    "disc": disc,
    "ring": ring,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "cross": cross,
    "crescent": crescent,
    "leaf": leaf,
    "bone": bone,
}
"""The ten classes; the label of a class is its position here."""
