"""Random noise of one band of spatial frequencies, the same for every model that has inputs of the same size."""

from functools import lru_cache

import numpy as np

POWERS = ("ring", "equal")


def signs(size: tuple[int, int], image: int, seed: int) -> np.ndarray:
    """Independent signs −1 or 1 for every pixel and colour of an image: (3, height, width).

    Args:
        size: height and width.
        image: number of the image, so that images differ and batches do not matter.
        seed: of all images.
    """
    return np.sign(np.random.default_rng((seed, image)).standard_normal((3, *size)))


@lru_cache(maxsize=64)
def ring(size: tuple[int, int], frequency: float, width: float) -> np.ndarray:
    r"""How much of every bin of the real transform is kept: (height, ⌊width/2⌋ + 1), from 0 to 1.

    The mask M keeps the bins (u, v) that are in the square of the outer half-width and not in that of the inner one.
    With n bins along an axis the square of half-width :math:`k = \lfloor (f \pm s)\,n/2\pi \rfloor` holds those with
    :math:`-k \le u < k`, as in the paper's code. It lacks +k, so the noise is made real by leaving out its imaginary
    part; that is the same as the mean of M at (u, v) and at (−u, −v), which is given here.

    Args:
        size: height and width, pixels.
        frequency: f, radians per pixel.
        width: s, half the width of the ring, radians per pixel.
    """
    whole = _square(size, frequency + width) & ~_square(size, frequency - width)
    opposite = np.roll(whole[::-1, ::-1], 1, (0, 1))
    return (whole.astype(float) + opposite)[:, : size[1] // 2 + 1] / 2


def _square(size: tuple[int, int], half: float) -> np.ndarray:
    inside = []
    for n in size:
        most, bins = max(int(half * n / (2 * np.pi)), 0), np.fft.fftfreq(n, 1 / n).round()
        inside.append((-most <= bins) & (bins < most))
    return inside[0][:, None] & inside[1][None]


def strength(size: tuple[int, int], frequency: float, width: float) -> float:
    """Root mean square of what a ring leaves of white noise of 1."""
    half = ring(size, frequency, width)
    across = np.arange(half.shape[1])
    twice = 1.0 + ((across > 0) & (2 * across < size[1]))
    return float(np.sqrt((half**2 * twice).sum() / (size[0] * size[1])))


def banded(
    spectrum: np.ndarray, size: tuple[int, int], frequency: float, *, width: float, power: str = "ring"
) -> np.ndarray:
    r"""Re F⁻¹(M ⊙ Fδ) of noise δ, whose real transform Fδ is given: (..., height, width).

    Args:
        spectrum: (..., height, ⌊width/2⌋ + 1), of `signs` by ``numpy.fft.rfft2``.
        size: height and width.
        frequency: middle of the ring, radians per pixel.
        width: half the ring's width.
        power: ``ring`` as it is, the stronger the more bins the ring holds; ``equal`` divided by its `strength`.
    """
    noise = np.fft.irfft2(ring(size, frequency, width) * spectrum, s=size)
    return noise / strength(size, frequency, width) if power == "equal" else noise
