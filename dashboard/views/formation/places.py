"""Which positions are alike at every moment of a training."""

from collections.abc import Sequence

import streamlit as st

from dashboard.draw import frame, position_tiles
from dashboard.draw.panels import Look, Scale
from dashboard.state import link
from dashboard.state.selection import read_point
from dashboard.view import draw_rows
from dashboard.views.formation import along_training
from dashboard.views.formation.along_training import Course


def draw(along: Sequence[Course], picture: str, images: int) -> None:
    """Draw one position's tile at every moment, and the tiles of all positions at the chosen one.

    Args:
        along: the trainings.
        picture: id of the image that the position is clicked in.
        images: seen until the chosen moment.
    """
    along = [one for one in along if one.has_positions]
    if not along:
        return
    st.header("Which places are alike", anchor=False)
    point = read_point(link.first("at")) or (0.3, 0.3)
    look = Look(flat=True, original=False, columns=max(len(one.moments) for one in along))
    rows = [one.positions(picture, point, images) for one in along]
    draw_rows(rows, scale=Scale(-1.0, 1.0, "cosine similarity", signed=True), look=look, key="places")
    st.markdown(along_training.positions_in_words(along))
    places = st.columns(len(along), gap="medium", wrap=True)
    for index, (one, column) in enumerate(zip(along, places, strict=True)):
        moment = one.at(images)
        dataset = one.ready("position-similarity").get(moment)
        if dataset is not None:
            with column:
                st.markdown(f"**{one.title}** · {one.name(moment)}, a tile for each position")
                alt = f"Similarity of every two positions of {one.title} after {moment.images:,} images"
                drawn = position_tiles.figure(dataset).update_layout(height=440)
                frame.chart(drawn, key=f"tiles-{index}", alt=alt)
