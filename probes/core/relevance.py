"""Class-specific relevance maps, one function per method; `probes.attention_relevance` is the probe around them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_zoo.adapter import Adapter, ModelSpec
from probes.core.gradients import attention_gradients, gradient_pass, images_at_once
from probes.core.targets import Score, Target

THROUGH_ATTENTION = ("chefer", "grad-rollout", "grad-cam")
METHODS = (*THROUGH_ATTENTION, "integrated-gradients", "token-grad-cam")
FLAT = 1e-6
"""A map that varies by less than this part of its largest magnitude says nothing and is not shown as one."""
SAME = 1e-5
"""A cosine this close to one is that of an image with itself."""
CNN_CELL = 16
"""Integrated gradients of a convolutional network are summed over cells of this many pixels."""
MOST_AT_ONCE = 64
"""Points of the paths of integrated gradients that run together, where memory allows."""


@dataclass(frozen=True)
class Relevance:
    """What a method gives for one batch.

    Attributes:
        maps: (images, rows, columns).
        score: what the target came to.
        readout: the token whose relevance it is: ``cls``, ``cls+dist``, ``pool`` (SigLIP's query), ``mean`` over the
            patches where the model averages them, or ``none`` for methods that need no such token.
    """

    maps: Tensor
    score: Score
    readout: str = "none"


def undefined(spec: ModelSpec, method: str, start: int = 0) -> str | None:
    """Say in one sentence why a method is not defined for a model; None where it is."""
    others = "integrated-gradients and token-grad-cam are defined"
    if method in THROUGH_ATTENTION:
        if not spec.layers:
            return f"{spec.no_attention}, which {method} needs; {others}"
        if any(layer.kind == "window" for layer in spec.layers):
            return f"this model attends within windows and has no token that {method} could start from; {others}"
        if spec.interrupted and method != "grad-cam":
            return f"convolutions mix patches between this model's attention layers, and {method} would skip them"
        if start >= len(spec.layers):
            return f"this model has the layers 0 to {len(spec.layers) - 1}: relevance cannot start at layer {start}"
    elif method == "token-grad-cam" and "embed" not in spec.points:
        return "this model has no blocks whose tokens can be read"
    return None


def relevance(
    adapter: Adapter, inputs: Tensor, method: str, target: Target, *, start: int = 0, steps: int = 32
) -> Relevance:
    """Relevance of every cell of the input grid for the target.

    Args:
        adapter: a model for which the method is not `undefined`.
        inputs: (images, 3, height, width), on the model's device.
        method: one of `METHODS`.
        target: what is explained.
        start: first layer taken into account by chefer and grad-rollout.
        steps: points on the path of integrated gradients.
    """
    match method:
        case "chefer" | "grad-rollout":
            return _in_parts(
                images_at_once(adapter, inputs, target, written_out=True), inputs, target,
                lambda part, of: _carried(adapter, part, of, start, rollout=method == "grad-rollout"),
            )  # fmt: skip
        case "grad-cam":
            return _grad_cam(adapter, inputs, target)
        case "integrated-gradients":
            most = min(images_at_once(adapter, inputs, target, written_out=False), MOST_AT_ONCE)
            return _in_parts(
                most, inputs, target, lambda part, of: _integrated_gradients(adapter, part, of, steps, most)
            )
        case "token-grad-cam":
            return _token_grad_cam(adapter, inputs, target)
    raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS)}.")


def _in_parts(most: int, inputs: Tensor, target: Target, explain: Callable[[Tensor, Target], Relevance]) -> Relevance:
    """What is explained of so many images at a time, put together."""
    found = [explain(inputs[first : first + most], target.of(first, most)) for first in range(0, len(inputs), most)]
    if len(found) == 1:
        return found[0]
    values, classes, logits = zip(*(part.score for part in found), strict=True)
    score = Score(torch.cat(values), torch.cat(classes), None if logits[0] is None else torch.cat(logits))
    return Relevance(torch.cat([part.maps for part in found]), score, found[0].readout)


def vanished(maps: np.ndarray, method: str, similarity: np.ndarray | None) -> np.ndarray:
    """Which maps say nothing: the same value everywhere, or the rounding errors of a gradient that is zero.

    Args:
        maps: (images, rows, columns).
        method: how they came about.
        similarity: (images,) the explained cosine, None for a class. At one its gradient is zero: nothing could make
            an image more like itself. Integrated gradients do not rest on the gradient at the image alone.
    """
    blank: np.ndarray = ~(np.ptp(maps, axis=(1, 2)) > FLAT * np.abs(maps).max((1, 2)))
    if similarity is not None and method != "integrated-gradients":
        blank |= similarity > 1 - SAME
    return blank


@dataclass
class _Carry:
    r"""A row vector over the model's tokens on its way from the last layer to the input.

    Chefer: :math:`v \leftarrow v (I + F)` with :math:`F = \operatorname{mean}_h (\nabla A \odot A)^+`.
    Gradient rollout: :math:`v \leftarrow v \operatorname{rownorm}(I + F)` with
    :math:`F = (\operatorname{mean}_h \nabla A \odot A)^+`.

    The vector is kept in two parts. ``stayed`` took the identity in every layer: it lies on the tokens that are read
    out, on CLS, or evenly on all patches, where it would drown what attention brought, ``arrived``. The map is the
    latter.
    """

    adapter: Adapter
    rollout: bool
    readout: str
    arrived: Tensor | None = None
    stayed: Tensor | None = None

    def take(self, index: int, attention: Tensor, gradient: Tensor) -> None:
        layer, prefix = self.adapter.spec.layers[index], len(self.adapter.spec.prefix)
        weights = attention * gradient
        fused = weights.mean(1).relu() if self.rollout else weights.relu().mean(1)
        if layer.kind == "pool":  # the query is no token of the sequence: its own row is where the vector begins
            self.arrived, self.stayed = fused[:, 0], torch.zeros_like(fused[:, 0])
            return
        if self.arrived is None or self.stayed is None:
            self.arrived, self.stayed = self._begin(weights, prefix)
        # Layers that run before CLS joins the patches see the patches alone.
        arrived, stayed = (x[:, prefix - layer.prefix :] for x in (self.arrived, self.stayed))
        if self.rollout:
            norm = 1 + fused.sum(-1)
            for part in (arrived, stayed):
                part[:, : layer.queries] /= norm
        asking = (arrived + stayed)[:, : layer.queries]
        arrived += asking.unsqueeze(1).matmul(fused).squeeze(1)

    def _begin(self, weights: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        height, width = self.adapter.spec.grid
        stayed = weights.new_zeros(len(weights), prefix + height * width)
        if self.readout in ("cls", "cls+dist"):
            tokens = 1 + self.readout.count("+")
            stayed[:, :tokens] = 1 / tokens
        else:
            stayed[:, prefix:] = 1 / (height * width)
        return torch.zeros_like(stayed), stayed

    def map(self) -> Tensor:
        """Relevance of the patches: (images, rows, columns)."""
        assert self.arrived is not None
        return self.arrived[:, len(self.adapter.spec.prefix) :].unflatten(1, self.adapter.spec.grid)


def _carried(adapter: Adapter, inputs: Tensor, target: Target, start: int, *, rollout: bool) -> Relevance:
    r"""The readout row of :math:`\prod_l (I + F_l)` (chefer) or of :math:`\prod_l \operatorname{rownorm}(I + F_l)`."""
    row = target.readout(adapter)
    carry = _Carry(adapter, rollout, row)
    score = attention_gradients(adapter, inputs, target, carry.take, start)
    return Relevance(carry.map(), score, row)


def _grad_cam(adapter: Adapter, inputs: Tensor, target: Target) -> Relevance:
    r"""The last layer's readout row :math:`(\operatorname{mean}_h w_h A_h)^+`, :math:`w_h` the head's mean gradient."""
    row, last = target.readout(adapter), len(adapter.spec.layers) - 1
    layer = adapter.spec.layers[last]
    maps: list[Tensor] = []

    def take(index: int, attention: Tensor, gradient: Tensor) -> None:
        rows = slice(layer.prefix, None) if row == "mean" else slice(0, 1 + row.count("+"))
        attention, gradient = (x[:, :, rows, layer.prefix :] for x in (attention, gradient))
        if row == "mean":
            attention, gradient = (x.mean(2, keepdim=True) for x in (attention, gradient))
        maps.append((gradient.mean(-1, keepdim=True) * attention).mean(1).relu().sum(1))

    score = attention_gradients(adapter, inputs, target, take, last)
    return Relevance(maps[0].unflatten(1, layer.grid), score, row)


def _integrated_gradients(adapter: Adapter, inputs: Tensor, target: Target, steps: int, most: int) -> Relevance:
    """Captum's integrated gradients from the checkpoint's mean colour, summed over each cell's pixels and colours.

    So many points of the paths at most run together.
    """
    from captum.attr import IntegratedGradients

    with gradient_pass(adapter):
        inputs = inputs.clone()
        with torch.no_grad():
            score = target.score(adapter, inputs)
        settled = target.fixed(score.classes)
        method = IntegratedGradients(lambda x: settled.score(adapter, x).values)
        pixels = method.attribute(inputs, baselines=0.0, n_steps=steps, internal_batch_size=most)
    cell = adapter.spec.patch or CNN_CELL
    return Relevance(F.avg_pool2d(pixels.sum(1), cell) * cell**2, score)


def _token_grad_cam(adapter: Adapter, inputs: Tensor, target: Target) -> Relevance:
    """Captum's Grad-CAM where the last block reads its tokens; on a CNN, on the last block's output."""
    from captum.attr import LayerGradCam

    path, prefix, channels_last = _last_tokens(adapter)
    view = nn.Identity()

    def pass_through(tokens: Tensor) -> Tensor:
        """Show captum the patches as (images, channels, rows, columns), and give the model its own shape back."""
        if tokens.ndim == 4:
            return view(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if channels_last else view(tokens)
        grid = tokens[:, prefix:].transpose(1, 2).unflatten(2, adapter.spec.grid)
        return torch.cat([tokens[:, :prefix], view(grid).flatten(2).transpose(1, 2)], 1)

    with gradient_pass(adapter):
        inputs = inputs.clone()
        with torch.no_grad():
            score = target.score(adapter, inputs)
        settled = target.fixed(score.classes)
        module = adapter.module.get_submodule(path)
        handle = module.register_forward_hook(lambda _, args, output: pass_through(output))
        try:
            method = LayerGradCam(lambda x: settled.score(adapter, x).values, view)
            maps = method.attribute(inputs, relu_attributions=True)
        finally:
            handle.remove()
    return Relevance(maps[:, 0].detach(), score)


def _last_tokens(adapter: Adapter) -> tuple[str, int, bool]:
    """Module, prefix tokens and channel order of the last tokens that all patches still take part in.

    Where a CLS token is read out the last block's output has no gradient at the patches, so its input is taken, after
    the norm. Swin averages its patches: there it is the final norm.
    """
    taps = adapter.layout.taps
    last = [point for point in taps if point.startswith("resid_post.")][-1]
    tap, modules = taps[last], dict(adapter.module.named_modules())
    if not adapter.spec.is_transformer:
        return tap.module, 0, tap.channels_last
    if adapter.spec.layers and adapter.spec.layers[-1].kind == "window":
        return "norm", 0, taps["norm"].channels_last
    norm = next(f"{tap.module}.{name}" for name in ("norm1", "norm_out") if f"{tap.module}.{name}" in modules)
    return norm, tap.prefix, tap.channels_last
