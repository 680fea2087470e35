"""Every shipped model measured again, beside what its card says."""

from collections.abc import Iterable, Iterator
from typing import Any

from model_zoo.catalog import CATALOG
from model_zoo.loading import load
from probes.core.evaluation.scenes import evaluate_scenes

WIDTHS = (28, 16, 10, 10)


def shipped() -> list[str]:
    """Keys of the models that have a card, in the order of the catalog."""
    return [key for key, entry in CATALOG.items() if entry.card()]


def measured(keys: Iterable[str], scenes: int | None, device: str) -> Iterator[dict[str, Any]]:
    """Measure one model after the other: its key, the card's figures and those of now, as ``Measured`` names them.

    Args:
        keys: of shipped models.
        scenes: held-out scenes; the card's number where it is None.
        device: ``auto``, ``cpu`` or ``cuda``.
    """
    for key in keys:
        card = CATALOG[key].card()["figures"]
        now = evaluate_scenes(
            load(key, device=device),
            scenes or card["n"],
            bank_size=card["bank"],
            kind=card["features"],
            finetune="finetuned" in card,
        )
        yield {"model": key, "card": card, "measured": vars(now)}


def table(found: dict[str, Any]) -> str:
    """A line for each figure of one model: model, figure, card, measured."""
    card, now = found["card"], found["measured"]
    return "\n".join(line(found["model"], name, _said(value), _said(now[name])) for name, value in card.items())


def line(*cells: str) -> str:
    """Cells in columns, numbers at the right."""
    left = [cell.ljust(width) for cell, width in zip(cells[:2], WIDTHS[:2], strict=True)]
    return " ".join([*left, *(cell.rjust(width) for cell, width in zip(cells[2:], WIDTHS[2:], strict=True))])


def _said(value: float | int | str | None) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "–" if value is None else str(value)
