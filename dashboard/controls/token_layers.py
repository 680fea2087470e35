"""Which layer of a model's tokens a depth on the slider means."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from dashboard.compute.asking import ModelResult, Outcome
from dashboard.compute.requests import Value
from dashboard.state.selection import Depth
from model_zoo.adapter import ModelSpec

MOST = 6


def blocks(spec: ModelSpec) -> int:
    """Blocks whose tokens can be read."""
    return sum(point.startswith("resid_post.") for point in spec.points)


def columns(models: int) -> int:
    """Panels of a row, the original among them: all in one while they can be made out; 0 leaves it to the panels."""
    return models + 1 if models < MOST else 0


def parameter(spec: ModelSpec, depth: Depth | None) -> str:
    """The probes' ``layer``: ``last`` (after the final norm), else the block at the same relative depth."""
    if depth is None or depth.layer == depth.of or not blocks(spec):
        return "last"
    return str(depth.index(blocks(spec)))


def text(spec: ModelSpec, depth: Depth | None) -> str:
    """The layer as a person reads it."""
    chosen = parameter(spec, depth)
    count = blocks(spec)
    if chosen == "last":
        return "after the final norm" if "norm" in spec.points else f"layer {count} of {count}"
    return f"layer {int(chosen) + 1} of {count}"


def facet_text(spec: ModelSpec, depth: Depth | None, facet: str) -> str:
    """The layer and what is read in it, as a person reads it; facets have no final norm."""
    if facet == "token":
        return text(spec, depth)
    chosen, count = parameter(spec, depth), blocks(spec)
    return f"{facet} of layer {count if chosen == 'last' else int(chosen) + 1} of {count}"


def of_each(models: Iterable[ModelResult], depth: Depth | None, **more: Value) -> dict[str, Mapping[str, Value] | None]:
    """Parameters of each model with the layer at its own depth; None while a model is not known."""
    return {m.model: {"layer": parameter(m.spec, depth), **more} if m.spec else None for m in models}


def together(known: Outcome, outcome: Outcome) -> Outcome:
    """The outcome, where a model that became known only after it was asked for counts as on its way.

    Parameters depend on a model's layout. A layout that arrived between asking for it and asking for the result left
    the result unasked: the page has to run again, which it does when the work on the layouts is over.
    """
    late = {model.model for model in known.models if model.spec is None and not model.message}
    models = tuple(replace(model, waiting=True) if model.model in late else model for model in outcome.models)
    return replace(outcome, models=models, jobs=outcome.jobs or known.jobs)
