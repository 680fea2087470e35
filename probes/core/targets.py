"""What a gradient is taken of: one number per image, a class's logit or the similarity to another image."""

import difflib
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model_zoo.adapter import Adapter, ModelSpec
from model_zoo.decoding import ImageError
from model_zoo.images import ImageSource, sources
from probes.core.base import one_of
from probes.core.precision import full_precision

Of = str | ImageSource
EITHER = "top-or-similarity"
"""The top class; for a model without a classifier the similarity to an image."""


POOLS = ("head", "card", "cls", "mean")
"""Which vector stands for an image in a similarity, see `vector`."""


class Score(NamedTuple):
    """What a target came to.

    Attributes:
        values: (images,), the number that is explained.
        classes: (images,), the class it belongs to, −1 for a similarity.
        logits: (images, classes), None for a similarity.
    """

    values: Tensor
    classes: Tensor
    logits: Tensor | None


@dataclass(frozen=True)
class Target:
    """One number per image.

    Attributes:
        classes: (images,) or (1,), the class whose logit is explained; None for each image's own top class.
        reference: (1, features), the embedding to which the cosine similarity is explained; None for a logit.
        pool: what an image's embedding is, as `vector` gives it: ``head``, ``cls`` or ``mean``.
    """

    classes: Tensor | None = None
    reference: Tensor | None = None
    pool: str = "head"

    def score(self, adapter: Adapter, inputs: Tensor) -> Score:
        """Run the model."""
        with adapter.lock:
            return self._score(adapter, inputs)

    def _score(self, adapter: Adapter, inputs: Tensor) -> Score:
        module: Any = adapter.module
        hidden = module.forward_features(inputs)
        if self.reference is not None:
            features = embedding(adapter, hidden, self.pool)
            classes = torch.full((len(inputs),), -1, device=inputs.device)
            return Score(F.cosine_similarity(features, self.reference.to(features.dtype), dim=-1), classes, None)
        logits = module.forward_head(hidden)
        classes = logits.detach().argmax(-1) if self.classes is None else self.classes
        classes = classes.repeat(len(logits) // len(classes))  # integrated gradients pass every image many times
        return Score(logits.gather(1, classes[:, None])[:, 0], classes, logits.detach())

    def fixed(self, classes: Tensor) -> "Target":
        """The same with the classes settled, so that another pass explains the same ones."""
        return self if self.reference is not None else Target(classes)

    def of(self, first: int, count: int) -> "Target":
        """The target of some of the images."""
        if self.classes is None or len(self.classes) == 1:
            return self
        return Target(self.classes[first : first + count])

    def readout(self, adapter: Adapter) -> str:
        """The token that the number is read from: what `readout` says, unless a similarity has another vector."""
        return readout(adapter) if self.pool == "head" else self.pool


def readout(adapter: Adapter) -> str:
    """The token that the classifier, or the embedding, is read from.

    ``cls``, ``cls+dist`` (a distilled model averages what its two tokens say), ``pool`` or ``mean`` over the patches.
    """
    if adapter.spec.layers and adapter.spec.layers[-1].kind == "pool":
        return "pool"
    if "dist" in adapter.spec.prefix:
        return "cls+dist"
    averages = getattr(adapter.module, "global_pool", "token") not in ("token", "")
    return "mean" if averages or not adapter.spec.prefix else "cls"


def vector(adapter: Adapter, pool: str) -> str:
    """Which vector stands for an image in a model: ``head`` (what its classifier reads), ``cls`` or ``mean``.

    Args:
        adapter: the model.
        pool: one of `POOLS`. ``card`` is ``ModelSpec.features`` where the classifier reads CLS or the mean, and
            both tokens of a distilled model. SigLIP is always read by its pooling query, which is one of its attention
            layers.
    """
    own = readout(adapter)
    if own == "pool":
        return "head"
    wanted = (adapter.spec.features if own in ("cls", "mean") else "head") if pool == "card" else pool
    return "head" if wanted == own or (wanted == "cls" and "cls" not in adapter.spec.prefix) else wanted


def embedding(adapter: Adapter, hidden: Tensor, pool: str) -> Tensor:
    """Embeddings (images, features) of what ``forward_features`` gave; ``pool`` as `vector` gives it."""
    module: Any = adapter.module
    prefix = adapter.spec.prefix
    if pool == "head":
        return module.forward_head(hidden, pre_logits=True).flatten(1)
    return hidden[:, prefix.index("cls")] if pool == "cls" else hidden[:, len(prefix) :].mean(1)


def check(target: str, of: Of | None, pool: str = "head") -> None:
    """Raise a ValueError of one sentence unless the parameters go together and ``of`` is one image."""
    one_of("pool", pool, POOLS)
    if not target.strip():
        raise ValueError(f"target is empty; it must be top, a class (index or name), similarity or {EITHER}.")
    if (target in ("similarity", EITHER)) != (of is not None):
        raise ValueError(f"of=IMAGE belongs to target=similarity and target={EITHER}: give both or neither.")
    if isinstance(of, str):
        found = sources([of], limit=2)
        if len(found) != 1:
            raise ImageError(f"of is {of!r}; it must be one image, and this holds more.")


def meant(spec: ModelSpec, target: str) -> str:
    """What `EITHER` is for a model, ``top`` or ``similarity``; any other target itself."""
    if target != EITHER:
        return target
    return "top" if spec.classes else "similarity"


def undefined(spec: ModelSpec, target: str) -> str | None:
    """Say in one sentence why a model has no such target; None where it has."""
    target = meant(spec, target)
    if target == "similarity":
        return None
    if not spec.classes:
        return "this model has no classifier: explain its similarity to an image instead"
    if target == "top" or class_index(spec, target) is not None:
        return None
    if target.lstrip("-").isdigit():
        return f"this model has the classes 0 to {spec.classes - 1}: there is no class {target}"
    if not spec.labels:
        return f"this model does not know its classes by name: give an index, 0 to {spec.classes - 1}"
    names = {word.casefold(): word for label in spec.labels for word in _synonyms(label)}
    close = [names[word] for word in difflib.get_close_matches(target.casefold(), list(names), n=3)]
    return f"this model has no class named {target!r}" + (f" (nearest: {', '.join(close)})" if close else "")


def class_index(spec: ModelSpec, target: str) -> int | None:
    """The class that an index, a full name or one of its synonyms means; None where there is no such class."""
    if target.isascii() and target.isdigit():
        return int(target) if len(target) < 9 and int(target) < spec.classes else None
    wanted = target.strip().casefold()
    whole = [i for i, label in enumerate(spec.labels) if label.casefold() == wanted]
    synonyms = (i for i, label in enumerate(spec.labels) if wanted in map(str.casefold, _synonyms(label)))
    return next(iter(whole), next(synonyms, None))


def resolve(adapter: Adapter, target: str, of: Of | None, pool: str = "head") -> Target:
    """The target for a model for which it is not `undefined`; runs the model once on ``of`` for a similarity."""
    target = meant(adapter.spec, target)
    if target == "similarity" and of is not None:
        source = sources([of])[0] if isinstance(of, str) else of
        module: Any = adapter.module
        weight = next(module.parameters())
        inputs = adapter.preprocess(source.open()).unsqueeze(0).to(weight.device, weight.dtype)
        with adapter.lock, torch.inference_mode(False), torch.no_grad(), full_precision(adapter):
            used = vector(adapter, pool)
            features = embedding(adapter, module.forward_features(inputs), used)
        return Target(reference=features.float() if features.dtype.itemsize < 4 else features, pool=used)
    if target == "top":
        return Target()
    index = class_index(adapter.spec, target)
    if index is None:
        raise ValueError(f"{undefined(adapter.spec, target)}.")
    return Target(torch.tensor([index], device=adapter.device))


def _synonyms(label: str) -> list[str]:
    return [word.strip() for word in label.split(",")]
