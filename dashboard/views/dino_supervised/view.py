"""Whose attention picks out the object: measured, for models of the same architecture and other objectives."""

from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices, image_sets, map_options, object_masks, progress
from dashboard.controls.map_options import MapOptions
from dashboard.controls.sidebar import sidebar
from dashboard.draw import export, frame, panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Look, Panel, Row
from dashboard.images import gallery, masks
from dashboard.state import link
from dashboard.state.selection import Selection
from dashboard.view import Page
from dashboard.views.dino_supervised import below, object_scores, verdict
from dashboard.views.dino_supervised.object_scores import Scores
from dashboard.views.dino_supervised.scored_maps import heads_of, scores_of, with_baselines

PAGE = Page("DINO against supervised", section="Attention", order=20)

MOST = 100
OF_SET: dict[str, Any] = {"default": "scenes-32", "most": MOST}
SHOWN = {"best": "best head", "mean": "mean of heads"}
HOW = """
The first picture shows the **object**, the others where each model's last block attends, with the outline of the
patches that hold most of the map's mass. The more the outline is the object, the higher the **IoU**: 1 is perfect.

- *Best head*: a model's heads differ a lot; shown is the one with the highest mean IoU over all images of the set.
- *Pointing*: how often the single highest patch lies on the object. *Mass on object*: share of the map inside; an even
  map would have the *object's area*.
- *IoU* rewards the outline, all of the object and nothing else; *mass on object* rewards a few right patches. A model
  can be ahead in one and behind in the other.
- Three baselines stand beside the scores. *Uniform attention* gives every patch the same: its mask takes 60% of the
  patches (or what is chosen above), and so 60% of the object. The *centre prior* only favours the middle.
  *Random weights* is the same architecture untrained, with its best head chosen as in the others.
- Click a column's head to sort the table.
"""
FORMULA = r"""
$$\text{IoU} = \frac{|M_\tau \cap O|}{|M_\tau \cup O|}, \qquad M_\tau = \text{the fewest patches with }
\textstyle\sum_{p\in M_\tau} \hat m_p \ge \tau$$

$$\text{pointing} = [\arg\max_p m_p \in O], \qquad \text{mass on object} = \textstyle\sum_p \hat m_p c_p$$

with $m$ the CLS row of the last attention layer over the patches (without CLS the row of the pooling query where there
is one, else the mean over patches), $\hat m = m/\sum m$, $O$ the object in pixels within the
model's crop and $c_p$ the part of patch $p$ that it covers. Uniform attention ties all $P$
patches, and each is in its mask to the part $t = \lceil \tau P\rceil / P$: with the
object's area $a$ its IoU is $ta/(t+a-ta)$ and its mass on the object $a$. The centre prior is
$m_p = \exp(-((u_p-\frac12)^2 + (v_p-\frac12)^2)/2\sigma^2)$ at the patch's centre, in fractions of the input,
$\sigma = \frac14$. Deletion and insertion: the area under the curve of the model's
answer as patches are painted over with the mean colour, or come in, highest first.

Sources: Caron et al. 2021, [arXiv:2104.14294](https://arxiv.org/abs/2104.14294); centre prior: Judd et al. 2012,
[MIT-CSAIL-TR-2012-001](https://hdl.handle.net/1721.1/68590); Zhang et al. 2018,
[arXiv:1608.00507](https://arxiv.org/abs/1608.00507); Petsiuk et al. 2018,
[arXiv:1806.07421](https://arxiv.org/abs/1806.07421).
"""
NOT_SHOWN = """
- Whether the model **needs** the object: attention may lie on it and be ignored. Deletion and insertion ask that.
- The best head is chosen on the images it is scored on, which flatters every model, random weights too.
- One layer, one query: other layers may hold the object better.
- A difference between two models is one between two trainings; it is not what the objective does in general.
"""


def panel(model: ModelResult, scores: Scores | None, place: int, show: str, maps: MapOptions) -> Panel:
    """One model's map of the shown image, outlined."""
    dataset = model.datasets.get("attention-maps")
    if dataset is None:
        return panels.pending(model, image=place)
    heads = heads_of(dataset, place)
    if show == "mean" or scores is None:
        values, note = heads.mean(0), f"mean of {len(heads)} heads"
    else:
        values, note = heads[scores.best], f"head {scores.best + 1} of {len(heads)}"
    if answering := choices.answering(model.spec.layers[-1], "cls") if model.spec and model.spec.layers else "":
        note += f" · {answering}"
    if model.spec and model.spec.layers:
        values = maps.drawn(values, model.spec.layers[-1].shared_by(str(dataset["query_used"].values[-1])))
    return panels.of_model(model, note, values, image=place, **maps.masked(values))


def object_panel(picture: str, key: str) -> Panel:
    """The photo with all but the object darkened."""
    title, whole = gallery.title(picture), gallery.whole(picture)
    first = Panel("Object", "var(--st-border-color)", title, whole)
    if not key:
        return replace(first, message="Say where the object is: Object, above the pictures.")
    width, height = gallery.size(picture)
    fine = masks.covered(picture, key, whole, (56, round(56 * width / height))) >= 0.5
    kind = {"scene": "exact mask", "box": "your box"}.get(key.partition(":")[0], "your mask")
    return replace(first, note=f"{title} · {kind}", values=fine.astype(float), mask=fine)


def page() -> None:
    """Draw the page: its picture shows the heads that the scores of all images choose, its tabs show the scores."""
    selection = sidebar(
        several=True,
        default_images=("scene:0", "scene:1", "scene:2", "scene:3"),
        set_in_use=partial(image_sets.in_use, **OF_SET),
    )
    frame.header("Whose attention picks out the object?")
    with frame.controls():
        many, _ = image_sets.control(selection, **OF_SET)
        place = _shown_image(many)
        show = choices.one_of_many("Map", SHOWN, "map", width=150)
        tau = map_options.mass_share("Mass inside the outline", width=150)
        baseline = st.toggle(
            "Random weights",
            True,
            key="baseline",
            bind="query-params",
            help="Adds each architecture untrained, as a baseline.",
        )
        flat = map_options.flat()
        object_masks.popover(many.images[place])
    asked = with_baselines(many) if baseline else many
    outcome, _ = asking.ask([Ask("attention-maps", {"layers": "last"})], many, models=asked.models)
    keys = {i: (picture, key) for i, picture in enumerate(many.images) if (key := object_masks.key_of(picture))}
    scored = {model.title: found for model in outcome.models if (found := scores_of(model, keys, tau))}
    values = map_options.linked_values(map_options.tokens(model.spec for model in outcome.models))
    maps = MapOptions(show="both", values=values, tau=tau)
    drawn = [panel(model, scored.get(model.title), place, show, maps) for model in outcome.models]
    picture = many.images[place]
    scale = panels.shared_scale([Row(picture, drawn)], maps.units, most=True)
    first = object_panel(picture, keys.get(place, ("", ""))[1])
    look = Look(original=False, flat=flat)
    panels.patch_panels(picture, [first, *drawn], scale=scale, look=look, key="salience")
    progress.show(outcome)
    none = "No image here has a mask yet: choose scenes, or say where the object is."
    said = verdict.answer(scored, tau) or none
    st.markdown(said)

    def document() -> str:
        title = f"{gallery.title(picture)}: whose attention picks out the object?"
        return export.svg(picture, [first, *drawn], scale=scale, look=look, title=title, caption=said)

    frame.footer(
        Help(HOW, FORMULA, NOT_SHOWN),
        name="dino-against-supervised",
        svg=document if scale else None,
        csv=(lambda: frame.csv(object_scores.per_image(scored))) if scored else None,
        models=asked.models,
    )
    if scored:
        masked = tuple(picture for picture, _ in keys.values())
        below.draw(scored, outcome, replace(asked, images=masked))


def _shown_image(many: Selection) -> int:
    """Draw the choice of the image that is shown, and return its place."""
    linked = link.first("pick")
    if linked not in many.images:
        linked = many.images[0]
    st.session_state["shown_image"] = linked
    st.selectbox(
        "Shown", many.images, key="shown_image", format_func=gallery.title, width=140,
        on_change=lambda: link.put("pick", st.session_state["shown_image"]),
    )  # fmt: skip
    return many.images.index(linked)
