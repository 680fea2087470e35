"""Logit lens: what each patch would be called, layer by layer."""

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape

import numpy as np
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import ModelResult
from dashboard.controls import choices, token_layers
from dashboard.controls.sidebar import sidebar
from dashboard.draw import charts, export, frame, palette, panels
from dashboard.draw.palette import number
from dashboard.draw.panels import Look, Panel
from dashboard.images import gallery
from dashboard.page import Page
from dashboard.state.selection import Depth

PAGE = Page("Logit lens", section="Representation", order=70)

SHADES = (
    (68, 119, 170), (238, 136, 102), (34, 136, 51), (204, 187, 68), (170, 51, 119), (102, 204, 238), (138, 109, 59),
    (226, 226, 226),
)  # fmt: skip
"""Colours of classes, told apart with any common colour vision; pointing at a patch names its class."""
OPACITY = 0.9
HOW = """
Every patch's token is taken out after the chosen layer and put through the model's own final norm and classifier, as
if it were the end. The patch has **the colour of the class that it would be called**; the surer the answer,
the stronger the colour. Point at a patch to read its classes.

Early layers mostly answer at random. Watch where the object's patches begin to agree, and if the background follows.
"""
FORMULA = r"""
$$p_{l,i} = \operatorname{softmax}\big(W\,\mathrm{norm}(x_{l,i}) + b\big)$$

with $x_{l,i}$ the token of patch $i$ after layer $l$ and the classifier $(W, b)$ of the model; of a distilled model
the mean of its two. Source: nostalgebraist 2020 (logit lens); Vilas et al. 2023,
[arXiv:2310.18969](https://arxiv.org/abs/2310.18969).
"""
NOT_SHOWN = """
- The classifier was trained on **one vector at the end**: nobody ever asked it about other tokens and layers.
- A flat answer does not mean that the layer knows nothing: the classifier may not be able to read it there.
- It is no segmentation: a background patch that says "cat" has been told so by attention.
"""


def at_layer(dataset: xr.Dataset, depth: Depth | None) -> xr.Dataset:
    """The chosen layer without padding."""
    layers = dataset.sizes["layer"]
    one = dataset.isel(image=0, layer=depth.index(layers) if depth else layers - 1)
    return one.isel(y=slice(int(one["grid_height"])), x=slice(int(one["grid_width"])))


def names(dataset: xr.Dataset) -> dict[int, str]:
    """Index to the first of a class's names."""
    pairs = (entry.partition(" ") for entry in dataset.attrs["class_names"])
    return {int(index): name.partition(",")[0] for index, _, name in pairs}


def called(dataset: xr.Dataset, index: int) -> str:
    """A class as a person reads it."""
    return names(dataset).get(index, f"class {index}")


def legend(datasets: Iterable[xr.Dataset], always: Iterable[str] = ()) -> dict[str, tuple[int, int, int]]:
    """Colours of the final answers and of the most frequent ones over all models and layers; the others are grey.

    All layers count, so that a class keeps its colour while the layer is changed.
    """
    count: Counter[str] = Counter()
    for dataset in datasets:
        top = dataset["top_class"].values[..., 0]
        for index, times in zip(*np.unique(top[top >= 0], return_counts=True), strict=True):
            count[called(dataset, int(index))] += int(times)
    frequent = (name for name, _ in sorted(count.items(), key=lambda item: (-item[1], item[0])))
    return dict(zip(list(dict.fromkeys([*always, *frequent])), SHADES, strict=False))


def painted(dataset: xr.Dataset, shades: Mapping[str, tuple[int, int, int]]) -> tuple[np.ndarray, list[str]]:
    """RGBA (y, x, 4) of one layer, and what is said of each patch."""
    top, probability = dataset["top_class"].values, dataset["probability"].values
    rgba = np.zeros((*top.shape[:2], 4), np.uint8)
    texts = []
    for place in np.ndindex(top.shape[:2]):
        answers = [
            f"{called(dataset, int(c))} {number(float(p), 2)}"
            for c, p in zip(top[place], probability[place], strict=True)
        ]
        texts.append(", ".join(answers[:3]))
        rgba[place][:3] = shades.get(called(dataset, int(top[place][0])), (128, 128, 128))
        rgba[place][3] = round(255 * (0.3 + 0.7 * float(probability[place][0]) ** 0.5))
    return rgba, texts


def panel(model: ModelResult, depth: Depth | None, shades: Mapping[str, tuple[int, int, int]]) -> Panel:
    """One model's panel."""
    dataset = model.datasets.get("logit-lens")
    geometry = model.geometries[0] if model.geometries else None
    if dataset is None:
        text = model.message or "computing …"
        return Panel(model.title, model.colour, geometry=geometry, message=text, waiting=not model.message)
    one = at_layer(dataset, depth)
    layer = int(one["layer"]) + 1
    if (one["top_class"].values < 0).all():
        message = f"The classifier reads another width than that of layer {layer}: only later layers can be read."
        return Panel(model.title, model.colour, geometry=geometry, message=message)
    rgba, texts = painted(one, shades)
    answer = int(one["cls_class"].values[0])
    said = (
        f" · CLS: {called(dataset, answer)} {number(float(one['cls_probability'].values[0]), 2)}" if answer >= 0 else ""
    )
    note = f"layer {layer} of {dataset.sizes['layer']}{said}"
    return Panel(model.title, model.colour, note, geometry, rgba=rgba, texts=texts)


def final_answer(dataset: xr.Dataset) -> int:
    """The class of CLS after the last layer, or without CLS the most frequent one of its patches."""
    last = at_layer(dataset, None)
    answer = int(last["cls_class"].values[0])
    if answer >= 0:
        return answer
    values, counts = np.unique(last["top_class"].values[..., 0], return_counts=True)
    return int(values[counts.argmax()])


def shares(dataset: xr.Dataset) -> np.ndarray:
    """Share of patches that say the final answer, per layer; NaN where a layer cannot be read."""
    answer, found = final_answer(dataset), []
    for layer in range(dataset.sizes["layer"]):
        top = at_layer(dataset, Depth(layer + 1, dataset.sizes["layer"]))["top_class"].values[..., 0]
        found.append(np.nan if (top < 0).all() else float((top == answer).mean()))
    return np.array(found)


def figure(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], depth: Depth | None = None) -> go.Figure:
    """Over the layers: how many patches say what the model says in the end; the shown layer has a large mark."""
    relative = len({dataset.sizes["layer"] for dataset in datasets.values()}) > 1
    drawn = go.Figure()
    for index, (name, dataset) in enumerate(datasets.items()):
        values = shares(dataset)
        shown = depth.index(len(values)) if depth else len(values) - 1
        drawn.add_scatter(
            x=charts.positions(len(values), relative=relative),
            y=values,
            mode="lines+markers",
            line={"color": colours[name], "width": 2.5},
            marker={
                "symbol": palette.MODEL_MARKS[index % len(palette.MODEL_MARKS)],
                "opacity": 1,
                "size": np.where(np.arange(len(values)) == shown, 14, 8),
            },
            name=f"{name}: {called(dataset, final_answer(dataset))}",
            customdata=np.arange(1, len(values) + 1),
            hovertemplate=f"{name}<br>layer %{{customdata}}: %{{y:.3f}} of the patches<extra></extra>",
        )
    drawn.update_xaxes(title="relative depth (0: first layer, 1: last layer)" if relative else "layer")
    drawn.update_yaxes(title="patches that say the final answer (share, 0 to 1)", range=[-0.02, 1.02])
    return drawn.update_layout(height=340, showlegend=True)


def unread(datasets: Mapping[str, xr.Dataset]) -> str:
    """Which layers have no point in the chart, and why; empty where all have one."""
    gaps = {name: int(np.isnan(shares(dataset)).sum()) for name, dataset in datasets.items()}
    said = [
        f"layers 1 to {count} of {name}" if count > 1 else f"layer 1 of {name}" for name, count in gaps.items() if count
    ]
    return f"No point for {', '.join(said)}: their width is not the one that the classifier reads." if said else ""


def reading(datasets: Mapping[str, xr.Dataset], depth: Depth | None) -> str:
    """What the shown layer says."""
    said = []
    for name, dataset in datasets.items():
        share = shares(dataset)[depth.index(dataset.sizes["layer"]) if depth else -1]
        answer = called(dataset, final_answer(dataset))
        if np.isfinite(share):
            said.append(f"**{name}**: {number(100 * share)}% of the patches say its final answer, “{answer}”")
    return (
        "; ".join(said) + " (n = 1 image; final answer: CLS after the last layer, else most patches)." if said else ""
    )


def page() -> None:
    """Draw the page."""
    selection = sidebar()
    frame.header("What would each patch be called?")
    row = frame.controls()
    outcome = asking.compute({"logit-lens": {"ranks": 5}}, selection)
    with row:
        able = [model.spec for model in outcome.models if "logit-lens" in model.datasets]
        depth = choices.layer(able, waiting=bool(outcome.jobs))
    ready = outcome.ready("logit-lens")
    finals = [called(dataset, final_answer(dataset)) for dataset in ready.values()]
    shades = legend(ready.values(), finals)
    drawn = [panel(model, depth, shades) for model in outcome.models]
    look = Look(opacity=OPACITY, columns=token_layers.columns(len(drawn)))
    picture = selection.images[0]
    panels.patch_panels(picture, drawn, scale=None, look=look, key="lens")
    if shades:
        chips = "".join(
            '<span style="display:inline-flex;align-items:center;margin-right:1.1rem"><span style="width:0.9rem;'
            f'height:0.9rem;border-radius:2px;margin-right:0.4rem;background:rgb{colour}"></span>{escape(name)}</span>'
            for name, colour in shades.items()
        )
        st.html(
            f'<div style="font-size:0.85rem;line-height:1.9">{chips}<span style="opacity:0.7">grey: others</span></div>'
        )
    asking.show_progress(outcome)
    said = reading(ready, depth) if ready else ""
    if ready:
        st.markdown(said)
        frame.chart(
            figure(ready, outcome.colours, depth), key="shares", alt="Patches that say the final answer, over layers"
        )
        if missing := unread(ready):
            st.caption(missing)
    heading = f"{gallery.title(picture)}: what each patch would be called"
    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name="logit-lens",
        svg=(lambda: export.svg(picture, drawn, scale=None, look=look, title=heading, caption=said)) if ready else None,
        png=(lambda: export.png(export.svg(picture, drawn, scale=None, look=look, title=heading, caption=said)))
        if ready
        else None,
        csv=(lambda: frame.csv({n: d[["top_class", "probability"]] for n, d in ready.items()})) if ready else None,
    )
