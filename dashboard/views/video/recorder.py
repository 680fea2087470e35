"""A clip of some seconds from the camera, handed to the uploader beside it."""

from pathlib import Path

import streamlit as st

from dashboard.views.video import clips

ASSETS = Path(__file__).parent

HTML = """<div class="recorder" role="group" aria-label="Record with the camera">
<video muted autoplay playsinline hidden aria-label="What the camera sees"></video>
<div class="buttons"><button type="button" class="main"></button>
<button type="button" class="off" hidden>Turn it off</button><span class="clock" role="timer" hidden></span></div>
<output class="said" aria-live="polite"></output></div>"""

_COMPONENT = st.components.v2.component(
    "recorder",
    html=HTML,
    css=(ASSETS / "recorder.css").read_text(encoding="utf-8"),
    js=(ASSETS / "recorder.js").read_text(encoding="utf-8"),
)


def record(into: str) -> None:
    """Draw a recorder, without sound; it stops by itself at the most seconds that are taken of a clip.

    Args:
        into: key of the uploader that gets what was recorded, as if it had been chosen as a file.
    """
    limits = {"seconds": round(clips.LIMITS.seconds), "megabytes": clips.MOST_MEGABYTES}
    _COMPONENT(key="recorder", data={"into": into, **limits})
