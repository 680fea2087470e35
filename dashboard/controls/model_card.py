"""What a model is, on one small card."""

import re
from html import escape

import streamlit as st
import timm

from dashboard.compute import results
from dashboard.draw import palette
from dashboard.state.models import reference, title
from model_zoo.catalog import CATALOG
from model_zoo.reference import ModelReference

_STYLE = """<style>
.card { border-collapse: collapse; font-size: 0.93rem }
.card th { text-align: left; font-weight: 400; opacity: 0.7; padding: 0.15rem 1rem 0.15rem 0; vertical-align: top;
  white-space: nowrap }
.card td { padding: 0.15rem 0; min-width: 12rem }
</style>"""


def source(named: ModelReference) -> str:
    """Where the weights come from, for a person."""
    if named.step is not None:
        return f"shipped with this project: a snapshot after {named.step} steps of its training"
    return {
        "shipped": "shipped with this project",
        "hub": "downloaded from the Hugging Face hub when first used",
        "random": f"random, seed {named.seed}: it was never trained",
        "file": "a local file",
        "trained": "trained here on the digits; held in this server's memory and gone when it ends",
    }[named.weights]


def facts(model: str) -> list[tuple[str, str]]:
    """What there is to say about a model, as pairs of a heading and a text."""
    named = reference(model)
    rows = [*_published(named), ("Weights", source(named))]
    spec = results.store().spec(model)
    if spec is not None:
        height, width = spec.input_size
        rows.append(("Input", f"{height} × {width} px"))
        if spec.is_transformer:
            rows.append(("Patches", f"{spec.patch} px, {spec.grid[0]} × {spec.grid[1]} of them"))
            rows.append(("Prefix tokens", ", ".join(spec.prefix) or "none"))
            rows.append(("Stands for an image", {"cls": "CLS", "mean": "mean of patches"}[spec.features]))
        if spec.layers:
            heads = sorted({layer.heads for layer in spec.layers})
            many = f"{heads[0]}" if len(heads) == 1 else f"{heads[0]} to {heads[-1]}"
            rows.append(("Attention", f"{len(spec.layers)} layers, {many} heads each"))
    elif named.key is not None:
        entry = CATALOG[named.key]
        patch = f", patches of {entry.patch} px" if entry.patch else ""
        rows.append(("Input", f"{entry.input_size[0]} × {entry.input_size[1]} px{patch}"))
        rows.append(("Prefix tokens", str(entry.prefix_tokens)))
    return rows


def _published(named: ModelReference) -> list[tuple[str, str]]:
    """What the catalog says, or for other models what timm says of its weights."""
    if named.key is not None:
        entry = CATALOG[named.key]
        rows = [
            ("Family", entry.family),
            ("Objective", entry.objective),
            ("Training data", entry.data),
            ("Parameters", f"{palette.number(entry.parameters / 1e6)} million"),
            ("Licence", entry.licence),
        ]
        return [*rows, ("Paper", f"arXiv:{entry.paper}")] if entry.paper else rows
    config = timm.get_pretrained_cfg(named.timm_name) if named.weights == "hub" else None
    if config is None:
        return []
    rows = [("Licence", config.license or "not stated")]
    papers = config.paper_ids if isinstance(config.paper_ids, str) else ", ".join(config.paper_ids or ())
    return [*rows, ("Paper", papers)] if papers else rows


def draw(model: str) -> None:
    """Draw the card."""
    st.markdown(f"**{title(model)}**")
    lines = "".join(f"<tr><th>{escape(heading)}</th><td>{_linked(text)}</td></tr>" for heading, text in facts(model))
    st.html(f"{_STYLE}<table class='card'>{lines}</table>")
    st.caption("Attention is read after the softmax, where the model computes it. Images are prepared as published.")
    st.code(model, language=None)


def _linked(text: str) -> str:
    """The text with papers as links."""
    links = r"<a href='https://arxiv.org/abs/\1' target='_blank' rel='noopener'>arXiv:\1</a>"
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", links, escape(text))
