"""Logit lens: what each patch would be called, layer by layer."""

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices
from dashboard.draw import panels
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.draw.panels import Panel, Row
from dashboard.images import gallery
from dashboard.state.selection import Depth
from dashboard.view import Answer, Chart, Page, Shown, View
from dashboard.views.logit_lens.answers import at_layer, called, figure, final_answer, reading, unread
from dashboard.views.logit_lens.class_colours import GREY, Colours, legend, lettered, letters, painted

HOW = """
Every patch's token is taken out after the chosen layer and put through the model's own final norm and classifier, as
if it were the end. The patch has **the colour of the class that it would be called**; the surer the answer,
the stronger the colour. Every area of one class bears its letter. Point at a patch to read its classes.

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


def panel(model: ModelResult, depth: Depth, shades: Colours) -> Panel:
    """One model's panel."""
    dataset = model.datasets.get("logit-lens")
    if dataset is None:
        return panels.pending(model)
    one = at_layer(dataset, depth)
    layer = int(one["layer"]) + 1
    if (one["top_class"].values < 0).all():
        width = f"The classifier reads another width than that of layer {layer}: only later layers can be read."
        return panels.pending(model, width)
    rgba, texts = painted(one, shades)
    note, answer = f"layer {layer} of {dataset.sizes['layer']}", int(one["cls_class"].values[0])
    if answer >= 0:
        note += f" · CLS: {called(dataset, answer)} {number(float(one['cls_probability'].values[0]), 2)}"
    return panels.of_model(model, note, rgba=lettered(rgba, one, shades), grid=rgba.shape[:2], texts=texts)


def named(shades: Colours) -> dict[str, str]:
    """Letter and class to colour, for the legend; empty while there is no class."""
    own = {f"{letter} {name}": f"rgb{shades[name]}" for name, letter in letters(shades).items()}
    return own | {"others": f"rgb{GREY}"} if own else {}


def shown(answer: Answer[Depth]) -> Shown:
    """Patches in the colours of their classes, and over the layers how many say the final answer."""
    depth, outcome, picture = answer.chosen, answer.outcome, answer.selection.images[0]
    ready = outcome.ready("logit-lens")
    shades = legend(ready.values(), [called(dataset, final_answer(dataset)) for dataset in ready.values()])
    missing = unread(ready)
    over = "Patches that say the final answer, over layers"
    return Shown(
        f"{gallery.title(picture)}: what each patch would be called",
        [Row(picture, [panel(model, depth, shades) for model in outcome.models])],
        legend=named(shades),
        notes=[missing] if missing else (),
        said=reading(ready, depth),
        charts=[Chart(figure(ready, outcome.colours, depth), "shares", over)] if ready else (),
        table={name: dataset[["top_class", "probability"]] for name, dataset in ready.items()},
    )


VIEW = View(
    Page("Logit lens", section="Representation", order=70),
    "What would each patch be called?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls=lambda selection: choices.layer(asking.known(selection)),
    shown=shown,
    asks=lambda _: [Ask("logit-lens", {"ranks": 5})],
)
