"""Which patches speak for a class, by several methods and under several models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dashboard.compute import asking
from dashboard.compute.asking import Ask
from dashboard.controls import choices, target_choice
from dashboard.draw import panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Look, Panel, Row, Scale
from dashboard.images import gallery
from dashboard.state.selection import Selection
from dashboard.view import Answer, Page, Shown, View
from dashboard.views.relevance.concentration import reading
from dashboard.views.relevance.maps import (
    METHODS,
    SIGNED,
    RelevanceMap,
    relevance_map,
    scales,
)

HOW = """
**Yellow patches speak for the target**; where the image is seen, little does. The target is a class's logit, or the
cosine similarity between the image's embedding and another image's; the note on each panel says which.

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
class Chosen:
    """What the controls say: keys of ``METHODS``, and what is explained."""

    methods: Sequence[str]
    target: target_choice.Chosen


def panel(one: RelevanceMap, signed: Scale | None) -> Panel:
    """One map as a panel; signed ones have the scale given."""
    if one.values is None:
        return panels.pending(replace(one.model, message=one.message))
    return panels.of_model(one.model, one.note, one.values, scale=signed if one.method == SIGNED else None)


def rows(picture: str, found: Sequence[RelevanceMap], signed: Scale | None, *, by_model: bool) -> list[Row]:
    """One row with a panel a model; or a row a model with a panel a method."""
    if not by_model:
        return [Row(picture, [panel(one, signed) for one in found])]
    made = []
    for title in dict.fromkeys(one.model.title for one in found):
        drawn = [replace(panel(one, signed), name=METHODS[one.method]) for one in found if one.model.title == title]
        made.append(Row(picture, drawn, title=title, look=Look(columns=len(drawn) + 1)))
    return made


def controls(selection: Selection) -> Chosen:
    """Draw method and target."""
    method = choices.one_of_many(
        "Method",
        {**METHODS, "all": "all methods"},
        "method",
        width=210,
        help="Five ways to ask the same question. All of them need gradients, so each takes passes of its own.",
    )
    target = target_choice.picker(selection, asking.known(selection))
    return Chosen(list(METHODS) if method == "all" else [method], target)


def shown(answer: Answer[Chosen]) -> Shown:
    """Every map divided by its own mean, and what part of it lies where."""
    methods, outcome, picture = answer.chosen.methods, answer.outcome, answer.selection.images[0]
    found = [relevance_map(name, model, answer.chosen.target.of) for name in methods for model in outcome.models]
    scale = scales(found)
    return Shown(
        f"{gallery.title(picture)}: relevance by {', '.join(METHODS[name] for name in methods)}",
        rows(picture, found, scale.get(True), by_model=len(methods) > 1),
        scale=scale.get(False),
        said=reading(found, picture),
        table={
            f"{title}, {METHODS[name]}": dataset[["relevance", "target_value", "target_class"]]
            for name in methods
            for title, dataset in outcome.ready(name).items()
        },
    )


VIEW = View(
    Page("Relevance", section="Attention", order=25),
    "Which patches speak for the class?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [
        Ask("attention-relevance", {"method": name, **chosen.target.params}, name=name) for name in chosen.methods
    ],
    below=lambda answer, _: target_choice.remember(answer.selection.images[0], answer.outcome),
    overlays=True,
)
