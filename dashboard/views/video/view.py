"""Attention on video: the original and what each model shows of it, side by side in one film."""

from collections.abc import Callable
from html import escape
from typing import Any

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.background import Failed, Stopped
from dashboard.compute.jobs import Job
from dashboard.controls import progress
from dashboard.controls.sidebar import sidebar
from dashboard.draw import chart_files, export, frame
from dashboard.draw.frame import Help
from dashboard.state.selection import Selection
from dashboard.view import Page
from dashboard.views.video import clips, figures, filming, frames, ordering
from dashboard.views.video.filming import Film, Order
from dashboard.views.video.texts import FORMULA, HOW, NOT_SHOWN

PAGE = Page("Attention on video", section="Attention", order=80)
POLL = 0.6
LEAST_HEIGHT = 220
"""Pixels of a film; where the window is too narrow for it, the film is moved sideways."""


def page() -> None:
    """Draw the page."""
    selection = sidebar(images=False)
    frame.header("Does attention stay on what moves?")
    order, pressed = ordering.controls(selection)
    if pressed:
        _drop_others(order)
    if pressed or "film_wanted" not in st.session_state:  # the first film comes by itself
        st.session_state["film_wanted"] = order
    wanted: Order = st.session_state["film_wanted"]
    if wanted != order:
        st.caption("This film is of other choices than those above: **Make the film** to follow them.")
    found = filming.fetch(wanted, asking.visitor())
    film = found if isinstance(found, Film) else None
    if isinstance(found, Job):
        st.fragment(_watch, run_every=POLL)(found)
    elif isinstance(found, str):
        (st.info if isinstance(found, Stopped) else st.error)(str(found))
        if isinstance(found, Failed):
            st.caption("**Make the film** tries again.")
    if film is not None:
        _show(film, wanted, selection)
    _footer(film, wanted)


def _drop_others(order: Order) -> None:
    """A visitor waits for one film at a time, and may ask again for what they stopped or what is not whole."""
    for job in filming.films().jobs.live(asking.visitor()):
        filming.films().jobs.leave(job, asking.visitor())
    filming.again(order, asking.visitor())


def _watch(job: Job) -> None:
    """How far the film is, a frame of it, and a way to stop."""
    if job.finished.is_set():
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        place = filming.films().jobs.place(job)
        st.progress(job.fraction or 0.0, f"place {place} in the queue" if place else progress.describe(job, 1))
        st.button("Stop", key="stop-film", type="tertiary", on_click=_stop, args=(job,))
    if (seen := filming.preview(job)) is not None:
        st.image(seen, caption="The film so far", alt="A frame of the film under way", width="stretch")
    else:
        st.skeleton(height=320)


def _stop(job: Job) -> None:
    filming.films().jobs.leave(job, asking.visitor())


def _show(film: Film, order: Order, selection: Selection) -> None:
    made = film.made
    names = ", ".join(made.models)
    alt = f"{clips.title(order.clip)} and what is shown of {names}"
    least = round(LEAST_HEIGHT * made.size[0] / made.size[1])
    with st.container(key="film"):
        st.html(f"<style>.st-key-film {{ overflow-x: auto }} .st-key-film video {{ min-width: {least}px }}</style>")
        st.video(film.mp4, loop=True, autoplay=True, muted=True, alt=alt)
    for label, why in film.missing.items():
        said = f"**{label}** is not in the film. {asking.sentence(why)} *Make the film* tries again."
        st.info(said, icon=":material/info:")
    colours = dict(zip(order.labels, order.colours, strict=True))
    _numbers(film, colours)
    seconds = f"{made.duration:.1f} s, {made.frames} frames."
    st.caption(" ".join([seconds, made.region, *made.notes]))
    _files(film, f"video-{clips.title(order.clip)}")
    for label, numbers in made.models.items():
        if reason := numbers.get("undefined"):
            st.info(f"**{label}**: {asking.sentence(f'Not defined here: {reason}')}", icon=":material/info:")
    st.markdown(figures.said(made))
    charts = [(name, chart) for name in figures.KINDS if (chart := figures.over_time(made, name, colours)) is not None]
    charts = [(name, chart) for name, chart in charts if name != "stability_on_object"]
    for place, (name, chart) in zip(st.columns(len(charts) or 1, gap="large"), charts, strict=False):
        with place:
            frame.chart(chart, key=f"video-{name}", alt=f"{figures.KINDS[name]} of every model over the frames")
    frames.draw(order, made, selection)


def _numbers(film: Film, colours: dict[str, str]) -> None:
    """A number a model, beside each other under the film."""
    shown = {label: n for label, n in film.made.models.items() if n.get("stability") is not None}
    for place, (label, numbers) in zip(st.columns(max(len(shown), 1)), shown.items(), strict=False):
        more = []
        if numbers["stability_on_object"] is not None:
            more.append(f"{numbers['stability_on_object']:.2f} on the object")
        if numbers["iou"] is not None:
            more.append(f"IoU {numbers['iou']:.2f}")
        with place:
            st.html(
                f'<div style="border-left:4px solid {colours[label]};padding-left:0.6rem;line-height:1.45">'
                f"<b>{escape(label)}</b><br><span style='font-size:1.35rem'>{numbers['stability']:.2f}</span> "
                f"stable<br><span style='opacity:0.8;font-size:0.85rem'>{escape(' · '.join(more))}</span></div>"
            )


def _files(film: Film, name: str) -> None:
    """The film as files."""

    def animated(suffix: str) -> Callable[[], bytes]:
        return lambda: filming.animated(film.mp4, film.made.duration, suffix)

    saved: dict[str, Any] = {"on_click": "ignore"}
    with st.container(horizontal=True, key="films"):
        st.download_button("MP4", film.mp4, f"{name}.mp4", "video/mp4", key="download-MP4", **saved)
        for kind in ("GIF", "WebP"):
            suffix = f".{kind.lower()}"
            saved |= {"key": f"download-{kind}", "help": "For slides: at most 100 frames"}
            st.download_button(kind, animated(suffix), name + suffix, f"image/{kind.lower()}", **saved)


def _footer(film: Film | None, order: Order) -> None:
    name = f"video-{clips.title(order.clip)}"
    if film is None:
        frame.footer(Help(HOW, FORMULA, NOT_SHOWN), name=name)
        return
    made = film.made
    colours = dict(zip(order.labels, order.colours, strict=True))
    frame.footer(
        Help(HOW, FORMULA, NOT_SHOWN),
        name=name,
        svg=(lambda: _svg(film, colours)) if figures.over_time(made, "stability", colours) is not None else None,
        csv=lambda: frame.csv(figures.table(made)),
        models=[m for m, label in zip(order.models, order.labels, strict=True) if label in made.models],
    )


def _svg(film: Film, colours: dict[str, str]) -> str:
    drawn = [(k, figures.over_time(film.made, k, colours)) for k in figures.KINDS]
    parts = [chart_files.svg(frame.dressed(c), figures.KINDS[k], "") for k, c in drawn if c is not None]
    return export.stacked(parts)
