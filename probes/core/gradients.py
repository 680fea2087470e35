"""Gradients with respect to attention, from a forward and a backward pass of the untouched model."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from model_zoo.adapter import Adapter
from probes.core.attention import AttentionCall, read_call, room
from probes.core.precision import full_precision
from probes.core.targets import Score, Target

OnLayer = Callable[[int, Tensor, Tensor], None]

GRAPH_BYTES = 512 * 2**20
"""What the graphs of the images that run together may keep on a CPU, where more of them are not faster."""
_MEASURED: WeakKeyDictionary[Adapter, int] = WeakKeyDictionary()


@contextmanager
def gradient_pass(adapter: Adapter) -> Iterator[None]:
    """Gradients on, in the model's own type, whatever the caller runs under; nobody else on the model meanwhile."""
    with adapter.lock, torch.inference_mode(False), torch.enable_grad(), full_precision(adapter):
        yield


def images_at_once(adapter: Adapter, inputs: Tensor, target: Target, *, written_out: bool) -> int:
    """How many images may run together when the gradient passes through all of a model.

    Args:
        adapter: the model.
        inputs: (images, 3, height, width), of which the first tells what a graph keeps.
        target: what will be differentiated.
        written_out: whether the pass keeps every layer's attention, as `attention_gradients` does.
    """
    sizes = [layer.heads * layer.queries * layer.reach for layer in adapter.spec.layers] if written_out else []
    matrices = sum(sizes) + 3 * max(sizes, default=0)  # of the layer where the backward pass is, three more
    each = graph_bytes(adapter, inputs[:1], target) + matrices * inputs.element_size()
    most = room(inputs.device)[0] if inputs.device.type == "cuda" else GRAPH_BYTES
    return max(1, most // each)


def graph_bytes(adapter: Adapter, image: Tensor, target: Target) -> int:
    """What autograd keeps between the forward and the backward pass of one image, beside the weights; measured once."""
    if adapter not in _MEASURED:
        weights = {weight.untyped_storage().data_ptr() for weight in adapter.module.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with gradient_pass(adapter), saved_tensors_hooks(keep, lambda tensor: tensor):
            score = target.score(adapter, image.clone().requires_grad_())
        del score  # until here the graph lived, and no two of its parts had one address
        _MEASURED[adapter] = sum(kept.values())
    return _MEASURED[adapter]


def attention_gradients(adapter: Adapter, inputs: Tensor, target: Target, on_layer: OnLayer, start: int = 0) -> Score:
    r"""Hand over every layer's attention with its gradient, :math:`A_l` and :math:`\partial y / \partial A_l`.

    Attention is written out as softmax and product for the time of the pass, by a torch function mode and hooks that
    are gone afterwards, also after an exception; no module is edited and no parameter needs a gradient. All images run
    at once: the sum of their targets is differentiated, and images do not mix. A layer is handed over as soon as the
    backward pass reaches it, so that one layer's gradient is held at a time.

    Args:
        adapter: the model.
        inputs: (images, 3, height, width), on the model's device.
        target: what to differentiate.
        on_layer: called from the last layer down to ``start`` with the layer's index, the attention and its gradient,
            each (images, heads, queries, keys).
        start: first layer wanted; the ones before run fused and without a graph.

    Returns:
        What the target came to.

    Raises:
        RuntimeError: a layer was not seen exactly once, or the target does not depend on it.
    """
    layers = range(start, len(adapter.spec.layers))
    arrived: list[int] = []
    with ExitStack() as stack:
        stack.enter_context(gradient_pass(adapter))
        written_out = _WrittenOut(adapter, start)
        with ExitStack() as hooks:
            written_out.install(hooks)
            score = target.score(adapter, inputs.clone())
        if sorted(written_out.seen) != list(layers):
            raise RuntimeError(f"{adapter.spec.name} ran the attention layers {written_out.seen}, expected {layers}")

        def arrive(index: int, gradient: Tensor) -> None:
            arrived.append(index)
            on_layer(index, written_out.attention[index].detach(), gradient)
            if index > start:
                del written_out.attention[index]

        for index in layers[1:]:
            handle = written_out.attention[index].register_hook(lambda gradient, i=index: arrive(i, gradient))
            stack.callback(handle.remove)
        (gradient,) = torch.autograd.grad(score.values.sum(), written_out.attention[start])
        arrive(start, gradient)
    if arrived != list(reversed(layers)):
        raise RuntimeError(
            f"{adapter.spec.name} gave gradients for the layers {arrived}, expected {layers} from the end"
        )
    return score._replace(values=score.values.detach())


class _WrittenOut(TorchFunctionMode):
    """Replaces the fused attention call by softmax and product, and keeps the attention as part of the graph."""

    def __init__(self, adapter: Adapter, start: int) -> None:
        super().__init__()
        self.adapter, self.start = adapter, start
        self.running: int | None = None
        self.seen: list[int] = []
        self.attention: dict[int, Tensor] = {}

    def install(self, stack: ExitStack) -> None:
        for index, layer in enumerate(self.adapter.spec.layers):
            if index < self.start:
                continue
            module = self.adapter.module.get_submodule(layer.name)
            enter = module.register_forward_pre_hook(lambda _, args, i=index: self._enter(i))
            leave = module.register_forward_hook(lambda *_: self._enter(None), always_call=True)
            handles = [enter, leave]
            dropout = getattr(module, "attn_drop", None)
            if isinstance(dropout, nn.Module):
                handles.append(dropout.register_forward_pre_hook(lambda _, args: self._keep(args[0])))
            for handle in handles:
                stack.callback(handle.remove)
        stack.enter_context(self)

    def _enter(self, index: int | None) -> None:
        self.running = index

    def _keep(self, attention: Tensor) -> None:
        if self.running is None:
            return
        if not attention.requires_grad:
            attention.requires_grad_()
        self.seen.append(self.running)
        self.attention[self.running] = attention

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is scaled_dot_product_attention and self.running is not None:
            return self._attend(read_call(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def _attend(self, call: AttentionCall) -> Tensor:
        scores = (call.query * call.scale) @ call.key.transpose(-2, -1)
        if call.bias is not None and call.bias.dtype == torch.bool:
            scores = scores.masked_fill(~call.bias, -torch.inf)
        elif call.bias is not None:
            scores = scores + call.bias
        attention = scores.softmax(-1)
        self._keep(attention)
        return attention.to(call.value.dtype) @ call.value
