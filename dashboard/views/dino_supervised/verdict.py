"""What the scores say in words: the numbers, what each of them rewards, and whether the images decide. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from dashboard.draw.palette import number
from dashboard.views.dino_supervised.object_scores import Scores, mean_and_error, without_looking


def answer(scores: Mapping[str, Scores], tau: float) -> str:
    """Whose best head picks out the object better, by how much, whether these images decide it, and what none beats."""
    if not scores:
        return ""
    n = len(next(iter(scores.values())).iou)
    share, which = f"{number(100 * tau)}\u202f%", "this image" if n == 1 else f"these {n} images"
    baselines = without_looking(scores)
    parts = []
    for name, one in scores.items():
        mean, error = mean_and_error(one.iou[:, one.best])
        parts.append(f"**{name}** {_with(mean, error)} (head {one.best + 1} of {one.iou.shape[1]})")
    parts += [f"{name.lower()} {number(float(one.iou.mean()), 2)}" for name, one in baselines.items()]
    lines = [
        f"On {which}, IoU of each best head with the object: {', '.join(parts)}. IoU rewards the outline: the patches "
        f"that hold {share} of the map must be the object, all of it and nothing else."
    ]
    inside = [f"**{name}** {_share(one.mass_inside[:, one.best])}" for name, one in scores.items()]
    inside += [f"{name.lower()} {_share(one.mass_inside)}" for name, one in baselines.items()]
    lines.append(
        f"Share of that head's attention on the object: {', '.join(inside)}. Mass rewards attention on any part of the "
        "object, so a few right patches are enough, and the order of models may be another."
    )
    if baselines:
        least = number(float(next(iter(baselines.values())).iou.mean()), 2)
        area = _share(next(iter(scores.values())).area)
        lines.append(
            f"A map that is spread out needs no training for an IoU near {least}: its mask takes {share} of all "
            f"patches, and so {share} of the object, which covers {area} of what is seen."
        )
    trained = [name for name in scores if not scores[name].untrained]
    order = sorted(trained, key=lambda name: -scores[name].iou[:, scores[name].best].mean())
    lines += [_verdict(scores, order[0], order[1])] if len(order) > 1 else []
    lines += _against_chance(scores, trained, [name for name in scores if scores[name].untrained])
    lines.append(
        f"n = {n}; errors are standard errors over images; a best head is chosen on the very images it is scored on."
    )
    return "  \n".join(lines)


def _verdict(scores: Mapping[str, Scores], first: str, second: str) -> str:
    apart = scores[first].ahead_of(scores[second])
    if not len(apart):
        return f"**{first}** and **{second}** see the objects of different images: they are not compared."
    mean, error = mean_and_error(apart)
    if not np.isfinite(error):
        return f"**{first}** is ahead of **{second}** by {number(mean)}; one image decides nothing."
    ahead = f"{_with(mean, error)}, paired over images"
    if mean < 2 * error:
        return f"**{first}** is ahead of **{second}** by {ahead}: too little to tell them apart."
    return f"**{first}** picks out the object better (by IoU) than **{second}**, by {ahead}."


def _against_chance(scores: Mapping[str, Scores], trained: Sequence[str], untrained: Sequence[str]) -> list[str]:
    """Which trained models do not beat the best head of random weights, and which not the centre prior."""
    networks = {name: _untrained(scores, name, untrained) for name in trained if untrained}
    centres = {name: scores[name].baselines["centre"] for name in trained if "centre" in scores[name].baselines}
    lines = []
    for what, chance in (("the best head of random weights", networks), ("the centre prior", centres)):
        apart = {name: scores[name].ahead_of(base) for name, base in chance.items()}
        ahead = {name: mean_and_error(values) for name, values in apart.items() if len(values) > 1}
        missed = [f"**{name}**" for name, (mean, error) in ahead.items() if not mean > 2 * error]
        if missed:
            lines.append(f"By IoU not above {what} by more than two standard errors: {', '.join(missed)}.")
        elif ahead:
            lines.append(f"By IoU all trained models are above {what} by more than two standard errors.")
    return lines


def _untrained(scores: Mapping[str, Scores], name: str, untrained: Sequence[str]) -> Scores:
    """The random network of a model's own architecture, where there is one."""
    own = [other for other in untrained if scores[other].network == scores[name].network]
    return scores[(own or untrained)[0]]


def _share(values: np.ndarray) -> str:
    return f"{100 * float(values.mean()):.0f}\u202f%"


def _with(mean: float, error: float) -> str:
    return f"{number(mean, 2)} ± {number(error, 1)}" if np.isfinite(error) else number(mean, 2)
