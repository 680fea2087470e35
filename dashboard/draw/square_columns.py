"""Squares of how alike the layers of models are, side by side on the page."""

from collections.abc import Mapping

from dashboard.draw import frame, model_columns
from dashboard.draw.figures import layer_squares
from dashboard.draw.figures.layer_squares import Squares


def draw(squares: Squares, colours: Mapping[str, str]) -> None:
    """A square beside the other, headed by the colours of its two models, and the one scale below.

    Args:
        squares: those to be drawn; where there are none nothing is.
        colours: title of a model to colour.
    """
    if not squares:
        return
    notes = {
        layer_squares.title(pair): f"{'within' if pair[0] == pair[1] else 'between'}, CKA of layers · "
        f"{layer_squares.features(one)}"
        for pair, one in squares.items()
    }
    halves = {
        layer_squares.title((a, b)): f"linear-gradient(to right, {colours[a]} 50%, {colours[b]} 50%)"
        for a, b in squares
    }
    places = model_columns.columns(notes, halves, most=3)
    for index, ((a, b), one) in enumerate(squares.items()):
        with places[layer_squares.title((a, b))]:
            alt = f"CKA of every layer of {a} with every layer of {b}"
            frame.chart(layer_squares.figure(a, b, one), key=f"cka-{index}", alt=alt)
    model_columns.bar("0", "1 CKA; one scale for all squares")
