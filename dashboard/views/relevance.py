"""Which patches speak for a class, by several methods and under several models."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import ModelResult, Outcome, Params
from dashboard.controls import target_choice
from dashboard.controls.sidebar import sidebar
from dashboard.draw import export, frame, head_maps, palette, panels
from dashboard.draw.panels import Look, Panel, Scale
from dashboard.draw.sentences import percent
from dashboard.images import gallery
from dashboard.page import Page
from probes.core.saliency import overlap

PAGE = Page("Relevance", section="Attention", order=25)

METHODS = {
    "chefer": "Chefer",
    "grad-rollout": "gradient rollout",
    "grad-cam": "attention Grad-CAM",
    "integrated-gradients": "integrated gradients",
    "token-grad-cam": "Grad-CAM on tokens",
}
UNITS = "times even relevance"
SIGNED = "integrated-gradients"
HOW = """
**Yellow patches speak for the target**, dark blue ones do not. The target is a class's logit, or the cosine similarity
between the image's embedding and another image's; the note on each panel says which.

- Every map is divided by its own mean magnitude: 1 is what every patch would get if all counted alike. Only so do
  models and methods fit one scale, as gradients have no common unit.
- *Integrated gradients* are signed: orange speaks for the target, blue against it. All other methods keep the positive
  part.
- *All* puts the methods under each other. They often disagree; the page *Sanity checks* tests each.
"""
FORMULA = r"""
With $G_l = \partial y/\partial A_l$, the map is the row of the token that is read out (CLS; the mean over the patches
where the model averages them):

$$\text{Chefer: } \prod_l (I + F_l),\quad F_l = \operatorname{mean}_h (G_l \odot A_l)^+$$
$$\text{gradient rollout: } \prod_l \operatorname{rownorm}(I + F_l),\quad F_l = (\operatorname{mean}_h G_l\odot A_l)^+$$
$$\text{attention Grad-CAM: } (\operatorname{mean}_h w_h A_{L,h})^{+},\quad w_h = \operatorname{mean}_p G_{L,h,p}$$

Integrated gradients run from the checkpoint's mean colour in 32 steps and are summed over each patch's pixels; Grad-CAM
on tokens weights the channels of the tokens that the last block reads by their mean gradient. Both are captum's.

Sources: Chefer et al. 2021, [arXiv:2103.15679](https://arxiv.org/abs/2103.15679); Abnar & Zuidema 2020,
[arXiv:2005.00928](https://arxiv.org/abs/2005.00928); Selvaraju et al. 2017,
[arXiv:1610.02391](https://arxiv.org/abs/1610.02391); Sundararajan et al. 2017,
[arXiv:1703.01365](https://arxiv.org/abs/1703.01365).
"""
NOT_SHOWN = """
- **Evidence against** the class, except by integrated gradients.
- Whether the model would change its mind without these patches: see deletion and insertion under *DINO against
  supervised*.
- A logit is explained, not a probability: what speaks for every class alike is in it.
- How strong the evidence is: each map is divided by its own mean.
- One image is one image: n = 1.
"""


@dataclass(frozen=True)
class Shown:
    """One method's map under one model, in times even relevance, or why there is none."""

    method: str
    model: ModelResult
    values: np.ndarray | None = None
    note: str = ""
    message: str = ""


def shown(method: str, model: ModelResult, of: str) -> Shown:
    """Read one map out of the results."""
    dataset = model.datasets.get("attention-relevance")
    if dataset is None:
        return Shown(method, model, message=model.message)
    one = dataset.isel(image=0)
    if bool(one["vanished"]):
        return Shown(
            method, model, message=f"{METHODS[method]} gives no map for {explained(one, of)}: no patch stands out."
        )
    values = one["relevance"].values.astype(float)
    return Shown(method, model, values / np.abs(values).mean(), explained(one, of))


def explained(one: xr.Dataset, of: str) -> str:
    """The target and its value: a class with its probability, or a similarity."""
    value, name = float(one["target_value"]), str(one["target_name"].values)
    if name == "similarity":
        return f"similarity to {gallery.title(of)}, {palette.number(value)}"
    word = name.partition(",")[0]
    chance = f"{percent(float(one['target_probability']))}, " if "target_probability" in one else ""
    return f"{word}, {chance}logit {palette.number(value)}"


def scales(found: list[Shown]) -> dict[bool, Scale]:
    """One scale for all unsigned maps, one for the signed."""
    made = {}
    for signed in (False, True):
        arrays = [s.values for s in found if s.values is not None and (s.method == SIGNED) == signed]
        if arrays:
            made[signed] = Scale.over(arrays, UNITS, signed=signed)
    return made


def panel(one: Shown, scale: Scale | None, *, by_method: bool = False) -> Panel:
    """One map as a panel, named by its model, or by its method where the methods of a model stand side by side."""
    model = one.model
    geometry = model.geometries[0] if model.geometries else None
    waiting = one.values is None and not one.message
    return Panel(
        METHODS[one.method] if by_method else model.title,
        model.colour,
        one.note,
        geometry,
        one.values,
        message=one.message or ("computing …" if waiting else ""),
        waiting=waiting,
        scale=scale if one.method == SIGNED else None,
    )


def reading(found: list[Shown], picture: str) -> str:
    """How much of each map lies on the object, or how few patches hold most of it."""
    ready = [s for s in found if s.values is not None]
    if not ready:
        return ""
    mask = gallery.mask(picture) if picture.startswith("scene:") else None
    said = []
    for title in dict.fromkeys(one.model.title for one in ready):
        shares = [(one, share(one, mask)) for one in ready if one.model.title == title]
        targets = "; ".join(dict.fromkeys(one.note for one, _ in shares))
        said.append(f"**{title}** ({targets}): " + ", ".join(f"{METHODS[o.method]} {percent(s)}" for o, s in shares))
    if mask is not None:
        start = f"Of the positive relevance, on the object, which covers {percent(float(mask.mean()))} of the scene"
    else:
        start = "Share of the patches that hold 60\u202f% of the positive relevance (even relevance: 60\u202f%)"
    return "  \n".join([f"{start}:", *said, "n = 1 image; each map divided by its own mean magnitude."])


def share(one: Shown, mask: np.ndarray | None) -> float:
    """The part of the positive relevance on the object; without one, of the patches that hold 60% of it."""
    values = np.clip(one.values if one.values is not None else np.zeros((1, 1)), 0, None)
    if mask is None:
        return float(head_maps.mass_mask(values, 0.6).mean())
    return overlap(values, mask, one.model.geometries[0], 0.6).mass_inside


def page() -> None:
    """Draw the page."""
    selection = sidebar()
    frame.header("Which patches speak for the class?")
    picture, row = selection.images[0], frame.controls()
    layouts = asking.compute({}, selection)
    specs = {model.model: model.spec for model in layouts.models}
    with row:
        chosen = st.selectbox(
            "Method",
            [*METHODS, "all"],
            key="method",
            bind="query-params",
            format_func=lambda name: METHODS.get(name, "all methods"),
            width=210,
            help="Five ways to ask the same question. All of them need gradients, so each takes passes of its own.",
        )
        remembered: dict[str, list[str]] = st.session_state.setdefault("likeliest", {}).get(picture, {})
        likeliest = target_choice.likeliest({m: remembered[m] for m in selection.models if m in remembered})
        target = target_choice.picker(selection, specs.values(), likeliest)
    methods = list(METHODS) if chosen == "all" else [chosen]
    outcomes = {}
    for method in methods:
        asked: dict[str, Params | None] = {
            model: {"method": method, **target.params(spec)} if spec else None for model, spec in specs.items()
        }
        outcomes[method] = asking.compute_each({"attention-relevance": asked}, selection)
    found = [shown(method, model, target.of) for method, outcome in outcomes.items() for model in outcome.models]
    scale = scales(found)
    draw(picture, found, scale, several=chosen == "all")
    busy = (outcome for outcome in (layouts, *outcomes.values()) if outcome.jobs or outcome.failures)
    asking.show_progress(next(busy, layouts))
    said = reading(found, picture)
    st.markdown(said)
    ready = {
        f"{model.title}, {METHODS[method]}": model.datasets["attention-relevance"]
        for method, outcome in outcomes.items()
        for model in outcome.models
        if "attention-relevance" in model.datasets
    }
    remember(picture, outcomes[methods[0]])

    def document() -> str:
        heading = f"{gallery.title(picture)}: relevance by {', '.join(METHODS[m] for m in methods)}"
        every = [panel(one, scale.get(True)) for one in found]
        return export.svg(
            picture, every, scale=scale.get(False), look=Look(), title=heading, caption=said.replace("*", "")
        )

    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name=f"relevance-{picture.replace(':', '-')}",
        png=(lambda: export.png(document())) if ready else None,
        svg=document if ready else None,
        csv=(lambda: table(ready)) if ready else None,
    )


def draw(picture: str, found: list[Shown], scale: Mapping[bool, Scale], *, several: bool) -> None:
    """One row with a panel a model; or a row a model with a panel a method."""
    if not several:
        drawn = [panel(one, scale.get(True)) for one in found]
        panels.patch_panels(picture, drawn, scale=scale.get(False), look=Look(), key="relevance")
        return
    for index, title in enumerate(dict.fromkeys(one.model.title for one in found)):
        st.markdown(f"**{title}**")
        drawn = [panel(one, scale.get(True), by_method=True) for one in found if one.model.title == title]
        look = Look(original=False, columns=len(drawn))
        panels.patch_panels(picture, drawn, scale=scale.get(False), look=look, key=f"relevance-{index}")


def remember(picture: str, outcome: Outcome) -> None:
    """Keep the models' likeliest classes, which the target picker offers first."""
    kept = st.session_state["likeliest"].setdefault(picture, {})
    for model in outcome.models:
        dataset = model.datasets.get("attention-relevance")
        if dataset is not None and "top_name" in dataset.coords:
            kept[model.model] = dataset["top_name"].isel(image=0).values.tolist()


def table(ready: Mapping[str, xr.Dataset]) -> str:
    """All maps as CSV."""
    return frame.csv({name: dataset[["relevance", "target_value", "target_class"]] for name, dataset in ready.items()})
