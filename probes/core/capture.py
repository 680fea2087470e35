"""One forward pass of the untouched model, with its attention and activations handed over as they are computed."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from model_zoo.adapter import Adapter, Geometry
from model_zoo.layout import Tap
from probes.core.attention import Attention, AttentionCall, AttentionRows, read_call, room
from probes.core.leaving import Leaving, Send, at_once
from probes.core.precision import full_precision

__all__ = ["Attention", "AttentionRows", "Batch", "Tokens", "Weights", "forward"]


@dataclass(frozen=True)
class Tokens:
    """An activation at a canonical point.

    Attributes:
        point: canonical name, e.g. ``resid_post.3``.
        images: indices of the batch's images in the run.
        values: (images, tokens, channels), prefix tokens first; (images, 1, channels) for ``features`` and ``logits``.
        prefix: prefix tokens before the patches.
        grid: patches down and across; (1, 1) for ``features`` and ``logits``.
        geometries: where the model's input lies in each of the images; empty where nobody said.
        send: brings values to the host without waiting for them in the middle of a pass, see `probes.core.leaving`.
    """

    point: str
    images: range
    values: Tensor
    prefix: int
    grid: tuple[int, int]
    geometries: Sequence[Geometry] = ()
    send: Send = field(default=at_once, repr=False)

    @property
    def patches(self) -> Tensor:
        """The patch tokens alone: (images, patches, channels)."""
        return self.values[:, self.prefix :]


class HasSize(Protocol):
    """A picture as far as geometry goes: its width and height."""

    @property
    def size(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Picture:
    """What is left of an original once the inputs are made of it: its width and height."""

    size: tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """A batch for a probe with forward or backward passes of its own.

    Attributes:
        adapter: the model.
        images: indices of the batch's images in the run.
        inputs: (images, 3, height, width), on the model's device.
        originals: the pictures before preprocessing; in a run only their sizes are left.
        masks: gives each picture's true object mask where it has one, see `model_zoo.images.ImageSource`; empty where
            none has.
        labels: gives the name of each picture's class where one is known; empty where none is.
        report: to be called in long work with the share of it that is done, 0 to 1; it may raise to cancel.
    """

    adapter: Adapter
    images: range
    inputs: Tensor
    originals: Sequence[HasSize]
    masks: Sequence[Callable[[], np.ndarray] | None] = ()
    labels: Sequence[Callable[[], str] | None] = ()
    report: Callable[[float], None] = lambda share: None

    @property
    def geometries(self) -> list[Geometry]:
        """Where the model's input lies in each original."""
        return [self.adapter.geometry(original.size) for original in self.originals]


@dataclass(frozen=True)
class Weights:
    """The model itself, for a probe that needs no image."""

    adapter: Adapter


def forward(
    adapter: Adapter,
    inputs: Tensor,
    images: range,
    *,
    on_attention: Callable[[Attention], None] | None = None,
    on_tokens: Callable[[Tokens], None] | None = None,
    points: Collection[str] = (),
    geometries: Sequence[Geometry] = (),
) -> Tensor:
    """Run the model once and hand over what is asked for; return the logits (or features without a classifier).

    Query, key and mask of the fused attention kernel are seen on their way in. It still runs, but on a CPU where all
    rows were asked for: there the weights that were handed over make the layer's output. Layers that write their
    softmax out are read at the input of their attention dropout. What is handed over is valid during the call only.
    The host does not wait for a GPU before the whole pass has been launched; what was sent is handed over then.

    Args:
        adapter: the model.
        inputs: (images, 3, height, width), on the model's device.
        images: indices of the images in the run.
        on_attention: called once per attention layer.
        on_tokens: called once per point.
        points: canonical points to read.
        geometries: where the input lies in each original, handed on; needed by probes that are asked for a point.

    Raises:
        ValueError: a point the model does not have.
        RuntimeError: an attention layer or a point was not seen exactly once.
    """
    unknown = sorted(set(points) - set(adapter.layout.taps))
    if unknown:
        raise ValueError(f"{adapter.spec.name} has no point {unknown[0]!r}; it has {', '.join(adapter.layout.taps)}")
    seen: Counter[str] = Counter()
    module: Any = adapter.module
    leaving = Leaving()

    def give(tokens: Tokens) -> None:
        if on_tokens is not None:
            with full_precision(adapter):
                on_tokens(replace(tokens, geometries=geometries, send=leaving.send))

    with adapter.lock:
        with ExitStack() as stack:
            for point in points:
                for handle in _tap(adapter, point, images, give, seen):
                    stack.callback(handle.remove)
            if on_attention or any(p.startswith(("query.", "key.", "value.")) for p in points):
                watch = _Watch(adapter, images, geometries, on_attention, leaving.send, give, points, seen)
                for handle in watch.hooks():
                    stack.callback(handle.remove)
                stack.enter_context(watch)
            hidden = module.forward_features(inputs)
            logits: Tensor = module.forward_head(hidden)
        features = module.forward_head(hidden, pre_logits=True) if "features" in points else logits
    for point, values in (("features", features), ("logits", logits)):
        if point in points:
            seen[point] += 1
            give(Tokens(point, images, values.flatten(1).unsqueeze(1).detach(), 0, (1, 1)))
    expected = set(points) | ({layer.name for layer in adapter.spec.layers} if on_attention else set())
    wrong = {name: seen[name] for name in sorted(expected) if seen[name] != 1}
    if wrong:
        name, times = next(iter(wrong.items()))
        raise RuntimeError(
            f"{name} of {adapter.spec.name} was seen {times} times in one forward pass, expected once; "
            "the model does not run the way its layout says"
        )
    leaving.arrive()
    return logits


def _tap(
    adapter: Adapter, point: str, images: range, give: Callable[[Tokens], None], seen: Counter[str]
) -> list[RemovableHandle]:
    tap = adapter.layout.taps[point]
    if point in ("features", "logits") or point.startswith(("query.", "key.", "value.")):
        return []

    def take(value: Tensor) -> None:
        seen[point] += 1
        give(_tokens(point, images, value.detach(), tap))

    module = adapter.module.get_submodule(tap.module)
    if tap.side == "in":
        return [module.register_forward_pre_hook(lambda _, args: take(args[0]))]
    return [module.register_forward_hook(lambda _, args, output: take(output))]


def _tokens(point: str, images: range, value: Tensor, tap: Tap) -> Tokens:
    """Bring (batch, channels, height, width) and (batch, height, width, channels) to tokens."""
    if value.ndim == 3:
        return Tokens(point, images, value, tap.prefix, tap.grid)
    value = value if tap.channels_last else value.permute(0, 2, 3, 1)
    return Tokens(point, images, value.flatten(1, 2), 0, (value.shape[1], value.shape[2]))


class _Watch(TorchFunctionMode):
    """Sees every attention call and knows from the running module which layer it belongs to."""

    def __init__(
        self,
        adapter: Adapter,
        images: range,
        geometries: Sequence[Geometry],
        on_attention: Callable[[Attention], None] | None,
        send: Send,
        give: Callable[[Tokens], None],
        points: Collection[str],
        seen: Counter[str],
    ) -> None:
        super().__init__()
        self.adapter, self.images = adapter, images
        self.on_attention, self.give, self.points, self.seen = on_attention, give, points, seen
        self.attention: dict[str, Any] = {"geometries": geometries, "send": send, "room": room(adapter.device)}
        self.running: int | None = None

    def hooks(self) -> list[RemovableHandle]:
        handles = []
        for index, layer in enumerate(self.adapter.spec.layers):
            module = self.adapter.module.get_submodule(layer.name)
            handles.append(module.register_forward_pre_hook(lambda _, args, i=index: self._enter(i)))
            handles.append(module.register_forward_hook(lambda *_: self._enter(None), always_call=True))
            dropout = getattr(module, "attn_drop", None)
            if isinstance(dropout, nn.Module):
                handles.append(dropout.register_forward_pre_hook(lambda _, args: self._take(weights=args[0])))
        return handles

    def _enter(self, index: int | None) -> None:
        self.running = index

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention and self.running is not None:
            output = self._call(read_call(*args, **kwargs))
            if output is not None:
                return output
        return func(*args, **kwargs)

    def _call(self, call: AttentionCall) -> Tensor | None:
        for facet in ("query", "key", "value"):
            point = f"{facet}.{self.running}"
            if point in self.points:
                self.seen[point] += 1
                tokens = getattr(call, facet).detach().transpose(1, 2).flatten(2)
                self.give(_tokens(point, self.images, tokens, self.adapter.layout.taps[point]))
        value = call.value if call.by_rows else None
        return self._take(query=call.query, key=call.key, value=value, bias=call.bias, scale=call.scale)

    def _take(self, **given: Any) -> Tensor | None:
        if self.running is None:
            return None
        layer = self.adapter.spec.layers[self.running]
        self.seen[layer.name] += 1
        if self.on_attention is not None:
            with full_precision(self.adapter):
                attention = Attention(self.running, layer, self.images, **self.attention, **given)
                self.on_attention(attention)
                return attention.take_output()
        return None


def ready_to_copy(adapter: Adapter, inputs: Tensor) -> Tensor:
    """Put inputs of a GPU into pinned memory; done where images are opened, beside the model's work."""
    return inputs.pin_memory() if adapter.device.type == "cuda" else inputs


def same_device(adapter: Adapter, inputs: Tensor) -> Tensor:
    """Bring inputs to the model's device; out of pinned memory the host does not wait for it."""
    return inputs.to(adapter.device, non_blocking=True)
