"""From a model's name to a model in memory: one at a time with ``load``, several under a budget with ``Zoo``."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

import model_zoo.architectures  # noqa: F401 (registers the networks of the shipped models)
from model_zoo import checkpoints, hub
from model_zoo.adapter import Adapter
from model_zoo.catalog import CATALOG
from model_zoo.reference import ModelError, ModelReference, parse

Progress = Callable[[str, int, int | None], None]
ImageSize = int | tuple[int, int]

LARGEST_SIDE = 4096  # pixels

# timm interpolates bias tables in a way that newer torch versions remark on.
warnings.filterwarnings("ignore", category=UserWarning, module=r"timm\.layers\.interpolate")

_building = threading.Lock()


def load(
    reference: ModelReference | str,
    *,
    image_size: ImageSize | None = None,
    device: str = "auto",
    on_progress: Progress | None = None,
) -> Adapter:
    """Load one model with its weights, in float32 and evaluation mode.

    Args:
        reference: What to load, or the MODEL string for it.
        image_size: Another input size than the model's own, rounded to its patch grid: an integer for a square input
            cropped as usual, (height, width) for the whole image. Position embeddings are interpolated.
        device: ``auto`` for CUDA where there is one, else ``cpu``, or ``cpu`` or ``cuda``.
        on_progress: Called with a stage (``download``, ``build``), what is done and the total if known, of the
            download in bytes. What it raises ends the loading.

    Raises:
        ModelError: The model cannot be had; the message says why and what would do.
    """
    if isinstance(reference, str):
        reference = parse(reference)
    target = resolve_device(device)
    if image_size is not None:
        _check_size(image_size)
    path = _weights_file(reference, on_progress)
    if on_progress:
        on_progress("build", 0, 1)
    with _generator_kept(reference.seed):
        module = _create(reference, path).float()
        if image_size is not None:
            module, image_size = resize(module, image_size)
    try:
        module = module.to(target)
    except torch.OutOfMemoryError as error:
        raise ModelError(f"{reference.label} does not fit into the GPU's memory: unload models or use cpu.") from error
    if on_progress:
        on_progress("build", 1, 1)
    return Adapter(module, reference, image_size)


def resolve_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``cuda`` means on this machine.

    Raises:
        ModelError: Another name, or CUDA where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ModelError(f"Expected the device auto, cpu or cuda, got {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("This machine has no CUDA device: use cpu or auto.")
    return torch.device(name)


def _weights_file(reference: ModelReference, on_progress: Progress | None) -> Path | None:
    match reference.weights:
        case "shipped":
            path = reference.path or CATALOG[reference.key or ""].folder / "model.safetensors"
            if not path.is_file():
                raise ModelError(
                    f"The weights of {reference.key} are missing from this checkout: fetch {path.name} again."
                )
            return path
        case "hub":
            config = timm.get_pretrained_cfg(reference.timm_name)
            if config is None or not config.hf_hub_id:
                raise ModelError(f"The hub has no weights of {reference.timm_name}: use @random:0 or @FILE.")
            return hub.fetch(config.hf_hub_id, config.hf_hub_filename, on_progress)
        case _:
            return reference.path


def _create(reference: ModelReference, path: Path | None) -> nn.Module:
    name = reference.timm_name
    match reference.weights:
        case "random":
            return timm.create_model(name)
        case "hub":
            try:
                return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
            except Exception as error:
                raise ModelError(
                    f"The downloaded weights of {name} cannot be read ({type(error).__name__}): delete {path}."
                ) from error
        case _:
            assert path is not None
            return checkpoints.create(name, path)


@contextmanager
def _generator_kept(seed: int | None) -> Iterator[None]:
    """Models are built one at a time, on torch's generator at ``seed``, which is then put back as it was."""
    with _building:
        state = torch.get_rng_state()
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_rng_state(state)


def resize(module: Any, image_size: ImageSize) -> tuple[nn.Module, ImageSize]:
    """A model made ready for another input size by timm's own means, and the size rounded to its patch grid.

    Convolutional networks take any size as they are. Swin's windows grow with the grid, as in timm.

    Raises:
        ModelError: A size out of range, or a model that cannot take it.
    """
    sides = _check_size(image_size)
    step = _step(module)
    height, width = (max(1, int(side / step + 0.5)) * step for side in sides)
    rounded = height if isinstance(image_size, int) else (height, width)
    native = module.pretrained_cfg.get("input_size", (3, 224, 224))[1:]
    if (height, width) == tuple(native):
        return module, rounded
    name = module.pretrained_cfg["architecture"]
    try:
        if hasattr(module, "set_input_size"):
            module.set_input_size(img_size=(height, width))
            return module, rounded
        if not module.pretrained_cfg.get("fixed_input_size", False):
            return module, rounded
        return _rebuilt(module, name, (height, width)), rounded
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError, KeyError) as error:
        own = "x".join(map(str, native))
        raise ModelError(f"{name} cannot take {height}x{width} pixels: leave its own {own}.") from error


def _check_size(image_size: ImageSize) -> tuple[int, int]:
    """Height and width that were asked for."""
    sides = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= LARGEST_SIDE for side in sides):
        raise ModelError(f"Expected an image size of 1 to {LARGEST_SIDE} pixels a side, got {image_size}.")
    return sides


def _step(module: Any) -> int:
    """What the sides of an input are multiples of: the patch, or the whole stride where the grid shrinks."""
    strides = [info["reduction"] for info in getattr(module, "feature_info", ()) or () if info.get("reduction")]
    return int(max(strides, default=0)) or 32


def _rebuilt(module: Any, name: str, size: tuple[int, int]) -> nn.Module:
    """The same weights in a model built for another size, for families without ``set_input_size`` (CaiT)."""
    built: Any = timm.create_model(name, img_size=size, num_classes=module.num_classes)
    old_grid, new_grid = module.patch_embed.grid_size, built.patch_embed.grid_size
    state = module.state_dict()
    for key, value in built.state_dict().items():
        if state[key].shape == value.shape:
            continue
        if not key.endswith("pos_embed"):
            raise ValueError(f"{key} depends on the input size")
        prefix = state[key].shape[1] - old_grid[0] * old_grid[1]
        state[key] = resample_abs_pos_embed(
            state[key], new_size=new_grid, old_size=old_grid, num_prefix_tokens=prefix
        ).to(value.dtype)
    built.load_state_dict(state)
    with torch.inference_mode():
        built.eval()(torch.zeros(1, 3, *size))  # some families accept the size and fail in the pass
    built.pretrained_cfg = module.pretrained_cfg | {"input_size": (3, *size)}
    return built


@dataclass(frozen=True)
class Loaded:
    """One model in memory.

    Attributes:
        key: The MODEL string it was loaded by, without a label.
        bytes: Memory of its weights.
        in_use: Whether someone holds a lease on it.
        last_used: When a lease was last taken or given back, seconds since the epoch.
        image_size: The input size asked for, None for the model's own.
    """

    key: str
    bytes: int
    in_use: bool
    last_used: float
    image_size: ImageSize | None


@dataclass
class _Slot:
    """A place in the zoo: empty while the model is loading."""

    adapter: Adapter | None = None
    error: ModelError | None = None
    settled: threading.Event = field(default_factory=threading.Event)
    users: int = 0
    last_used: float = 0.0
    progress: tuple[str, int, int | None] = ("build", 0, 1)


class Zoo:
    """Models in memory under a budget, shared by all threads.

    The least recently used go first; what is leased never goes, so the budget is exceeded where the leased models alone
    exceed it. Several who ask for one model at once wait for one loading.

    Args:
        budget_bytes: Memory for weights.
        device: Where the models live, as for ``load``.
    """

    def __init__(self, budget_bytes: int, device: str = "auto") -> None:
        self.budget_bytes = budget_bytes
        self.device = device
        self._slots: dict[tuple[str, ImageSize | None], _Slot] = {}
        self._lock = threading.Lock()

    @contextmanager
    def lease(
        self,
        reference: ModelReference | str,
        *,
        image_size: ImageSize | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Adapter]:
        """A model for as long as the ``with`` block lasts, loaded if it is not there.

        Who waits for another's loading hears its progress too.

        Raises:
            ModelError: As ``load`` does.
        """
        if isinstance(reference, str):
            reference = parse(reference)
        place = reference.source, image_size
        slot = self._take(place, reference, on_progress)
        try:
            assert slot.adapter is not None
            yield slot.adapter
        finally:
            with self._lock:
                slot.users -= 1
                slot.last_used = time.time()
                self._make_room(0)

    def loaded(self) -> list[Loaded]:
        """What is in memory, the most recently used first."""
        with self._lock:
            models = [
                Loaded(key, slot.adapter.bytes, slot.users > 0, slot.last_used, size)
                for (key, size), slot in self._slots.items()
                if slot.adapter is not None
            ]
        return sorted(models, key=lambda model: model.last_used, reverse=True)

    def unload(self, key: str) -> None:
        """Forget a model in all its input sizes; nothing happens where it is not loaded.

        Raises:
            ModelError: It is in use.
        """
        with self._lock:
            places = [place for place in self._slots if place[0] == key]
            if any(self._slots[place].users for place in places):
                raise ModelError(f"{key} is in use: unload it when the computation is done.")
            for place in places:
                del self._slots[place]

    def _take(
        self, place: tuple[str, ImageSize | None], reference: ModelReference, on_progress: Progress | None
    ) -> _Slot:
        """The slot of a loaded model, with one user more."""
        while True:
            with self._lock:
                slot = self._slots.get(place)
                first = slot is None
                if slot is None:
                    slot = self._slots[place] = _Slot()
                slot.users += 1
                slot.last_used = time.time()
                if first:
                    self._make_room(_expected_bytes(reference))
            if first:
                self._fill(place, slot, reference, on_progress)
                return slot
            try:
                while not slot.settled.wait(0.1):
                    if on_progress:
                        on_progress(*slot.progress)
            except BaseException:
                self._leave(slot)
                raise
            if slot.adapter is not None:
                return slot
            self._leave(slot)
            if slot.error is not None:
                raise ModelError(str(slot.error)) from slot.error
            # Who was loading it gave up, so it is for the next to try.

    def _fill(
        self,
        place: tuple[str, ImageSize | None],
        slot: _Slot,
        reference: ModelReference,
        on_progress: Progress | None,
    ) -> None:
        def tell(stage: str, done: int, total: int | None) -> None:
            slot.progress = stage, done, total
            if on_progress:
                on_progress(stage, done, total)

        try:
            adapter = load(reference, image_size=place[1], device=self.device, on_progress=tell)
        except BaseException as error:
            with self._lock:
                slot.error = error if isinstance(error, ModelError) else None
                slot.users -= 1
                del self._slots[place]
            slot.settled.set()
            raise
        with self._lock:
            slot.adapter = adapter
            self._make_room(0)
        slot.settled.set()

    def _leave(self, slot: _Slot) -> None:
        with self._lock:
            slot.users -= 1

    def _make_room(self, coming: int) -> None:
        """Drop what is not in use, the least recently used first, until the budget holds. Needs the lock."""
        idle = sorted(
            (slot.last_used, place)
            for place, slot in self._slots.items()
            if slot.adapter is not None and not slot.users
        )
        held = coming + sum(slot.adapter.bytes for slot in self._slots.values() if slot.adapter is not None)
        for _, place in idle:
            if held <= self.budget_bytes:
                break
            adapter = self._slots.pop(place).adapter
            assert adapter is not None
            held -= adapter.bytes


def _expected_bytes(reference: ModelReference) -> int:
    """Memory that a model of the catalog will need, 0 where it is not known before."""
    return CATALOG[reference.key].parameters * 4 if reference.key else 0
