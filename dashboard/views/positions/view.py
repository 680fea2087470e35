"""Position embeddings: which places of the image a model tells apart before it has seen one."""

from dataclasses import dataclass, replace

from dashboard.compute.asking import Ask, ModelResult
from dashboard.controls import choices
from dashboard.draw import frame, panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Look, Panel, Row
from dashboard.draw.position_tiles import at_point, scale_of
from dashboard.images import gallery
from dashboard.runs.charts import Stored
from dashboard.state import link
from dashboard.state.selection import Point, Selection, read_point
from dashboard.view import Answer, Page, Shown, View
from dashboard.views.positions import mosaics

METRICS = {"cosine": "cosine", "dot": "dot product"}
HOW = """
The mosaic has **one tile for each position** of the patch grid, at that position; the tile shows how similar the
position's embedding is to every other. Orange: alike; blue: opposed; pale: unrelated. White lines part the tiles.

- A bright spot at the tile's own place: the model tells places apart, near ones less than far ones.
- Orange all over (MAE): all positions have a large part in common; places are told apart by what little differs.
- Rows and columns lighting up: it encodes row and column separately.
- Below, one tile at a time: click a place. The other models show the same place of the image.

Cosine has one scale, −1 to 1, for all models. Dot products and biases have units of their own, so each has its scale.
"""
FORMULA = r"""
$$s_{ij} = \frac{E_i \cdot E_j}{\lVert E_i\rVert\,\lVert E_j\rVert} \quad\text{or}\quad s_{ij} = E_i \cdot E_j$$

with $E$ the learned table without the rows of prefix tokens, interpolated to the grid in use. Rotary models: $E_i$ are
the cosines and sines of position $i$. Models with relative position biases (BEiT, Swin): $s_{ij}$ is what is added to
the attention score of query $i$ and key $j$, mean over heads and layers; in windowed models inside one window.

Source: Dosovitskiy et al. 2021, Fig. 7, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929).
"""
NOT_SHOWN = """
- What the network **makes** of the table: later layers may ignore or sharpen it.
- Position that enters otherwise: through zero padding in a convolutional stem, or rotation beside a table.
- Dot products and biases of two models cannot be compared by their size.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: the key of ``METRICS``, and the place that was clicked."""

    metric: str
    point: Point


def panel(model: ModelResult, picture: str, point: Point) -> Panel:
    """One model's similarity to the chosen place."""
    dataset = model.datasets.get("position-similarity")
    if dataset is None:
        return panels.pending(model)
    rows, columns = dataset.sizes["y"], dataset.sizes["x"]
    note = f"row {int(point[1] * rows) + 1}, column {int(point[0] * columns) + 1}"
    if model.spec and (rows, columns) != model.spec.grid:
        note += f" of one {rows} × {columns} window"
    values = at_point(dataset, point)["similarity"].values
    return Panel(model.title, model.colour, note, gallery.whole(picture), values, scale=scale_of(dataset))


def draw_mosaics(answer: Answer[Chosen], _: Shown) -> None:
    """All places against all others, and why a model has none."""
    frame.states(answer.outcome, "position-similarity")
    if ready := answer.outcome.ready("position-similarity"):
        mosaics.draw(ready, answer.outcome.colours)


def controls(_: Selection) -> Chosen:
    """Draw the kind of similarity."""
    point = read_point(link.first("at")) or (0.3, 0.3)
    return Chosen(choices.one_of("Similarity", METRICS, "metric"), point)


def shown(answer: Answer[Chosen]) -> Shown:
    """One place against all others, and what the mosaics say."""
    outcome, point = answer.outcome, answer.chosen.point
    picture = "scene:0" if gallery.has_scenes() else next(iter(gallery.offered()))
    drawn = [panel(model, picture, point) for model in outcome.models]
    scales = {panel.scale for panel in drawn if panel.drawable}
    if len(scales) == 1:
        drawn = [replace(panel, scale=None) for panel in drawn]
    ready = outcome.ready("position-similarity")
    said = mosaics.reading(ready) if ready else ""
    return Shown(
        "Similarity of positions",
        [Row(picture, drawn, title="One place against all others", point=point, clickable=True)],
        scale=scales.pop() if len(scales) == 1 else None,
        look=Look(flat=True, original=False),
        said=said,
        table={name: at_point(dataset, point) for name, dataset in ready.items()},
        document=(lambda: mosaics.document(ready, outcome.colours, said)) if ready else None,
    )


VIEW = View(
    Page("Position embeddings", section="Representation", order=40),
    "Which places does a model tell apart?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=lambda chosen: [Ask("position-similarity", {"metric": chosen.metric})],
    images=None,
    above=draw_mosaics,
    stored={
        "position-similarity": Stored(
            "similarity of positions", lambda d, _, __: mosaics.of_run(d), instead=("similarity",)
        )
    },
)
