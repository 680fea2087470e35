"""The controls that pages share: one of several, a layer, a head, a query. All of it is in the link."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import streamlit as st

from dashboard.controls.glossary import meaning
from dashboard.state import link
from dashboard.state.selection import Depth, Point, read_depth, read_head, read_point, write_depth, write_point
from model_zoo.adapter import ModelSpec
from model_zoo.layout import AttentionLayer

LAST = Depth(1, 1)
QUERY_TEXT = {"cls": "the CLS query", "mean": "the mean patch query", "patch": "the clicked patch"}
"""How sentences call the choices of ``QUERIES``."""
QUERIES = {"cls": "CLS", "mean": "mean of patches", "patch": "clicked patch"}


def one_of(
    label: str, options: Mapping[str, str] | Sequence[str], key: str, *, default: str = "", help: str | None = None
) -> str:
    """Draw a few options beside each other and return the chosen one.

    Args:
        label: above them.
        options: what there is, by the names that a person reads where these differ.
        key: its name in the link.
        default: the first option unless given.
        help: on hover.
    """
    chosen: str = st.segmented_control(
        label,
        list(options),
        default=default or next(iter(options)),
        required=True,
        key=key,
        bind="query-params",
        format_func=_names(options),
        help=help,
    )
    return chosen


def one_of_many(
    label: str, options: Mapping[str, str] | Sequence[str], key: str, *, width: int = 180, help: str | None = None
) -> str:
    """Draw a list to open and return what is chosen in it, at first the first; arguments as for `one_of`."""
    chosen: str = st.selectbox(
        label, list(options), key=key, bind="query-params", format_func=_names(options), width=width, help=help
    )
    return chosen


def _names(options: Mapping[str, str] | Sequence[str]) -> Callable[[str], str]:
    return (lambda name: options.get(name, name)) if isinstance(options, Mapping) else str


def layer(specs: Iterable[ModelSpec | None]) -> Depth:
    """Draw the layer slider over the deepest model.

    Args:
        specs: layouts of the models, None where one is not known yet.

    Returns:
        The layer: the link's, else the last.
    """
    deepest = max((len(spec.layers) for spec in specs if spec is not None), default=0)
    linked = read_depth(link.first("layer"))
    if link.first("layer") and linked is None:
        link.note(f"The link's layer {link.first('layer')[:20]!r} is none (such as 8/12) and was reset to the last.")
        link.put("layer")
    if not deepest and linked is None:
        st.skeleton(height=64)
        return LAST
    chosen = linked or Depth(deepest, deepest)
    if deepest > 1:
        chosen = Depth(chosen.index(deepest) + 1, deepest)
        key = f"layer-of-{deepest}"
        st.session_state[key] = chosen.layer
        st.slider(
            "Layer",
            1,
            deepest,
            key=key,
            format=f"%d of {deepest}",
            help=meaning("layer"),
            on_change=lambda: link.put("layer", write_depth(Depth(st.session_state[key], deepest))),
        )
    return chosen


def head(specs: Iterable[ModelSpec | None]) -> str:
    """Draw the head selector: ``mean``, ``max`` or a number from 1."""
    most = max((layer.heads for spec in specs if spec for layer in spec.layers), default=0)
    linked = read_head(link.first("head") or "mean")
    if linked is None or (most and linked.isdigit() and int(linked) > most):
        link.note(f"There is no head {link.first('head')[:20]!r} here: the mean of all heads is shown.")
        linked = "mean"
        link.put("head")
    options = ["mean", "max", *(str(i) for i in range(1, max(most, int(linked) if linked.isdigit() else 0) + 1))]
    st.session_state["head_choice"] = linked
    st.selectbox(
        "Head",
        options,
        key="head_choice",
        format_func=lambda name: {"mean": "mean", "max": "maximum"}.get(name, f"head {name}"),
        width=150,
        help=meaning("head", "Head 3 of one model has nothing to do with head 3 of another."),
        on_change=lambda: link.put("head", st.session_state["head_choice"]),
    )
    return linked


def linked_query() -> tuple[str, Point | None]:
    """The query of the link: ``cls``, ``mean`` or ``patch`` with the clicked point."""
    chosen, point = link.first("query") or "cls", read_point(link.first("at"))
    if chosen not in QUERIES or (link.first("at") and point is None):
        link.note("The link's query or point is none that is known and was reset to CLS.")
        chosen, point = "cls", None
        pick(None)
    if chosen == "patch" and point is None:
        point = (0.5, 0.5)
    return chosen, point if chosen == "patch" else None


def query() -> tuple[str, Point | None]:
    """Draw the query selector and return what is chosen."""
    chosen, point = linked_query()
    remembered = point or read_point(link.first("at")) or (0.5, 0.5)
    st.session_state["query_choice"] = chosen

    def choose() -> None:
        wanted = st.session_state["query_choice"] or "cls"
        link.put("query", wanted)
        if wanted == "patch":
            link.put("at", write_point(remembered))

    st.segmented_control(
        "Query",
        list(QUERIES),
        key="query_choice",
        format_func=QUERIES.__getitem__,
        help=meaning(
            "query",
            "Click a patch in any picture to ask it; Escape goes back to CLS. A layer without CLS shows the mean over "
            "its patches, and says so.",
        ),
        on_change=choose,
    )
    return chosen, point


def asked(query: str, point: Point | None) -> str:
    """The query as a probe takes it, the same for every model: ``cls``, ``mean``, or a point of the image."""
    return query if point is None else f"@{write_point(point)}"


def answering(layer: AttentionLayer, query: str) -> str:
    """Which token answers in a layer without CLS where CLS is asked, as a person reads it; empty where CLS does."""
    if query != "cls":
        return ""
    if layer.kind == "pool":
        return "pooling query (no CLS)"
    return "" if layer.has_cls else "mean of patches (no CLS)"


def pick(point: Point | None) -> None:
    """A patch was clicked, or cleared."""
    if point is None:
        link.put("query", "cls")
        link.put("at")
    else:
        link.put("query", "patch")
        link.put("at", write_point(point))
