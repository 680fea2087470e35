"""What a GPU would be asked to do, without one: PyTorch's fake tensors go through every call, and a counter watches.

A fake tensor has a shape and a device but no numbers, so whatever reads one raises, as would anything whose shape
depends on numbers.
"""

from collections import Counter
from collections.abc import Iterator

import pytest
import timm
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

import probes
from model_zoo.adapter import Adapter, Geometry
from probes import attention_distance, fourier
from probes.core import attention
from probes.core.capture import forward
from probes.core.runner import Fold

pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")

CALLS = 40
FREE = 16 * 2**30
PROBES = {
    "attention-statistics": {},
    "attention-distance": {},
    "attention-rollout": {},
    "attention-maps": {},
    "token-norm": {},
    "cka": {},
    "fourier": {},
    "feature-variance": {},
}


class Calls(TorchDispatchMode):
    """Counts what is launched, and what crosses between host and device, until the results leave."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: Counter[str] = Counter()
        self.up: list[str] = []
        self.down = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        made = {
            part.device.type for part in (out if isinstance(out, tuple | list) else (out,)) if torch.is_tensor(part)
        }
        given = {part.device.type for part in args if torch.is_tensor(part)}
        if "cpu" in made and "cuda" in given:
            self.down += 1
        elif "cuda" in made and "cpu" in given:
            self.up.append(str(func))
        if "cuda" in made and not self.down and not func.is_view:
            self.launched[str(func)] += 1
        return out


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (FREE, FREE))
    constants = attention._constant, attention._window_places, attention_distance._all_lengths
    yield FakeTensorMode()
    for cache in (*constants, attention_distance._offsets, fourier._waves):
        cache.cache_clear()


def on_gpu(name: str, **options: int) -> Adapter:
    """A model whose parameters and buffers are on the GPU; call it inside of the fake mode."""
    with torch.device("meta"), unset_fake_temporarily():
        module = timm.create_model(name, **options).eval()
    for part in module.modules():
        for key, value in part._parameters.items():
            if value is not None:
                part._parameters[key] = nn.Parameter(torch.empty(value.shape, device="cuda"), requires_grad=False)
        for key, value in part._buffers.items():
            if value is not None:
                part._buffers[key] = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return Adapter(module)


def launched(adapter: Adapter, chosen: dict[str, dict], batch: int, geometries: tuple[Geometry, ...] = ()) -> Calls:
    """What a second batch of the same fold asks for; constants were made with the first."""
    fold = Fold(adapter, {name: probes.load(name)(**parameters) for name, parameters in chosen.items()})
    x = torch.zeros(batch, 3, *adapter.spec.input_size, device="cuda")
    attentive, tokens = fold._reading("attention"), fold._reading("tokens")
    for start in (0, batch):
        with torch.no_grad(), Calls() as calls:
            try:
                forward(
                    adapter,
                    x,
                    range(start, start + batch),
                    on_attention=(lambda seen: fold._attention(attentive, seen)) if attentive else None,
                    on_tokens=lambda seen: fold._tokens(tokens, seen),
                    points=fold.points,
                    geometries=geometries,
                )
            except Exception:
                if not calls.down:  # after that the numbers themselves are read, which is right
                    raise
    return calls


def plain(adapter: Adapter, batch: int) -> Calls:
    with torch.no_grad(), Calls() as calls:
        adapter.module(torch.zeros(batch, 3, *adapter.spec.input_size, device="cuda"))
    return calls


@pytest.mark.parametrize("name", PROBES)
def test_few_calls_a_layer_and_no_read_before_the_end(name: str, gpu: FakeTensorMode) -> None:
    with gpu:
        adapter = on_gpu("vit_base_patch16_224")
        without, calls = plain(adapter, 64).launched.total(), launched(adapter, {name: PROBES[name]}, 64)
    own = (calls.launched.total() - without) / len(adapter.spec.layers)
    print(f"{name}: {own:.1f} calls a layer, the model's own {without / len(adapter.spec.layers):.1f}")
    assert 0 < own <= CALLS, calls.launched
    assert calls.down == 1, "results leave in one copy"
    assert not calls.up, "nothing is sent to the device"
