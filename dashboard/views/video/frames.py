"""One frame of the clip under the ordinary panels."""

from dataclasses import replace

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.asking import Ask
from dashboard.compute.background import Failed
from dashboard.compute.jobs import Job
from dashboard.controls import progress
from dashboard.draw import panels
from dashboard.draw.panels import Look, Row
from dashboard.state import link
from dashboard.state.selection import Selection
from dashboard.view import draw_rows
from dashboard.views.video import filming
from dashboard.views.video.filming import Order
from probes.core.video.film import Made

POLL = 0.4


def draw(order: Order, made: Made, selection: Selection) -> None:
    """A slider over the frames, and the maps of the one it is at, patch by patch."""
    st.header("One frame, patch by patch", anchor=False)
    place = st.slider("Frame", 1, made.frames, 1, key=f"film-frame-of-{made.frames}") if made.frames > 1 else 1
    found = filming.fetch_frame(order.clip, order.part, place - 1, asking.visitor())
    if isinstance(found, Job):
        st.fragment(_wait, run_every=POLL)(found)
        return
    if not found.startswith("upload:"):
        st.info(found)
        if isinstance(found, Failed):
            st.button("Try again", key="frame-again", on_click=filming.again_frame, args=(asking.visitor(),))
        return
    of_frame = replace(selection, images=(found,))
    outcome, _ = asking.ask([Ask("attention-maps", {"layers": "last"})], of_frame, size="uncropped")
    drawn = []
    for model in outcome.models:
        maps = model.datasets.get("attention-maps")
        if maps is None:
            drawn.append(panels.pending(model))
            continue
        values = maps["attention"].isel(image=0, layer=0).mean("head").values
        drawn.append(panels.of_model(model, "last layer, mean of heads, at its own size", values))
    row = Row(found, drawn)
    draw_rows([row], scale=panels.shared_scale([row], "attention weight", most=True), look=Look(), key="film-frame")
    progress.show(outcome, part="frame")
    st.button("Take this frame to the other pages", on_click=_take, args=(found,), key="take_frame")


def _wait(job: Job) -> None:
    if job.finished.is_set():
        st.rerun()
    st.skeleton(height=240)


def _take(identity: str) -> None:
    st.session_state["uploads"] = [identity, *st.session_state.get("uploads", ())][:12]
    link.put("image", identity)
    link.note("It is among the images of the sidebar: open another page.")
