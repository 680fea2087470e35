"""Whose attention picks out the object: measured, for models of the same architecture and other objectives."""

from dataclasses import replace

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices, image_sets, object_masks, progress
from dashboard.controls.sidebar import sidebar
from dashboard.draw import export, frame, head_maps, panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Look, Panel, Row
from dashboard.images import gallery, masks
from dashboard.state import link
from dashboard.state.selection import Selection
from dashboard.view import Page
from dashboard.views.dino_supervised import below, object_scores
from dashboard.views.dino_supervised.object_scores import Scores
from dashboard.views.dino_supervised.scored_maps import heads_of, scores_of, with_baselines

PAGE = Page("DINO against supervised", section="Attention", order=20)

MOST = 100
SHOWN = {"best": "best head", "mean": "mean of heads"}
HOW = """
The first picture shows the **object**, the others where each model's last block attends, with the outline of the
patches that hold most of the map's mass. The more the outline is the object, the higher the **IoU**: 1 is perfect.

- *Best head*: a model's heads differ a lot; shown is the one with the highest mean IoU over all images of the set.
- *Pointing*: how often the single highest patch lies on the object. *Mass on object*: share of the map inside; an even
  map would have the *object's area*.
- *Random weights*: the same architecture untrained, the baseline that any model should beat.
- Click a column's head to sort the table.
"""
FORMULA = r"""
$$\text{IoU} = \frac{|M_\tau \cap O|}{|M_\tau \cup O|}, \qquad M_\tau = \text{the fewest patches with }
\textstyle\sum_{p\in M_\tau} \hat m_p \ge \tau$$

$$\text{pointing} = [\arg\max_p m_p \in O], \qquad \text{mass on object} = \textstyle\sum_p \hat m_p c_p$$

with $m$ the CLS row of the last attention layer over the patches (the mean over patch queries in models without CLS),
$\hat m = m/\sum m$, $O$ the object in pixels within the model's crop and $c_p$ the part of patch $p$ that it covers.
Deletion and insertion: the area under the curve of the model's answer as patches are painted over with the mean
colour, or come in, highest first.

Sources: Caron et al. 2021, [arXiv:2104.14294](https://arxiv.org/abs/2104.14294); Zhang et al. 2018,
[arXiv:1608.00507](https://arxiv.org/abs/1608.00507); Petsiuk et al. 2018,
[arXiv:1806.07421](https://arxiv.org/abs/1806.07421).
"""
NOT_SHOWN = """
- Whether the model **needs** the object: attention may lie on it and be ignored. Deletion and insertion ask that.
- The best head is chosen on the images it is scored on, which flatters every model, random weights too.
- One layer, one query: other layers may hold the object better.
- A difference between two models is one between two trainings; it is not what the objective does in general.
"""


def panel(model: ModelResult, scores: Scores | None, place: int, show: str, tau: float) -> Panel:
    """One model's map of the shown image, outlined."""
    dataset = model.datasets.get("attention-maps")
    if dataset is None:
        return panels.pending(model, image=place)
    heads = heads_of(dataset, place)
    if show == "mean" or scores is None:
        values, note = heads.mean(0), f"mean of {len(heads)} heads"
    else:
        values, note = heads[scores.best], f"head {scores.best + 1} of {len(heads)}"
    mask = head_maps.mass_mask(values, tau)
    return panels.of_model(model, note, values, image=place, mask=mask, contour_only=True)


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
    selection = sidebar(several=True, default_images=("scene:0", "scene:1", "scene:2", "scene:3"))
    frame.header("Whose attention picks out the object?")
    with frame.controls():
        many, _ = image_sets.control(selection, default="scenes-32", most=MOST)
        place = _shown_image(many)
        show = choices.one_of_many("Map", SHOWN, "map", width=150)
        tau = st.slider("Mass inside the outline", 0.1, 0.95, 0.6, 0.05, key="tau", bind="query-params", width=150)
        baseline = st.toggle("Random weights", True, key="baseline", bind="query-params")
        object_masks.popover(many.images[place])
    asked = with_baselines(many) if baseline else many
    outcome, _ = asking.ask([Ask("attention-maps", {"layers": "last"})], many, models=asked.models)
    keys = {i: (picture, key) for i, picture in enumerate(many.images) if (key := object_masks.key_of(picture))}
    scored = {model.title: found for model in outcome.models if (found := scores_of(model, keys, tau))}
    drawn = [panel(model, scored.get(model.title), place, show, tau) for model in outcome.models]
    picture = many.images[place]
    scale = panels.shared_scale([Row(picture, drawn)], "attention weight")
    first = object_panel(picture, keys.get(place, ("", ""))[1])
    look = Look(original=False, columns=len(drawn) + 1 if len(drawn) < 5 else 0)
    panels.patch_panels(picture, [first, *drawn], scale=scale, look=look, key="salience")
    progress.show(outcome)
    none = "No image here has a mask yet: choose scenes, or say where the object is."
    said = object_scores.answer(scored, tau) or none
    st.markdown(said)

    def document() -> str:
        title = f"{gallery.title(picture)}: attention of the last block"
        return export.svg(picture, drawn, scale=scale, look=look, title=title, caption=export.plain(said))

    frame.footer(
        Help(HOW, FORMULA, NOT_SHOWN),
        name="dino-against-supervised",
        png=(lambda: export.png(document())) if scale else None,
        svg=document if scale else None,
        csv=(lambda: frame.csv(object_scores.per_image(scored))) if scored else None,
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
