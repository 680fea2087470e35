"""What noise of one spatial frequency does to a model's answer and to its embedding."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from model_zoo.adapter import Adapter, ModelSpec
from model_zoo.features import extract
from probes.core import ring_noise
from probes.core.base import Probe, one_of
from probes.core.capture import Batch
from probes.core.moments import Moments

MEASURED = ("cosine", "kept", "accuracy", "accuracy_change")
SPACE = "pixels from 0 to 1 of the model's input, before it is normalised"


@dataclass
class _State:
    spec: ModelSpec
    moments: Moments = field(default_factory=Moments)  # over images, of (MEASURED, frequency)


@dataclass(frozen=True)
class FrequencyNoise(Probe):
    r"""Accuracy and embedding under random noise of one band of spatial frequencies.

    .. math::
        x' = x + \operatorname{Re} \mathcal F^{-1}(M_f \odot \mathcal F\delta), \qquad
        \delta = \varepsilon \operatorname{sign}(n), \quad n \sim \mathcal N(0, 1)

    with :math:`x` the model's input as pixels from 0 to 1, before it is normalised, not clipped afterwards, and
    :math:`M_f` a square ring around frequency 0 between the half-widths :math:`\lfloor(f - s)\,h/2\pi\rfloor` and
    :math:`\lfloor(f + s)\,h/2\pi\rfloor` bins, of a height h and with the width in place of h across. Signs are drawn
    from ``seed`` and the number of the image in the run, so models whose inputs have the same size get the same noise.

    Args:
        epsilon: ε, the size of the noise in units of the pixels' range, before all but the ring is taken away.
        width: s, half of the ring's width, radians per pixel.
        frequencies: how many f, evenly from 0 to π.
        power: ``ring``, the paper's: the noise is as strong as the ring has bins, about as the root of f.
            ``equal``: it is divided so that its root mean square is ε at every f.
        seed: of the noise.

    Returns:
        over ``frequency`` (radians per pixel; π is a pattern that changes with every pixel): ``cosine`` between the
        embeddings of the image with and without noise, −1 to 1, of the vector that stands for an image in this model
        (``ModelSpec.features``); ``kept``, the share of images whose first answer stays, NaN without a classifier;
        ``accuracy`` with noise and ``accuracy_change``, its difference to that without, over the images whose class is
        known and one of the model's, NaN where there are none. ``cosine_sem``, ``kept_sem`` and ``accuracy_change_sem``
        are standard errors over images. ``noise_rms``: root mean square of the noise, in units of the pixels' range.

    Note:
        With ``power=ring`` a drop at high f is partly that the noise is stronger there: read it with ``noise_rms``,
        or beside ``equal``. A frequency is one of the model's input: models of other input sizes see it at another
        size in the picture. Images are shown that no camera makes; nothing is said of natural corruptions. Cosines of
        different models have no common level.

    Raises:
        ValueError: a parameter out of range.

    Reference:
        Park & Kim 2022, arXiv:2202.06709, Fig. 2b; in its code the noise is added to normalised inputs.
    """

    epsilon: float = 0.2
    width: float = 0.2
    frequencies: int = 9
    power: str = "ring"
    seed: int = 0
    title: ClassVar[str] = "Frequency noise"
    reads: ClassVar[frozenset[str]] = frozenset({"batch"})

    def __post_init__(self) -> None:
        one_of("power", self.power, ring_noise.POWERS)
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"epsilon is {self.epsilon}; it must be above 0 and at most 1.")
        if not 0.05 <= self.width <= np.pi:
            raise ValueError(f"width is {self.width}; it must be from 0.05 to π.")
        if not 2 <= self.frequencies <= 64:
            raise ValueError(f"frequencies is {self.frequencies}; it must be from 2 to 64.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {2**32 - 1}.")

    @property
    def axis(self) -> np.ndarray:
        """The frequencies, radians per pixel."""
        return np.linspace(0, np.pi, self.frequencies)

    def undefined(self, spec: ModelSpec) -> str | None:
        """Inputs so small that a ring holds no frequency."""
        for f in self.axis:
            if not ring_noise.strength(spec.input_size, float(f), self.width):
                return f"in its input of {spec.input_size[0]} × {spec.input_size[1]} pixels a ring is without frequency"
        return None

    def init(self, spec: ModelSpec) -> _State:
        """Nothing seen."""
        return _State(spec)

    def update(self, state: _State, seen: Batch) -> _State:
        """Show a batch without noise and with noise of each frequency."""
        adapter, size = seen.adapter, (seen.inputs.shape[2], seen.inputs.shape[3])
        deviation = np.asarray(adapter.config["std"])[:, None, None]
        spectra = np.fft.rfft2(np.stack([ring_noise.signs(size, image, self.seed) for image in seen.images]))
        clean, answer = _answered(adapter, seen.inputs)
        labels = _labels(state.spec, seen.labels, len(seen.images))
        found = np.full((len(seen.images), len(MEASURED), self.frequencies), np.nan)
        for place, f in enumerate(self.axis):
            noise = ring_noise.banded(spectra, size, float(f), width=self.width, power=self.power)
            added = torch.from_numpy(self.epsilon * noise / deviation).to(seen.inputs)
            features, noisy = _answered(adapter, seen.inputs + added)
            found[:, 0, place] = F.cosine_similarity(clean.double(), features.double(), dim=-1).cpu().numpy()
            if state.spec.classes:
                found[:, 1, place] = noisy == answer
                found[:, 2, place] = np.where(labels < 0, np.nan, noisy == labels)
                found[:, 3, place] = found[:, 2, place] - (answer == labels)
        state.moments = state.moments + Moments.of(found, np.isfinite(found))
        return state

    def merge(self, a: _State, b: _State) -> _State:
        """Moments over the images of both."""
        return _State(a.spec, a.moments + b.moments)

    def compute(self, state: _State) -> xr.Dataset:
        """Means and standard errors."""
        mean = np.where(state.moments.count > 0, state.moments.mean, np.nan)
        error = dict(zip(MEASURED, state.moments.standard_error(), strict=True))
        n, _, labelled, _ = (int(count) for count in state.moments.count[:, 0])
        units = dict.fromkeys(MEASURED, "share of the images") | {"cosine": "cosine"}
        variables: dict[str, Any] = {}
        for name, values in zip(MEASURED, mean, strict=True):
            variables[name] = ("frequency", values, {"units": units[name]})
            if name != "accuracy":
                variables[f"{name}_sem"] = ("frequency", error[name], {"units": units[name]})
        share = [ring_noise.strength(state.spec.input_size, float(f), self.width) for f in self.axis]
        rms = self.epsilon * (np.asarray(share) if self.power == "ring" else np.ones(self.frequencies))
        variables["noise_rms"] = ("frequency", rms, {"units": "range of the pixels"})
        attrs = {
            "n": n,
            "labelled": labelled,
            "noise_in": SPACE,
            "epsilon": self.epsilon,
            "width": self.width,
            "power": self.power,
            "seed": self.seed,
            "features": state.spec.features,
        }
        if labelled:
            attrs["accuracy_without_noise"] = float(mean[2, 0] - mean[3, 0])
        axis = ("frequency", self.axis, {"units": "radians per pixel"})
        return xr.Dataset(variables, coords={"frequency": axis}, attrs=attrs)


def _answered(adapter: Adapter, inputs: Tensor) -> tuple[Tensor, np.ndarray]:
    """Embeddings (images, channels), and first answers (images,) or −1 without a classifier."""
    with adapter.lock:
        found = extract(adapter.module, inputs, logits=bool(adapter.spec.classes))
    kind = adapter.spec.features
    features = found[kind if kind in found else "mean"]
    answers = found["logits"].argmax(1).cpu().numpy() if "logits" in found else np.full(len(inputs), -1)
    return features, answers


def _labels(spec: ModelSpec, labels: Sequence[Any], count: int) -> np.ndarray:
    """The class of every image as the classifier numbers it; −1 where it is not known or none of the model's."""
    numbers = {label.split(",")[0].strip().lower(): number for number, label in enumerate(spec.labels)}
    names = [label() if label is not None else "" for label in labels] or [""] * count
    return np.array([numbers.get(name.strip().lower(), -1) for name in names])
