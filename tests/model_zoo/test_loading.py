import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_zoo import loading
from model_zoo.adapter import Adapter
from model_zoo.catalog import CATALOG, CatalogEntry
from model_zoo.loading import Zoo, load
from model_zoo.memory import is_out_of_memory
from model_zoo.reference import ModelError

SMALL = "timm:test_vit@random:0"


def weights(adapter: Adapter) -> dict[str, Tensor]:
    return adapter.module.state_dict()


def same(a: Adapter, b: Adapter) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_random_weights_depend_on_the_seed_alone() -> None:
    first = load(SMALL, device="cpu")
    torch.manual_seed(99)
    assert same(first, load(SMALL, device="cpu"))
    assert not same(first, load("timm:test_vit@random:1", device="cpu"))
    torch.manual_seed(0)
    plain = timm.create_model("test_vit").state_dict()
    assert all(torch.equal(plain[key], value) for key, value in weights(first).items())


def test_loading_leaves_the_random_generators_as_they_were() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (the global generator is what must not change)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    load("timm:test_vit@random:5", device="cpu", image_size=96)
    load("timm:cait_xxs24_224@random:5", device="cpu", image_size=(64, 96))
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected  # noqa: NPY002


def test_random_models_built_at_once_do_not_mix() -> None:
    texts = [f"timm:test_vit@random:{seed}" for seed in range(4)]
    alone = [load(text, device="cpu") for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: load(text, device="cpu"), texts))
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_a_model_is_ready_to_use() -> None:
    told: list[tuple[str, int, int | None]] = []
    adapter = load(f"mine={SMALL}", device="cpu", on_progress=lambda *step: told.append(step))
    assert adapter.reference is not None
    assert adapter.reference.label == "mine"
    assert not adapter.module.training
    assert {value.dtype for value in adapter.module.parameters()} == {torch.float32}
    assert told == [("build", 0, 1), ("build", 1, 1)]
    assert adapter.bytes == 4 * sum(value.numel() for value in adapter.module.parameters())


def test_a_file_is_loaded_and_resized(tmp_path: Path) -> None:
    state = load(SMALL, device="cpu").module.state_dict()
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "w.safetensors")
    adapter = load(f"timm:test_vit@{tmp_path}/w.safetensors", device="cpu", image_size=(96, 128))
    assert adapter.spec.grid == (6, 8)
    assert torch.equal(weights(adapter)["norm.weight"], state["norm.weight"])
    assert adapter.module(torch.zeros(1, 3, 96, 128)).shape == (1, 1000)


SHIPPED = [entry for entry in CATALOG.values() if entry.weights == "shipped"]


@pytest.mark.parametrize("entry", SHIPPED, ids=[entry.key for entry in SHIPPED])
def test_a_shipped_model_holds_the_weights_of_its_file(entry: CatalogEntry) -> None:
    adapter = load(entry.key, device="cpu")
    stored = load_file(entry.folder / "model.safetensors")
    assert adapter.spec.input_size == entry.input_size
    assert len(adapter.spec.prefix) == entry.prefix_tokens
    assert sum(value.numel() for value in adapter.module.parameters()) == entry.parameters
    assert stored.keys() == weights(adapter).keys()
    assert all(
        torch.equal(weights(adapter)[key], value.to(weights(adapter)[key].dtype)) for key, value in stored.items()
    )


# A narrow model of every family that takes its size in its own way: name, step of the sides.
SIZES = {
    "test_vit": 16,
    "deit_tiny_distilled_patch16_224": 16,
    "vit_small_patch14_reg4_dinov2": 14,
    "vit_small_patch16_dinov3": 16,
    "eva02_tiny_patch14_224": 14,
    "beit_base_patch16_224": 16,
    "cait_xxs24_224": 16,
    "swin_tiny_patch4_window7_224": 32,
    "scenes_vit": 8,
    "scenes_resnet": 32,
    "scenes_hybrid": 8,
}


@pytest.mark.parametrize(("name", "step"), SIZES.items(), ids=SIZES)
def test_another_input_size_is_rounded_to_the_grid_and_runs(name: str, step: int) -> None:
    asked = (5 * step + step // 3, 7 * step - step // 3)
    adapter = load(f"timm:{name}@random:0", device="cpu", image_size=asked)
    size = 5 * step, 7 * step
    assert adapter.spec.input_size == size
    if adapter.spec.is_transformer:
        assert adapter.spec.grid == (size[0] // adapter.spec.patch, size[1] // adapter.spec.patch)
    with torch.inference_mode():
        output = adapter.module(torch.zeros(1, 3, *size))
    assert output.isfinite().all()


@pytest.mark.parametrize("name", ["test_vit", "cait_xxs24_224"])
def test_a_resized_model_keeps_its_weights_and_interpolates_its_positions(name: str) -> None:
    native, resized = (load(f"timm:{name}@random:0", device="cpu", image_size=size) for size in (None, 96))
    before, after = weights(native), weights(resized)
    changed = {key for key in before if before[key].shape != after[key].shape}
    assert changed == {"pos_embed"}
    assert all(torch.equal(before[key], after[key]) for key in before.keys() - changed)
    again = load(f"timm:{name}@random:0", device="cpu", image_size=native.spec.input_size[0])
    assert same(native, again)


def test_an_integer_is_a_square_of_the_usual_crop() -> None:
    adapter = load("timm:test_vit@random:0", device="cpu", image_size=100)
    assert adapter.image_size == 96
    assert adapter.spec.input_size == (96, 96)
    assert load("timm:test_vit@random:0", device="cpu", image_size=1).spec.grid == (1, 1)


@pytest.mark.parametrize("size", [0, -16, 5000, (224, 0), (224, 224, 3), 1.5, (16.0, 16.0)])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ModelError, match="Expected an image size of 1 to 4096 pixels"):
        load(SMALL, device="cpu", image_size=size)


def test_a_family_that_cannot_be_resized_says_so() -> None:
    with pytest.raises(ModelError, match=r"convit_tiny cannot take 240x208 pixels: leave its own 224x224\."):
        load("timm:convit_tiny@random:0", device="cpu", image_size=(240, 208))


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="auto, cpu or cuda, got 'tpu'"):
        load(SMALL, device="tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="no CUDA device"):
        load(SMALL, device="cuda")
    assert loading.resolve_device("auto") == torch.device("cpu")


BYTES = 371_240 * 4  # of test_vit


def texts(count: int) -> list[str]:
    return [f"timm:test_vit@random:{seed}" for seed in range(count)]


def test_the_least_recently_used_goes_first() -> None:
    zoo = Zoo(2 * BYTES, device="cpu")
    a, b, c = texts(3)
    for text in (a, b, a, c):
        with zoo.lease(text):
            pass
    assert [model.key for model in zoo.loaded()] == [c, a]
    assert [model.bytes for model in zoo.loaded()] == [BYTES, BYTES]
    with zoo.lease(a) as kept, zoo.lease(a) as again:
        assert kept is again


def test_what_is_in_use_never_goes() -> None:
    zoo = Zoo(BYTES, device="cpu")
    a, b, c = texts(3)
    with zoo.lease(a) as first:
        with zoo.lease(b), zoo.lease(c):
            assert {model.key for model in zoo.loaded()} == {a, b, c}
            assert all(model.in_use for model in zoo.loaded())
        assert [model.key for model in zoo.loaded()] == [a]
        with pytest.raises(ModelError, match="in use"):
            zoo.unload(a)
        with zoo.lease(a) as second:
            assert second is first
    assert [(model.key, model.in_use) for model in zoo.loaded()] == [(a, False)]
    zoo.unload(a)
    zoo.unload(a)
    assert zoo.loaded() == []


def test_input_sizes_are_models_of_their_own_and_go_together() -> None:
    zoo = Zoo(10 * BYTES, device="cpu")
    with zoo.lease(SMALL), zoo.lease(SMALL, image_size=96) as small, zoo.lease(f"x={SMALL}", image_size=96) as same_one:
        assert small is same_one
        assert {model.image_size for model in zoo.loaded()} == {None, 96}
    zoo.unload(SMALL)
    assert zoo.loaded() == []


def slowly(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[str]:
    """Have every loading take a while, and list what is loaded."""
    loads: list[str] = []
    original: Callable[..., Adapter] = loading.load

    def slow(reference: object, **options: object) -> Adapter:
        loads.append(str(reference))
        tell = options["on_progress"]
        assert callable(tell)
        for step in range(10):
            tell("download", step, 10)
            time.sleep(seconds / 10)
        return original(reference, **options)

    monkeypatch.setattr(loading, "load", slow)
    return loads


def test_one_key_is_loaded_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = slowly(monkeypatch, 1.0)
    zoo = Zoo(10 * BYTES, device="cpu")
    told: list[list[tuple[str, int, int | None]]] = [[] for _ in range(4)]

    def use(number: int) -> int:
        with zoo.lease(SMALL, on_progress=lambda *step: told[number].append(step)) as adapter:
            time.sleep(0.2)
            return id(adapter)

    with ThreadPoolExecutor(4) as pool:
        models = set(pool.map(use, range(4)))
    assert len(models) == len(loads) == 1
    assert all(any(stage == "download" for stage, _, _ in steps) for steps in told), "who waits hears the progress"


def test_a_failure_reaches_all_who_wait_and_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slowly(monkeypatch, 0.5)
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"broken")
    zoo = Zoo(10 * BYTES, device="cpu")

    def use(_: int) -> str:
        try:
            with zoo.lease(f"timm:test_vit@{path}"):
                return "loaded"
        except ModelError as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        said = set(pool.map(use, range(3)))
    assert said == {"w.safetensors is not a whole safetensors file: download it again."}
    assert zoo.loaded() == []
    save_file(timm.create_model("test_vit").state_dict(), path)
    assert use(0) == "loaded"


def test_who_waits_takes_over_when_the_first_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = slowly(monkeypatch, 1.0)
    zoo = Zoo(10 * BYTES, device="cpu")
    waiting = threading.Event()

    class CancelledError(Exception):
        pass

    def give_up(stage: str, done: int, total: int | None) -> None:
        if waiting.is_set() and done > 4:
            raise CancelledError

    def first() -> None:
        with pytest.raises(CancelledError), zoo.lease(SMALL, on_progress=give_up):
            pass

    thread = threading.Thread(target=first)
    thread.start()
    while not loads:
        time.sleep(0.01)
    with zoo.lease(SMALL, on_progress=lambda *_: waiting.set()) as adapter:
        assert adapter.spec.patch == 16
    thread.join()
    assert len(loads) == 2
    assert [(model.key, model.in_use) for model in zoo.loaded()] == [(SMALL, False)]


def test_many_threads_keep_the_budget_and_the_leases() -> None:
    zoo = Zoo(2 * BYTES, device="cpu")
    names = texts(4)
    generator = np.random.default_rng(0)
    plans = generator.integers(0, 4, size=(6, 5))

    def use(plan: np.ndarray) -> None:
        for number in plan:
            with zoo.lease(names[number]) as adapter:
                assert names[number] in {model.key for model in zoo.loaded() if model.in_use}
                assert adapter.reference is not None
                assert adapter.reference.source == names[number]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(use, plans))
    left = zoo.loaded()
    assert sum(model.bytes for model in left) <= 2 * BYTES
    assert not any(model.in_use for model in left)


def test_a_model_beyond_the_budget_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    create = timm.create_model

    def noted(name: str, **options: Any) -> Any:
        model = create(name, **options)
        built.append(next(model.parameters()).device.type)
        return model

    monkeypatch.setattr(timm, "create_model", noted)
    said = (
        r"vit_7b_patch16_dinov3-random-0 has 6,716 million parameters, which take 26\.9 GB, and there are 2\.0 GB for "
        r"models: choose a smaller one\."
    )
    with (
        pytest.raises(ModelError, match=said),
        Zoo(2 * 10**9, device="cpu").lease("timm:vit_7b_patch16_dinov3@random:0"),
    ):
        pass
    with pytest.raises(ModelError, match=said):
        load("timm:vit_7b_patch16_dinov3@random:0", device="cpu", budget_bytes=2 * 10**9)
    assert set(built) <= {"meta"}


def test_a_model_of_just_the_budget_is_loaded_and_one_of_the_hub_is_refused_before_it_is_fetched() -> None:
    assert load(SMALL, device="cpu", budget_bytes=BYTES).bytes == BYTES
    with pytest.raises(ModelError, match="choose a smaller one"):
        load(SMALL, device="cpu", budget_bytes=BYTES - 1)
    with pytest.raises(ModelError, match=r"vit_7b_patch16_dinov3\.lvd1689m has .* choose a smaller one"):
        load("timm:vit_7b_patch16_dinov3.lvd1689m", device="cpu", budget_bytes=10**9)


def test_room_is_made_for_a_model_of_timm_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = Zoo(BYTES, device="cpu")
    a, b = texts(2)
    with zoo.lease(a):
        pass
    kept: list[list[str]] = []
    original = loading.load

    def look(*arguments: Any, **options: Any) -> Adapter:
        kept.append([model.key for model in zoo.loaded()])
        return original(*arguments, **options)

    monkeypatch.setattr(loading, "load", look)
    with zoo.lease(b):
        assert kept == [[]]


def test_running_out_of_the_hosts_memory_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        torch.empty(2**60)  # torch's own refusal

    with pytest.raises(RuntimeError) as plain:
        exhausted()
    assert is_out_of_memory(plain.value)
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    monkeypatch.setattr(loading, "_create", exhausted)
    with pytest.raises(ModelError, match=r"test_vit-random-0 does not fit into the memory that is left"):
        load(SMALL, device="cpu")
