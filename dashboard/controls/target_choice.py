"""What relevance is to explain: each model's top class, a class by name, or the similarity to another image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from dashboard.compute.asking import Outcome, Params
from dashboard.controls import choices, token_layers
from dashboard.controls.glossary import meaning
from dashboard.images import gallery
from dashboard.state import link
from dashboard.state.selection import Selection
from model_zoo.adapter import ModelSpec
from probes.core.targets import EITHER, class_index

TOP, SIMILARITY = "top", "similarity"
VECTORS = {"card": "by each model's card", "cls": "CLS", "mean": "mean of patches"}
VECTOR_NAMES = VECTORS | {"cls+dist": "CLS and distillation token", "pool": "pooled by attention"}


@dataclass(frozen=True)
class Chosen:
    """What the picker says.

    Attributes:
        target: ``top``, ``similarity`` or a class.
        of: id of the image to be similar to.
        pool: the vector that stands for an image there, a key of ``VECTORS``.
    """

    target: str
    of: str
    pool: str = "card"

    @property
    def params(self) -> Params:
        """The target's parameters, the same for all models; without a classifier the top class is the similarity."""
        if self.target not in (TOP, SIMILARITY):
            return {"target": self.target}
        return {"target": EITHER if self.target == TOP else SIMILARITY, "of": self.of, "pool": self.pool}


def picker(selection: Selection, specs: Iterable[ModelSpec | None]) -> Chosen:
    """Draw the picker; the models' likeliest classes come first, as far as `remember` was told of them.

    Args:
        selection: models and images; the reference is another image than the first.
        specs: layouts of the models, None where one is not known yet.
    """
    known = [spec for spec in specs if spec is not None]
    names = list(dict.fromkeys(name for spec in known for name in class_names(spec)))
    linked = link.first("target") or TOP
    settled = len(known) == len(selection.models)
    if settled and linked not in (TOP, SIMILARITY) and all(class_index(spec, linked) is None for spec in known):
        link.note(f"No model here has a class {linked[:40]!r}: each model's top class is explained.")
        linked = TOP
        link.put("target")
    remembered: Mapping[str, Sequence[str]] = st.session_state.get("likeliest", {}).get(selection.images[0], {})
    first = likeliest({model: remembered[model] for model in selection.models if model in remembered})
    options = list(dict.fromkeys([TOP, SIMILARITY, *first, *names, linked]))
    st.session_state["target_choice"] = linked
    st.selectbox(
        "Explain",
        options,
        key="target_choice",
        format_func=lambda name: {TOP: "each model's top class", SIMILARITY: "similarity to an image"}.get(name, name),
        width=260,
        help=meaning(
            "relevance",
            "The models' likeliest classes come first; type to find any other. Models without a classifier have no top "
            "class: for them it is the similarity to another image.",
        ),
        on_change=lambda: link.put("target", st.session_state["target_choice"]),
    )
    of, pool = _reference(selection), "card"
    if linked == SIMILARITY or (linked == TOP and any(not spec.classes for spec in known)):
        _choose_reference(selection, of)
        pool = choices.one_of_many("Compared by", VECTORS, "vector", width=190, help=token_layers.BY_CARD)
    return Chosen(linked, of, pool)


def remember(picture: str, outcome: Outcome) -> None:
    """Keep the likeliest classes that relevance found for an image, which the picker then offers first."""
    kept = st.session_state.setdefault("likeliest", {}).setdefault(picture, {})
    for model in outcome.models:
        for dataset in model.datasets.values():
            if "top_name" in dataset.coords:
                kept[model.model] = dataset["top_name"].isel(image=0).values.tolist()


def class_names(spec: ModelSpec) -> tuple[str, ...]:
    """Names of the classes a person can choose from: their own, or numbers."""
    return spec.labels or tuple(str(index) for index in range(spec.classes))


def likeliest(tops: Mapping[str, Sequence[str]]) -> list[str]:
    """The models' likeliest classes, every model's first, then every model's second, and so on."""
    depth = max((len(names) for names in tops.values()), default=0)
    return list(dict.fromkeys(names[rank] for rank in range(depth) for names in tops.values() if rank < len(names)))


def _candidates(selection: Selection) -> list[str]:
    shown = selection.images[0]
    kind = shown.partition(":")[0]
    offered = sorted(gallery.offered(), key=lambda identity: not identity.startswith(kind))
    return [identity for identity in dict.fromkeys([*selection.images[1:], *offered]) if identity != shown]


def _reference(selection: Selection) -> str:
    linked = link.first("of")
    reason = gallery.missing(linked) if linked else None
    if reason:
        link.note(reason)
        link.put("of")
    if linked and not reason and linked != selection.images[0]:
        return linked
    return _candidates(selection)[0]


def _choose_reference(selection: Selection, of: str) -> None:
    st.session_state["of_choice"] = of
    st.selectbox(
        "Similar to",
        list(dict.fromkeys([*_candidates(selection), of])),
        key="of_choice",
        format_func=gallery.title,
        width=150,
        help="The image whose embedding the shown one is compared with, by cosine. Embedding: " + meaning("embedding"),
        on_change=lambda: link.put("of", st.session_state["of_choice"]),
    )
