"""Rollout worked out by hand: CLS and 2×2 patches, two heads, two layers; every matrix as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch

from dashboard.draw import palette
from probes.attention_rollout import discard_lowest, fuse

TOKENS = ("CLS", "p₁", "p₂", "p₃", "p₄")
TOY = np.array(
    [
        [
            [
                [0.10, 0.60, 0.10, 0.10, 0.10],
                [0.05, 0.70, 0.15, 0.10, 0.00],
                [0.05, 0.20, 0.60, 0.00, 0.15],
                [0.05, 0.20, 0.00, 0.60, 0.15],
                [0.10, 0.00, 0.20, 0.20, 0.50],
            ],
            [
                [0.20, 0.20, 0.20, 0.20, 0.20],
                [0.20, 0.10, 0.10, 0.10, 0.50],
                [0.20, 0.10, 0.10, 0.10, 0.50],
                [0.20, 0.10, 0.10, 0.10, 0.50],
                [0.20, 0.10, 0.10, 0.10, 0.50],
            ],
        ],
        [
            [
                [0.30, 0.10, 0.40, 0.10, 0.10],
                [0.10, 0.50, 0.20, 0.20, 0.00],
                [0.10, 0.30, 0.50, 0.00, 0.10],
                [0.10, 0.30, 0.00, 0.50, 0.10],
                [0.10, 0.00, 0.20, 0.20, 0.50],
            ],
            [
                [0.80, 0.05, 0.05, 0.05, 0.05],
                [0.60, 0.10, 0.10, 0.10, 0.10],
                [0.60, 0.10, 0.10, 0.10, 0.10],
                [0.60, 0.10, 0.10, 0.10, 0.10],
                [0.60, 0.10, 0.10, 0.10, 0.10],
            ],
        ],
    ]
)
"""Attention (layer, head, query, key). In layer 1 head 2 looks at the last patch, in layer 2 at CLS."""

STYLE = """<style>
.steps {display:flex; flex-wrap:wrap; gap:14px 18px; align-items:center; margin:2px 0 14px}
.steps figure {margin:0} .steps figcaption {font-size:.85rem; opacity:.75; margin-bottom:3px; max-width:14rem}
.steps table {border-collapse:collapse; font:.85rem/1.3 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.steps td {padding:3px 6px; text-align:right; min-width:2.6em} .steps th {padding:2px 6px; font-weight:400; opacity:.6}
.steps tr.on td {outline:2px solid #D55E00; outline-offset:-1px} .steps .op {font-size:1.3rem; opacity:.6}
</style>"""


@dataclass(frozen=True)
class Matrix:
    """One matrix of the example.

    Attributes:
        title: what it is.
        values: rows are queries, columns keys.
        operator: what stands between it and the matrix before.
        marked: row to frame, None for none.
        tokens: whether rows and columns are tokens.
    """

    title: str
    values: np.ndarray
    operator: str = ""
    marked: int | None = None
    tokens: bool = True


def normalise(fused: np.ndarray, convention: str) -> np.ndarray:
    """A layer's factor: rows of F + I divided by their sums; vit-explain divides column j by the sum of row j."""
    added = fused + np.eye(len(fused))
    if convention == "paper":
        return added / added.sum(1, keepdims=True)
    half = added / 2
    return half / half.sum(1)[None, :]


def layers(fusion: str, discard: float, convention: str) -> list[list[Matrix]]:
    """The steps of each layer, first layer first."""
    rows = []
    how = "rows ÷ their sums" if convention == "paper" else "÷ 2, column j ÷ sum of row j"
    for index, heads in enumerate(TOY, start=1):
        weights = torch.from_numpy(heads)[None]
        fused = fuse(weights, fusion)
        row = [
            Matrix("head 1", heads[0]),
            Matrix("head 2", heads[1], fusion),
            Matrix(f"F{index}: {fusion} of the heads", fused[0].numpy(), "→"),
        ]
        if discard:
            fused = discard_lowest(fused, discard)
            row.append(Matrix(f"lowest {discard:.0%} set to 0", fused[0].numpy(), "→"))
        added = fused[0].numpy() + np.eye(5)
        row.append(Matrix("+ I (the residual stream)", added, "→"))
        row.append(Matrix(f"Â{index}: {how}", normalise(fused[0].numpy(), convention), "→"))
        rows.append(row)
    return rows


def product(fusion: str, discard: float, convention: str) -> list[Matrix]:
    """The two factors, their product, and its CLS row as a 2×2 map."""
    first, second = (row[-1].values for row in layers(fusion, discard, convention))
    joint = second @ first
    picture = joint[0, 1:].reshape(2, 2)
    title = "CLS row without CLS, as 2×2 patches"
    if convention == "vit-explain":
        picture = picture / picture.max() if picture.max() > 0 else picture * np.nan
        title += " ÷ its maximum"
    return [
        Matrix("Â2", second),
        Matrix("Â1", first, "×"),
        Matrix("R = Â2 Â1", joint, "=", marked=0),
        Matrix(title, picture, "→", tokens=False),
    ]


def html(matrices: Sequence[Matrix]) -> str:
    """A row of matrices as tables, cells coloured from 0 to 1."""
    parts = []
    for matrix in matrices:
        if matrix.operator:
            parts.append(f"<span class='op'>{escape(matrix.operator)}</span>")
        parts.append(f"<figure><figcaption>{escape(matrix.title)}</figcaption>{_table(matrix)}</figure>")
    return f"<div class='steps'>{''.join(parts)}</div>"


def _table(matrix: Matrix) -> str:
    names = TOKENS if matrix.tokens else ()
    rows = ["<tr><td></td>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"] if names else []
    colours = palette.colours(matrix.values, 0.0, 1.0)
    for i, values in enumerate(matrix.values):
        cells = "".join(_cell(value, colours[i, j]) for j, value in enumerate(values))
        head = f"<th>{names[i]}</th>" if names else ""
        rows.append(f"<tr{' class=on' if i == matrix.marked else ''}>{head}{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _cell(value: float, colour: np.ndarray) -> str:
    red, green, blue = (int(c) for c in colour)
    ink = "#111" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "#fff"
    text = "–" if np.isnan(value) else f"{value:.2f}"
    return f"<td style='background:rgb({red},{green},{blue});color:{ink}'>{text}</td>"
