"""What the figures say to the three questions: the paper's answer, that of these models, what neither shows. Pure."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from dashboard.draw.figures import lesion_effects
from dashboard.draw.figures.courses import NAMES, Counts, Course
from dashboard.draw.figures.layer_squares import Squares
from dashboard.draw.palette import number
from dashboard.views.attention_and_convolution import heads

PAPER = {
    "help": "attention makes the loss flatter; what helps is that its weights follow the data, not that it sees far; "
    "the price is a loss that is not convex.",
    "convolution": "no: attention blurs feature maps and evens them out, convolutions sharpen and spread them, so each "
    "does what the other cannot.",
    "together": "a network of stages works as several smaller ones in a row. Attention is worth most at the end of a "
    "stage, convolutions before it.",
}
NOT_SHOWN = {
    "help": "one plane of millions of directions; parts are left out one at a time and nothing is trained again, so a "
    "part that others can stand in for seems to do nothing. Small models of ten shapes are no ImageNet.",
    "convolution": "what the answer needs. Blurring can help or harm, and levels on grids of different sizes do "
    "not compare.",
    "together": "that this order is the best one: one hybrid was trained, not every order of its blocks, and "
    "another seed would differ. High CKA is not the same function.",
}
NEAR = 0.4
"""Length of the weights around them in which the loss is averaged."""
NAME = {**lesion_effects.PARTS, "block": "convolution"}


def kind(lesions: xr.Dataset) -> str:
    """Transformer, convolutional or hybrid, by the parts that its blocks have."""
    parts = set(map(str, lesions["part"].values)) if "part" in lesions.coords else set()
    return "hybrid" if {"attention", "block"} <= parts else "transformer" if "attention" in parts else "convolutional"


def near(plane: xr.Dataset) -> float:
    """Mean loss at the points of the plane within `NEAR` lengths of the weights; NaN where none is finite."""
    alpha, beta = np.meshgrid(plane["alpha"].values, plane["beta"].values)
    loss = plane["loss"].values[np.hypot(alpha, beta) <= NEAR + 1e-9]
    return float(np.nanmean(loss)) if np.isfinite(loss).any() else float("nan")


def effect_of(lesions: Mapping[str, xr.Dataset]) -> str:
    """Right answers where all models can be asked for them, else the turn of the embedding."""
    told = all("part_top1" in one for one in lesions.values())
    return "top1" if lesions and told else "cosine"


def helps(lesions: Mapping[str, xr.Dataset], planes: Mapping[str, xr.Dataset], marks: Mapping[str, np.ndarray]) -> str:
    """What leaving out costs on average, how flat the loss is, and whether far heads matter more.

    Args:
        lesions: title to what the probe gives.
        planes: title to a plane of the cross-entropy.
        marks: title to what `heads.points` gives.
    """
    said, effect = [], effect_of(lesions)
    costs = "; ".join(f"**{name}** {_costs(one, effect)}" for name, one in lesions.items())
    if costs:
        what = "Right answers change, in percentage points," if effect == "top1" else "The embedding turns (1 − cosine)"
        said.append(f"{what} when one part of one block is left out, mean over blocks: {costs}.")
    if planes:
        flat = "; ".join(
            f"**{name}** {number(one.attrs['centre'])} → {number(near(one))}" for name, one in planes.items()
        )
        said.append(f"Loss at the weights → its mean within {NEAR} lengths of them, nats: {flat}.")
    ranks = {name: heads.correlation(one) for name, one in marks.items()}
    far = "; ".join(
        f"**{name}** {number(rank, 2)} ({len(marks[name])} heads)" for name, rank in ranks.items() if np.isfinite(rank)
    )
    if far:
        what = "Rank correlation of how far a head looks with what changes without it"
        said.append(f"{what}: {far}; above 0, far heads matter more.")
    return _told("help", said)


def convolution(frequencies: Mapping[str, Course], variances: Mapping[str, Course]) -> str:
    """In how many spans detail and variance fall and rise, by kind of span."""
    said = []
    for what, courses in (("The highest frequency", frequencies), ("The variance", variances)):
        spans = [f"across {_span(span)} {counted}" for span in NAME if (counted := _counted(courses, span))]
        if spans:
            said.append(f"{what}: {'; '.join(spans)}.")
    return _told("convolution", said)


def together(lesions: Mapping[str, xr.Dataset], frequencies: Mapping[str, Course], squares: Squares) -> str:
    """What the hybrids' parts are worth, block by block, what each does to detail, and whom their layers resemble."""
    said, effect = [], effect_of(lesions)
    right = [f"**{name}** {100 * one.attrs['top1']:.1f}%" for name, one in lesions.items() if "top1" in one.attrs]
    if right:
        said.append(f"Right answers of the whole models: {', '.join(right)}.")
    hybrids = [name for name, one in lesions.items() if kind(one) == "hybrid"]
    for name in hybrids:
        said.append(
            f"**{name}**, {lesion_effects.EFFECTS[effect].units}, block by block: {_in_order(lesions[name], effect)}."
        )
        if name in frequencies:
            said.append(f"**{name}**, change of Δ log amplitude: {_changes(frequencies[name])}.")
    for (across, up), dataset in squares.items():
        if across != up and (across in hybrids or up in hybrids) and np.isfinite(dataset["cka"].values).any():
            values = dataset.transpose("layer_a", "layer_b")["cka"].values
            most, last = number(float(np.nanmax(values))), number(float(values[-1, -1]))
            said.append(f"CKA of **{across}** and **{up}**: at most {most}, of their last layers {last}.")
    if lesions and not hybrids:
        said.append("None of these models has both convolutions and attention in its blocks: choose a hybrid.")
    return _told("together", said)


def _told(question: str, said: list[str]) -> str:
    if not said:
        return ""
    lines = [f"**Park & Kim 2022**: {PAPER[question]}", *said, f"*Not shown*: {NOT_SHOWN[question]}"]
    return "\n".join(f"- {line}" for line in lines)


def _costs(dataset: xr.Dataset, effect: str) -> str:
    values = lesion_effects.drawn(dataset, "part", effect)
    if values is None:
        return "–"
    names = map(str, dataset["part"].values)
    return ", ".join(f"{NAME[part]} {number(float(np.nanmean(values[:, place])))}" for place, part in enumerate(names))


def _in_order(dataset: xr.Dataset, effect: str) -> str:
    values = lesion_effects.drawn(dataset, "part", effect)
    assert values is not None
    parts = list(map(str, dataset["part"].values))
    return ", ".join(
        f"{NAME[parts[place]]} {layer + 1}: {number(float(values[layer, place]))}"
        for layer, place in np.argwhere(np.isfinite(values))
    )


def _changes(course: Course) -> str:
    change = np.diff(course.values)
    return ", ".join(
        f"{NAME.get(span, span)} {block + 1}: {number(float(step))}"
        for span, block, step, same in zip(
            course.spans[1:], course.blocks[1:], change, course.same_grid[1:], strict=True
        )
        if same and np.isfinite(step)
    )


def _span(span: str) -> str:
    return {"block": "convolutions"}.get(span, NAMES[span])


def _counted(courses: Mapping[str, Course], span: str) -> str:
    counts = sum((one.across(span) for one in courses.values()), Counts(0, 0, 0))
    left = f" ({counts.left_out} more change the grid)" if counts.left_out else ""
    return f"it falls in {counts.falls} and rises in {counts.rises} of {counts.of} blocks{left}" if counts.of else ""
