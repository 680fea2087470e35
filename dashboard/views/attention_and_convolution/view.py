"""What attention does that convolution does not: three questions, answered by a CNN, a hybrid and a ViT."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from dashboard.compute.asking import Ask
from dashboard.controls import choices
from dashboard.controls.glossary import meaning
from dashboard.draw import chart_files, export, frame, model_columns, square_columns
from dashboard.draw.figures import courses, layer_squares, lesion_effects, loss_planes, over_depth
from dashboard.draw.figures.courses import Course
from dashboard.draw.frame import Help
from dashboard.draw.palette import number
from dashboard.state.selection import Selection
from dashboard.view import Answer, Chart, Images, Page, Shown, View
from dashboard.views.attention_and_convolution import answers, heads, numbers
from model_zoo.catalog import PRESETS

QUESTION = "What does attention do that convolution does not?"
QUESTIONS = {
    "help": "Which parts help?",
    "convolution": "Is it a convolution?",
    "together": "How do they combine?",
}
TRIO = PRESETS["CNN, hybrid, ViT"]
WHOSE = {"trio": "CNN, hybrid, ViT", "chosen": "as chosen"}
ASKS = {
    "help": [Ask("loss-landscape", {"steps": 11, "seed": 0}), Ask("lesion"), Ask("attention-distance")],
    "convolution": [Ask("fourier"), Ask("feature-variance")],
    "together": [
        Ask("cka", {"representation": "card", "points": "blocks", "minibatch": 32}, pairs=True),
        Ask("lesion"),
        Ask("fourier"),
    ],
}
DETAIL = "Δ log amplitude at the highest frequency"
VARIANCE = "variance over the image (squared units of the model)"
HOW = """
Three questions that people ask of vision transformers, on three small networks trained alike on the same scenes: one of
convolutions, one of attention, and a hybrid with convolutions first and attention between and last.

- **Which parts help?** Above, the loss around the weights (the cross): the wider the dark valley, the flatter. Below,
  what is lost when one part is left out, and whether heads that look far matter more than those that look near.
- **Is it a convolution?** How much fine detail, and how much variance, is left after every attention, MLP and
  convolution. A line that falls blurs, one that rises sharpens.
- **How do they combine?** Which layers of two networks represent images alike (yellow), and what the parts of the
  hybrid are worth from first to last.

*As chosen* asks the same of the models in the sidebar. Each figure has a page of its own with more controls.
"""
FORMULA = r"""
The definitions are those of the pages *Loss landscape*, *Lesions*, *Attention distance*, *Blur and sharpen* and *Layer
similarity*. Said here only:

$$\bar L_{0.4} = \operatorname{mean}_{\alpha^2+\beta^2 \le 0.4^2} L(\alpha, \beta), \qquad
\rho = \operatorname{corr}\big(\operatorname{rank} d_{lh},\ \operatorname{rank}(1 - \cos_{-lh})\big)$$

the mean loss near the weights, and Spearman's rank correlation over all heads of how far a head looks with what changes
without it.

Source: Park & Kim 2022, [arXiv:2202.06709](https://arxiv.org/abs/2202.06709).
"""
NOT_SHOWN = "\n".join(f"- **{QUESTIONS[name]}** Not shown: {text}" for name, text in answers.NOT_SHOWN.items())


@dataclass(frozen=True)
class Chosen:
    """What the controls say: a key of ``QUESTIONS``, and one of ``WHOSE``."""

    question: str
    whose: str = "trio"


@dataclass(frozen=True)
class Found:
    """What there is to answer with, each by the title of the model."""

    lesions: Mapping[str, xr.Dataset]
    planes: Mapping[str, xr.Dataset]
    heads: Mapping[str, np.ndarray]
    detail: Mapping[str, Course]
    variance: Mapping[str, Course]
    squares: layer_squares.Squares

    @classmethod
    def of(cls, answer: Answer[Chosen]) -> "Found":
        """What of it is ready."""
        ready = answer.outcome.ready
        detail, variance = (
            {name: courses.course(one) for name, one in ready(probe).items()}
            for probe in ("fourier", "feature-variance")
        )
        squares = {pair: one for pair, one in layer_squares.squares_of(answer.outcome).items() if pair[0] != pair[1]}
        planes = {
            name: one for name, one in ready("loss-landscape").items() if one.attrs["objective"] == "cross-entropy"
        }
        lesions = ready("lesion")
        marks = {
            name: heads.points(lesions[name], one)
            for name, one in ready("attention-distance").items()
            if name in lesions
        }
        return cls(lesions, planes, marks, detail, variance, squares)


def controls(_: Selection) -> Chosen:
    """Draw the question and whose answers are shown."""
    question = choices.one_of(
        "Question", QUESTIONS, "ask", default="convolution", help=meaning("lesion", meaning("spatial frequency"))
    )
    return Chosen(question, choices.one_of("Models", WHOSE, "whose"))


def shown(answer: Answer[Chosen]) -> Shown:
    """The charts of a question and the three lines of its answer."""
    found, question, colours = Found.of(answer), answer.chosen.question, answer.outcome.colours
    charts: list[Chart] = []
    match question:
        case "help":
            said = answers.helps(found.lesions, found.planes, found.heads)
            charts = _of_lesions(found, colours)
            if any(len(one) for one in found.heads.values()):
                alt = "How far each head looks, and what changes without it"
                charts.append(Chart(heads.figure(found.heads, colours), "far-heads", alt, "Do far heads matter more?"))
        case "convolution":
            said = answers.convolution(found.detail, found.variance)
            charts = _over_depth(found.detail, colours, DETAIL, "Fine detail")
            charts += _over_depth(found.variance, colours, VARIANCE, "Variance", log=True)
        case _:
            said = answers.together(found.lesions, found.detail, found.squares)
            charts = _of_lesions(found, colours) + _over_depth(found.detail, colours, DETAIL, "Fine detail")
    if not said:
        return Shown(QUESTION)
    counts = sorted({int(one.attrs["n"]) for ask in ASKS[question] for one in answer.outcome.ready(ask.key).values()})
    said += f"\n- n = {counts[0]} image{'s' * (counts[0] > 1)}." if len(counts) == 1 else ""
    return Shown(
        f"{QUESTION} {QUESTIONS[question]}",
        said=said,
        charts=charts,
        table=lambda: _table(question, found),
        document=lambda: _document(answer, found, charts, said),
    )


def _of_lesions(found: Found, colours: Mapping[str, str]) -> list[Chart]:
    if not found.lesions:
        return []
    figure = lesion_effects.curves(found.lesions, answers.effect_of(found.lesions), colours)
    return [Chart(figure, "left-out", "What leaving out one part of a block changes", "What is lost without one part?")]


def _over_depth(
    found: Mapping[str, Course], colours: Mapping[str, str], axis: str, title: str, *, log: bool = False
) -> list[Chart]:
    if not found:
        return []
    return [Chart(over_depth.figure(found, colours, axis, log=log), title, f"{axis}, over depth", title)]


def above(answer: Answer[Chosen], _: Shown) -> None:
    """The planes around the weights, or which layers are alike, beside each other on one scale."""
    found, colours = Found.of(answer), answer.outcome.colours
    if answer.chosen.question == "help" and found.planes:
        scale = loss_planes.scales(found.planes, log=True)["cross-entropy"]
        notes = {name: f"{number(one.attrs['centre'])} nats at the weights" for name, one in found.planes.items()}
        for index, (name, place) in enumerate(model_columns.columns(notes, colours, most=3).items()):
            with place:
                figure = loss_planes.contours(found.planes[name], scale, log=True)
                frame.chart(figure, key=f"plane-{index}", alt=f"Loss of {name} on the plane, from above")
        model_columns.bar(number(scale.low), f"{number(scale.high)} {scale.units}")
    if answer.chosen.question == "together":
        square_columns.draw(found.squares, colours)


def _table(question: str, found: Found) -> pd.DataFrame:
    tables = {"lesion": lesion_effects.table(found.lesions)} if found.lesions else {}
    match question:
        case "help":
            tables |= {"head": numbers.of_heads(found.heads), "loss": numbers.of_datasets(found.planes, "loss")}
        case "convolution":
            tables = {"detail": numbers.of_courses(found.detail), "variance": numbers.of_courses(found.variance)}
        case _:
            squares = {layer_squares.title(pair): one for pair, one in found.squares.items()}
            tables |= {"detail": numbers.of_courses(found.detail)}
            tables |= {"CKA": numbers.of_datasets(squares, "cka", "cka_sd")}
    return numbers.together(tables)


def _document(answer: Answer[Chosen], found: Found, charts: list[Chart], said: str) -> str:
    """What is on the page as one picture, the sentence under the first part."""
    asked, told = QUESTIONS[answer.chosen.question], export.plain(said)
    parts = []
    if answer.chosen.question == "help" and found.planes:
        parts.append(loss_planes.document(found.planes, answer.outcome.colours, asked, log=True))
    if answer.chosen.question == "together" and found.squares:
        parts.append(layer_squares.document(found.squares, answer.outcome.colours, ""))
    last = len(charts) - 1
    parts += [
        chart_files.svg(chart.figure, f"{asked} {chart.title}", told if place == last else "")
        for place, chart in enumerate(charts)
    ]
    return export.stacked(parts) if len(parts) > 1 else parts[0]


VIEW = View(
    Page("Attention or convolution", section="Experiments", order=5),
    QUESTION,
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: ASKS[chosen.question],
    models=lambda chosen, selection: TRIO if chosen.whose == "trio" else selection.models,
    images=Images(several=True, default=("scene:0",), set_default="scenes-32", set_most=250),
    above=above,
    subtitle="Loss landscape, lesions, spatial frequencies, variance and CKA of a CNN, a hybrid and a transformer",
)
