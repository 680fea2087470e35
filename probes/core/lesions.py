"""Parts of a network left out: a head's output, or what a block adds to the residual stream."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from model_zoo.adapter import Adapter, ModelSpec
from model_zoo.layout import inputs_of
from probes.core.targets import embedding, vector

AT_ONCE = 64
"""Images in a pass, where they fit: so many copies of a batch, each with another part left out, run together."""


@dataclass(frozen=True)
class Lesion:
    """What is left out of one block.

    Attributes:
        block: its number in ``ModelSpec.blocks``.
        part: ``head``, or the name of one of the block's branches.
        head: which head, from 0.
    """

    block: int
    part: str
    head: int = 0


@dataclass(frozen=True)
class Answers:
    """What a model says of images.

    Attributes:
        embedding: (images, features), by the model's card.
        probabilities: (images, classes); None without a classifier.
    """

    embedding: Tensor
    probabilities: Tensor | None


def undefined(spec: ModelSpec) -> str | None:
    """Say in one sentence why nothing can be left out of a model; None where it can."""
    if spec.blocks:
        return None
    return "what a block of this model adds to one residual stream is not known here, so no part can be left out alone"


def heads(spec: ModelSpec) -> list[Lesion]:
    """Every head whose output can be left out."""
    return [Lesion(b, "head", head) for b, block in enumerate(spec.blocks) for head in range(block.heads)]


def parts(spec: ModelSpec) -> list[Lesion]:
    """Every branch."""
    return [Lesion(b, part) for b, block in enumerate(spec.blocks) for part, _ in block.branches]


@contextmanager
def left_out(adapter: Adapter, versions: Sequence[Sequence[Lesion]]) -> Iterator[None]:
    """Leave out parts in every pass of the untouched model while this lasts.

    A head is left out by zeros in its columns of the projection's input, a branch by zeros where it would be added.
    Hooks do both, and are gone afterwards, also after an exception.

    Args:
        adapter: the model.
        versions: what is left out of each copy of the images; the copies lie one after the other in what runs.

    Raises:
        RuntimeError: a part was not run.
    """
    passed: set[str] = set()
    places = _places(adapter, versions)
    with adapter.lock, ExitStack() as stack:
        for path, gone in places.items():
            stack.callback(_hook(adapter, path, gone, passed).remove)
        yield
        if unseen := sorted({*places} - passed):
            raise RuntimeError(f"{unseen[0]} of {adapter.spec.name} did not run, so nothing of it was left out")


def _places(adapter: Adapter, versions: Sequence[Sequence[Lesion]]) -> dict[str, Tensor]:
    """Module path to what is zero there: (versions, channels) in the input of a projection, (versions,) of a branch."""
    found: dict[str, Tensor] = {}
    for version, lesions in enumerate(versions):
        for lesion in lesions:
            block = adapter.spec.blocks[lesion.block]
            if lesion.part == "head":
                projection = adapter.module.get_submodule(block.projection)
                empty = torch.zeros(len(versions), inputs_of(projection), dtype=torch.bool)
                gone = found.setdefault(block.projection, empty)
                gone.unflatten(1, (block.heads, -1))[version, lesion.head] = True
            else:
                path = dict(block.branches)[lesion.part]
                found.setdefault(path, torch.zeros(len(versions), dtype=torch.bool))[version] = True
    return {path: gone.to(adapter.device) for path, gone in found.items()}


def _hook(adapter: Adapter, path: str, gone: Tensor, passed: set[str]) -> RemovableHandle:
    module = adapter.module.get_submodule(path)
    after = 2 if isinstance(module, nn.Conv2d) else 0  # axes behind the channels

    def without(values: Tensor) -> Tensor:
        passed.add(path)
        each = values.unflatten(0, (len(gone), -1))
        shape = (len(gone), *[1] * (each.ndim - gone.ndim - after), *gone.shape[1:], *[1] * after)
        return each.masked_fill(gone.view(shape), 0).flatten(0, 1)

    if gone.ndim == 2:  # of heads
        return module.register_forward_pre_hook(lambda _, args: (without(args[0]), *args[1:]))
    return module.register_forward_hook(lambda _, args, output: without(output))


class Passes:
    """Passes over the same images with parts left out, each of which begins at the first block that it changes.

    The intact pass keeps what every block gives, for the images of one batch; a pass with lesions of block l runs the
    blocks from l on, and the earlier ones hand on what they gave. The model runs natively around that: its blocks'
    ``forward`` are replaced for the time of a pass.

    Args:
        adapter: a model for which lesions are not `undefined`.
        inputs: (images, 3, height, width), on the model's device.

    Attributes:
        intact: what the whole model says.
    """

    def __init__(self, adapter: Adapter, inputs: Tensor) -> None:
        self.adapter, self.inputs = adapter, inputs
        self._paths = [block.name for block in adapter.spec.blocks if block.branches]
        self._entered: tuple[Any, ...] = ()
        self._given: dict[str, Tensor] = {}
        with adapter.lock, ExitStack() as stack:
            for path in self._paths:
                handle = adapter.module.get_submodule(path).register_forward_hook(
                    lambda _, args, output, path=path: self._given.__setitem__(path, output)
                )
                stack.callback(handle.remove)
            first = adapter.module.get_submodule(self._paths[0])
            stack.callback(first.register_forward_pre_hook(lambda _, args: self._enter(args)).remove)
            self.intact = answers(adapter, inputs)

    def _enter(self, args: tuple[Any, ...]) -> None:
        self._entered = args

    def without(self, versions: Sequence[Sequence[Lesion]]) -> Answers:
        """Answers to copies of the images, version after version, each without what its lesions name."""
        start = min((lesion.block for lesions in versions for lesion in lesions), default=0)
        with left_out(self.adapter, versions), self._from(start, len(versions)):
            return answers(self.adapter, self.inputs[:1])

    @contextmanager
    def _from(self, start: int, copies: int) -> Iterator[None]:
        """Let the model begin at a block, with copies of what the block before gave, whatever image it is run on."""
        skipped = self._paths[:start]
        with ExitStack() as stack:
            for path, following in zip(skipped, [*self._paths, ""][1:], strict=False):
                given = self._given[path]
                last = following not in skipped or following.rpartition(".")[0] != path.rpartition(".")[0]
                handed = _copied(given, copies) if last else given[:1].expand(copies * len(given), *given.shape[1:])
                forward = vars(self.adapter.module.get_submodule(path))
                forward["forward"] = lambda *args, handed=handed, **kwargs: handed
                stack.callback(forward.pop, "forward")
            if not skipped:
                entered = tuple(_copied(arg, copies) if isinstance(arg, Tensor) else arg for arg in self._entered)
                first: nn.Module = self.adapter.module.get_submodule(self._paths[0])
                stack.callback(first.register_forward_pre_hook(lambda _, args: entered).remove)
            yield


def _copied(values: Tensor, copies: int) -> Tensor:
    return values.repeat(copies, *[1] * (values.ndim - 1))


def answers(adapter: Adapter, inputs: Tensor) -> Answers:
    """Run the model."""
    module: Any = adapter.module
    hidden = module.forward_features(inputs)
    found = embedding(adapter, hidden, vector(adapter, "card"))
    classes = module.forward_head(hidden).flatten(1).softmax(-1) if adapter.spec.classes else None
    return Answers(found, classes)


def effects(intact: Answers, lesioned: Answers, labels: Tensor) -> Tensor:
    r"""What a lesion changes, for every version and image.

    Args:
        intact: of the images.
        lesioned: of all versions of them, one after the other.
        labels: (images,) true classes, −1 where unknown.

    Returns:
        (versions, images, 3): change of the probability of the intact prediction; cosine of the embeddings; change of
        whether the first answer is right, −1, 0 or 1. NaN where there is no classifier, or no label.
    """
    images = len(intact.embedding)
    moved = lesioned.embedding.unflatten(0, (-1, images)).double()
    cosine = F.cosine_similarity(moved, intact.embedding.double(), dim=-1)
    confidence = right = torch.full_like(cosine, torch.nan)
    if intact.probabilities is not None and lesioned.probabilities is not None:
        before, after = intact.probabilities.double(), lesioned.probabilities.double().unflatten(0, (-1, images))
        predicted = before.argmax(-1)
        chosen = predicted[None, :, None].expand(len(after), -1, -1)
        confidence = after.gather(-1, chosen)[..., 0] - before.gather(-1, predicted[:, None])[:, 0]
        change = (after.argmax(-1) == labels).double() - (predicted == labels).double()
        right = torch.where(labels >= 0, change, torch.nan)
    return torch.stack([confidence, cosine, right], -1)
