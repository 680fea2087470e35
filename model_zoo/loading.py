"""From a model's name to a model in memory: one at a time with ``load``, several under a budget with ``Zoo``."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import timm
import torch
from torch import nn

import model_zoo.architectures  # noqa: F401 (registers the networks of the shipped models)
from model_zoo import checkpoints, hub, trained
from model_zoo.adapter import Adapter
from model_zoo.catalog import CATALOG, DECODER
from model_zoo.input_size import ImageSize, check, resize
from model_zoo.mae import Decoder, load_decoder
from model_zoo.memory import is_out_of_memory, machine_bytes, refuse_too_large, weight_bytes
from model_zoo.reference import ModelError, ModelReference, parse

Progress = Callable[[str, int, int | None], None]
# timm interpolates bias tables in a way that newer torch versions remark on.
warnings.filterwarnings("ignore", category=UserWarning, module=r"timm\.layers\.interpolate")

_building = threading.Lock()


def load(
    reference: ModelReference | str,
    *,
    image_size: ImageSize | None = None,
    device: str = "auto",
    budget_bytes: int | None = None,
    on_progress: Progress | None = None,
) -> Adapter:
    """Load one model with its weights, in float32 and evaluation mode.

    Args:
        reference: What to load, or the MODEL string for it.
        image_size: Another input size than the model's own, rounded to its patch grid: an integer for a square input
            cropped as usual, (height, width) for the whole image. Position embeddings are interpolated, except those of
            a file saved at just that size. None takes the architecture's native size, for a file of any size too.
        device: ``auto`` for CUDA where there is one, else ``cpu``, or ``cpu`` or ``cuda``.
        budget_bytes: Most that the weights may take; None for the machine's memory.
        on_progress: Called with a stage (``download``, ``build``), what is done and the total if known, of the
            download in bytes. What it raises ends the loading.

    Raises:
        ModelError: The model cannot be had; the message says why and what would do.
    """
    if isinstance(reference, str):
        reference = parse(reference)
    target = resolve_device(device)
    if image_size is not None:
        check(image_size)
    most = machine_bytes() if budget_bytes is None else budget_bytes
    refuse_too_large(reference.label, expected_bytes(reference), most)
    path = weights_file(reference, on_progress)
    if on_progress:
        on_progress("build", 0, 1)
    try:
        with _generator_kept(reference.seed):
            module = _create(reference, path, image_size).float()
            if image_size is not None:
                module, image_size = resize(module, image_size)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise ModelError(f"{reference.label} does not fit into the memory that is left: unload models.") from error
        raise
    decoder = _decoder(reference)
    try:
        module, decoder = module.to(target), decoder.to(target) if decoder else None
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{reference.label} does not fit into the GPU's memory: unload models, or compute on the CPU."
        ) from error
    if on_progress:
        on_progress("build", 1, 1)
    return Adapter(module, reference, image_size, decoder)


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


def weights_file(reference: ModelReference, on_progress: Progress | None = None) -> Path | None:
    """The file that a model's weights come from, fetched if it is not there; None for random ones."""
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
                raise ModelError(
                    f"The hub has no weights of {reference.timm_name}: choose another model, or random weights."
                )
            return hub.fetch(config.hf_hub_id, config.hf_hub_filename, on_progress)
        case _:
            return reference.path


def weight_files(reference: ModelReference, on_progress: Progress | None = None) -> list[Path]:
    """All files that a model comes from, fetched if they are not there."""
    return [path for path in (weights_file(reference, on_progress), _decoder_file(reference)) if path is not None]


def _decoder_file(reference: ModelReference) -> Path | None:
    """Where the decoder of a masked autoencoder is; it belongs to the finished model, not to its snapshots."""
    return CATALOG[reference.key].decoder if reference.key and reference.step is None else None


def _decoder(reference: ModelReference) -> Decoder | None:
    """The decoder that is shipped with a masked autoencoder."""
    path = _decoder_file(reference)
    try:
        return load_decoder(path) if path else None
    except ValueError as error:
        raise ModelError(f"{error}: fetch {DECODER} of {reference.key} again.") from error


def _create(reference: ModelReference, path: Path | None, image_size: ImageSize | None) -> nn.Module:
    name = reference.timm_name
    match reference.weights:
        case "random":
            return timm.create_model(name)
        case "trained":
            held = trained.get(reference.identity or "")
            if held is None:
                raise ModelError(f"{reference.label} is no longer held on this server: train it again.")
            module = timm.create_model(name)
            module.load_state_dict(held.state)
            return module
        case "hub":
            assert path is not None
            try:
                return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                raise ModelError(
                    f"The downloaded weights of {name} cannot be read ({type(error).__name__}): "
                    f"delete {hub.places(path)}."
                ) from error
        case _:
            assert path is not None
            return checkpoints.create(name, path, image_size)


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
    exceed it; a model that would exceed it alone is refused. Several who ask for one at once wait for one loading.

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
            coming = expected_bytes(reference)
            with self._lock:
                self._make_room(coming if coming <= self.budget_bytes else 0)
            adapter = load(
                reference,
                image_size=place[1],
                device=self.device,
                budget_bytes=self.budget_bytes,
                on_progress=tell,
            )
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


def expected_bytes(reference: ModelReference) -> int:
    """Memory that a model's weights will need."""
    return CATALOG[reference.key].parameters * 4 if reference.key else weight_bytes(reference.timm_name)
