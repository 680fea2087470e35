"""The compared models: each with its card, moved, replaced or taken out in place, and the field that adds one."""

from collections.abc import Sequence

import streamlit as st

from dashboard.controls import model_card, model_search
from dashboard.draw import components
from dashboard.state import link, models
from dashboard.state.selection import Selection
from model_zoo.catalog import PRESETS

FULL = f"{models.MOST_MODELS} models are compared, the most at once. Take one out, or replace one from its card."
_GLYPHS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "x": "✖", "star": "★"}


def draw(selection: Selection) -> None:
    """Draw the list."""
    st.html(_style(selection))
    for index, model in enumerate(selection.models):
        with st.container(key=f"chip-{index}", horizontal=True, wrap=False, vertical_alignment="center", gap="xsmall"):
            _card(index, model, selection)
            if len(selection.models) > 1:
                st.button(
                    f"Remove {models.title(model)}",
                    key=f"remove-{index}",
                    type="tertiary",
                    on_click=_remove,
                    args=(index, selection),
                )
    _search(selection)
    st.session_state["preset"] = next((name for name, keys in PRESETS.items() if keys == selection.models), None)
    st.selectbox(
        "Preset",
        list(PRESETS),
        index=None,
        key="preset",
        label_visibility="collapsed",
        placeholder="Choose a preset …",
        on_change=_preset,
    )
    components.focus(*st.session_state.get("focus next", ("", 0)))


def compare(chosen: Sequence[str], selection: Selection) -> None:
    """Compare these models from now on; those that are compared already keep their colours."""
    link.put("model", *chosen)
    link.put("colour", *models.write_colours(models.colours(chosen, selection.colours)))


def _card(index: int, model: str, selection: Selection) -> None:
    card = st.popover(models.title(model), width="stretch", key=f"card-{model}", on_change="rerun")
    if not card.open:
        return
    with card:
        model_card.draw(model)
        with st.container(horizontal=True, gap="xsmall"):
            for label, by in (("Move up", -1), ("Move down", 1)):
                if 0 <= index + by < len(selection.models):
                    st.button(label, key=f"move-{by}-{model}", on_click=_move, args=(index, by, selection))
            st.button("Replace", key=f"replace-{model}", on_click=_begin_replacing, args=(model,))


def _search(selection: Selection) -> None:
    replaced = st.session_state.get("replaced")
    if replaced in selection.models:
        index = selection.models.index(replaced)
        others = selection.models[:index], selection.models[index + 1 :]
        model_search.draw(
            f"Replace {models.title(replaced)} with",
            "Replace",
            selection.models,
            lambda model: _choose((*others[0], model, *others[1]), selection),
        )
        st.button("Keep it", key="keep", type="tertiary", on_click=_stop_replacing)
    elif len(selection.models) < models.MOST_MODELS:
        model_search.draw(
            "Add a model", "Add", selection.models, lambda model: _choose((*selection.models, model), selection)
        )
    else:
        st.caption(FULL)


def _style(selection: Selection) -> str:
    rules = [
        "[class*=st-key-chip-] [data-testid=stPopover] button {justify-content: flex-start; text-align: left}",
        "[class*=st-key-remove-] button p {font-size: 0}",
        '[class*=st-key-remove-] button p::before {content: "✕" / ""; font-size: 1rem}',
    ]
    for index, model in enumerate(selection.models):
        colour = selection.colour(model)
        button = f".st-key-chip-{index} [data-testid=stPopover] button"
        glyph = _GLYPHS[models.mark(colour)]
        rules.append(f"{button} {{border-left: 6px solid {colour}}}")
        rules.append(f'{button}::before {{content: "{glyph}" / ""; color: {colour}; width: 1.3rem}}')
    return f"<style>{''.join(rules)}</style>"


def _choose(chosen: Sequence[str], selection: Selection) -> None:
    compare(chosen, selection)
    _stop_replacing()


def _remove(index: int, selection: Selection) -> None:
    left = (*selection.models[:index], *selection.models[index + 1 :])
    compare(left, selection)
    _focus(f"remove-{index}" if index < len(left) and len(left) > 1 else "add_model")


def _move(index: int, by: int, selection: Selection) -> None:
    order = list(selection.models)
    order[index], order[index + by] = order[index + by], order[index]
    compare(order, selection)
    _focus(f"chip-{index + by}")


def _begin_replacing(model: str) -> None:
    st.session_state["replaced"] = model
    st.session_state[f"card-{model}"] = False
    _focus("add_model")


def _stop_replacing() -> None:
    st.session_state.pop("replaced", None)
    st.session_state["add_model"] = None
    _focus("add_model")


def _focus(key: str) -> None:
    st.session_state["focus next"] = (key, st.session_state.get("focus next", ("", 0))[1] + 1)


def _preset() -> None:
    if st.session_state["preset"]:
        link.put("model", *PRESETS[st.session_state["preset"]])
        link.put("colour")
