"""What a model is, on one small card."""

import streamlit as st

from dashboard import palette
from dashboard.selection import reference
from model_zoo.adapter import ModelSpec
from model_zoo.catalog import CATALOG, CatalogEntry
from model_zoo.reference import ModelReference


def title(model: str) -> str:
    """What figures call a model: the catalog's title, else the label made from its timm name."""
    named = reference(model)
    return CATALOG[named.key].title if named.key else named.label


def source(named: ModelReference) -> str:
    """Where the weights come from, for a person."""
    return {
        "shipped": "shipped with this project",
        "hub": "downloaded from the Hugging Face hub when first used",
        "random": f"random, seed {named.seed}: it was never trained",
        "file": "a local file",
    }[named.weights]


def facts(entry: CatalogEntry | None, named: ModelReference, spec: ModelSpec | None) -> list[tuple[str, str]]:
    """What there is to say, as pairs of a heading and a text."""
    rows: list[tuple[str, str]] = []
    if entry is not None:
        rows += [
            ("Family", entry.family),
            ("Objective", entry.objective),
            ("Training data", entry.data),
            ("Parameters", f"{palette.number(entry.parameters / 1e6)} million"),
            ("Licence", entry.licence),
        ]
        if entry.paper:
            rows.append(("Paper", f"[arXiv:{entry.paper}](https://arxiv.org/abs/{entry.paper})"))
    rows.append(("Weights", source(named)))
    if spec is not None:
        height, width = spec.input_size
        rows.append(("Input", f"{height} × {width} px"))
        if spec.is_transformer:
            rows.append(("Patches", f"{spec.patch} px, {spec.grid[0]} × {spec.grid[1]} of them"))
            rows.append(("Prefix tokens", ", ".join(spec.prefix) or "none"))
            heads = sorted({layer.heads for layer in spec.layers})
            rows.append(("Attention", f"{len(spec.layers)} layers, {' to '.join(map(str, heads)) or 'no'} heads each"))
    elif entry is not None:
        height, width = entry.input_size
        patch = f", patches of {entry.patch} px" if entry.patch else ""
        rows.append(("Input", f"{height} × {width} px{patch}"))
        rows.append(("Prefix tokens", str(entry.prefix_tokens)))
    return rows


def draw(model: str, spec: ModelSpec | None = None) -> None:
    """Draw the card."""
    named = reference(model)
    entry = CATALOG.get(named.key) if named.key else None
    st.markdown(f"**{title(model)}**")
    lines = "\n".join(f"| {heading} | {text} |" for heading, text in facts(entry, named, spec))
    st.markdown(f"| | |\n|:--|:--|\n{lines}")
    st.caption(
        "Attention is read where the model computes it, after the softmax. The image is prepared exactly as for the "
        "model's published evaluation, unless another image size is chosen."
    )
    st.code(model, language=None)
