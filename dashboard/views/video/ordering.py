"""The controls of the page: which clip, what is shown of it, and how it is drawn."""

import streamlit as st

from dashboard.controls import choices, map_options
from dashboard.controls.glossary import meaning
from dashboard.draw import frame
from dashboard.state import link, models
from dashboard.state.selection import Selection
from dashboard.views.video import clips, recorder
from dashboard.views.video.filming import Order
from probes.core.video.clip import Part
from probes.core.video.maps import Show
from probes.core.video.screen import Style

KINDS = {"attention": "attention", "rollout": "rollout", "mask": "mass mask", "pca": "patch colours"}
DRAWN = {"overlay": "overlay", "map": "map", "cutout": "cut-out"}
HEADS = {"mean": "mean", "best": "best head"}
SCALES = {"clip": "whole clip", "frame": "each frame"}
SECONDS, STRIDE = 6, 2


def controls(selection: Selection) -> tuple[Order, bool]:
    """Draw the controls; gives the order, and whether it was given right now."""
    with frame.controls():
        clip = _clip()
        kind = choices.one_of_many("Show", KINDS, "film_shows", width=140)
        head = choices.one_of("Head", HEADS, "film_head", help=_HEAD) if kind in ("attention", "mask") else "mean"
        drawn = choices.one_of("Draw", {k: v for k, v in DRAWN.items() if kind != "pca" or k != "cutout"}, "film_drawn")
        with st.popover("More"):
            part, side, style, tau = _more(drawn)
        pressed = st.button("Make the film", type="primary", key="make_film")
    colours = models.colours(selection.models, selection.colours)
    shown = Show(kind, head, "last", tau)
    return Order(clip, selection.models, tuple(colours[m] for m in selection.models), shown, style, part, side), pressed


_HEAD = meaning(
    "head", "Best: whose mass mask fits the object best on 16 procedural scenes, chosen before the clip is seen."
)


def _clip() -> str:
    """Draw the choice of the clip, and the place to upload one."""
    own: dict[str, str] = {
        identity: clips.title(identity)
        for identity in st.session_state.get("clips", ())
        if clips.uploads().get(identity) is not None
    }
    offered = own | {f"scene:{number}": f"Sample {number + 1}" for number in range(clips.SAMPLES)}
    if st.session_state.get("clip_choice") not in offered:
        st.session_state["clip_choice"] = next(iter(offered))
    chosen: str = st.selectbox(
        "Clip", list(offered), key="clip_choice", format_func=lambda key: offered.get(key, key), width=150
    )
    with st.popover("Add a clip", help="Upload a file, or record with the camera"):
        key = f"clip-upload-{st.session_state.setdefault('clip_generation', 0)}"
        st.file_uploader(
            "A video file",
            type=clips.TYPES,
            max_upload_size=clips.MOST_MEGABYTES,
            key=key,
            on_change=_take,
            args=(key,),
        )
        st.markdown(":small[Or the camera, without sound]")
        recorder.record(into=key)
        st.caption("It stays on this server, in memory, and makes room for newer ones.")
    return chosen


def _take(key: str) -> None:
    file = st.session_state.get(key)
    if file is None:
        return
    identity = clips.uploads().add(file.getvalue(), file.name)
    st.session_state["clip_generation"] += 1
    st.session_state["clips"] = [identity, *(x for x in st.session_state.get("clips", ()) if x != identity)][:6]
    st.session_state["clip_choice"] = identity
    start, length = st.session_state.get("film_start", 0.0), st.session_state.get("film_seconds", SECONDS)
    taken = f"It takes up to {length} s, from second {start:g} on; More changes that."
    link.note(f"{file.name[:60]} is chosen: press Make the film. {taken}")


def _more(drawn: str) -> tuple[Part, int, Style, float]:
    """The part of the clip, the size that models see, the scale, smoothing, and the mask's share."""
    start = st.number_input("From, in seconds", 0.0, 36_000.0, 0.0, 1.0, key="film_start", bind="query-params")
    most = int(clips.LIMITS.seconds)
    length = st.slider("Seconds", 1, most, SECONDS, key="film_seconds", bind="query-params")
    stride = st.slider("One frame in", 1, 10, STRIDE, key="film_stride", bind="query-params")
    side = st.select_slider(
        "Short side of what models see, px", [112, 160, 224, 336, 448], 224, key="film_side", bind="query-params"
    )
    scale = choices.one_of("Scale", SCALES, "film_scale", help=meaning("shared scale"))
    smooth = st.slider(
        "Smoothing over frames",
        0.0,
        0.9,
        0.0,
        0.1,
        key="film_smooth",
        bind="query-params",
        help="The share of the map before in every map. The numbers under the film are of maps without it.",
    )
    tau = map_options.mass_share("Mass inside the mask")
    return Part(start, start + length, stride), side, Style(drawn, scale, smooth), tau
