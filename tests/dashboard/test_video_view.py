"""The page of films: its numbers as data, what it holds of uploads, and clips that cannot be taken."""

from dataclasses import replace

import plotly.graph_objects as go
import pytest

from dashboard.compute import work
from dashboard.compute.jobs import Job
from dashboard.views.video import clips, figures, filming
from dashboard.views.video.filming import Film, Order
from model_zoo.reference import ModelError
from probes.core.video.clip import Part
from probes.core.video.film import Made
from probes.core.video.maps import Show
from probes.core.video.screen import Style
from tests.probes.clips import clip, pictures

TINY = ("timm:test_vit@random:0",)
MADE = Made(
    frames=3,
    duration=0.3,
    size=(64, 48),
    region="The whole frame.",
    scale=0.2,
    notes=(),
    models={
        "A": {
            "shown": "layer 12, mean of heads",
            "stability": 0.5,
            "stability_on_object": 0.9,
            "iou": 0.3,
            "each": {"stability": [0.4, 0.6], "stability_on_object": [0.9, 0.9], "iou": [0.1, 0.3, 0.5]},
        },
        "B": {"undefined": "it has no attention"},
    },
)
COLOURS = {"A": "#0072B2", "B": "#E69F00"}


def test_lines_over_frames_say_what_they_are() -> None:
    figure = figures.over_time(MADE, "stability", COLOURS)
    assert isinstance(figure, go.Figure)
    (line,) = figure.data
    assert (line.name, line.line.color) == ("A", COLOURS["A"])
    assert list(line.x) == [2, 3], "the first frame has none before it"
    assert list(figures.over_time(MADE, "iou", COLOURS).data[0].x) == [1, 2, 3]
    assert figure.layout.xaxis.title.text == "frame of the film"
    assert figure.layout.yaxis.title.text == "correlation with the frame before"


def test_the_table_has_a_row_for_every_frame_of_every_model_that_is_shown() -> None:
    table = figures.table(MADE)
    assert table["frame"].tolist() == [1, 2, 3]
    assert table["iou"].tolist() == [0.1, 0.3, 0.5]
    assert table["stability"].isna().tolist() == [True, False, False]


def test_the_sentence_explains_just_the_numbers_that_there_are() -> None:
    assert "n = 2 pairs" in figures.said(MADE)
    assert "**IoU**" in figures.said(MADE)
    alone = dict(MADE.models["A"], iou=None, stability_on_object=None)
    assert "object" not in figures.said(replace(MADE, models={"A": alone}))
    assert figures.said(replace(MADE, models={"B": MADE.models["B"]})) == ""


def test_uploads_are_bounded_in_bytes() -> None:
    held = clips.Uploads(most_bytes=30_000)
    names = [held.add(bytes([number]) * 10_000, f"{number}.mp4") for number in range(4)]
    assert [held.get(name) is not None for name in names] == [False, False, True, True]


def finished(order: Order) -> Film | str:
    found = filming.fetch(order, "somebody")
    if isinstance(found, Job):
        found.finished.wait(300)
        found = filming.fetch(order, "somebody")
    assert not isinstance(found, Job)
    return found


def order(data: bytes, name: str = "my film.mp4") -> Order:
    identity = clips.uploads().add(data, name)
    return Order(identity, TINY[:1], ("#0072B2",), Show(), Style(), Part(), 48)


def test_a_clip_that_is_none_fails_with_its_sentence() -> None:
    assert finished(order(b"no film at all", "notes.mp4")) == (
        "notes.mp4 is not a video that can be read here: choose a file such as MP4, MOV, WebM, MKV or AVI."
    )


def test_a_film_is_kept_by_the_content_of_its_clip() -> None:
    data = clip(pictures(4))
    film = finished(order(data, "one.mp4"))
    assert isinstance(film, Film)
    assert film.mp4[4:8] == b"ftyp"
    assert film.made.frames == 4
    assert filming.fetch(order(data, "two.mp4"), "another") is film
    assert filming.animated(film.mp4, film.made.duration, ".gif")[:3] == b"GIF"


def test_a_film_is_made_of_the_models_that_load_and_says_which_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    lease, reached = work.Zoo.lease, []

    def refuse(self, reference, **options):
        if reference.source.endswith("@random:9") and not reached:
            raise ModelError("The hub is out of reach: use a shipped model.")
        return lease(self, reference, **options)

    monkeypatch.setattr(work.Zoo, "lease", refuse)
    one = order(clip(pictures(3)))
    both = replace(one, models=(*TINY, "timm:test_vit@random:9"), colours=("#0072B2", "#E69F00"))
    film = finished(both)
    assert isinstance(film, Film)
    here, gone = both.labels
    assert list(film.made.models) == [here]
    assert film.missing == {gone: "The hub is out of reach: use a shipped model."}
    assert finished(replace(both, models=both.models[1:], colours=("#E69F00",))) == film.missing[gone]
    reached.append(True)
    assert finished(both) is film, "nobody asked again"
    filming.again(both, "somebody")
    assert list(finished(both).made.models) == [here, gone]


@pytest.mark.parametrize("identity", ["clip:0123456789abcdef", "../../etc/passwd", "scene:99"])
def test_a_clip_that_is_not_held_says_so(identity: str) -> None:
    said = finished(Order(identity, TINY[:1], ("#0072B2",), Show(), Style(), Part(), 48))
    assert said == clips.GONE


def test_one_frame_becomes_a_picture_for_all_pages() -> None:
    from dashboard.images import gallery

    identity = clips.uploads().add(clip(pictures(4)), "my film.mp4")
    found = filming.fetch_frame(identity, Part(), 2, "somebody")
    if isinstance(found, Job):
        found.finished.wait(60)
        found = filming.fetch_frame(identity, Part(), 2, "somebody")
    assert isinstance(found, str)
    assert gallery.size(found) == (64, 48)
    assert gallery.title(found) == "my film at 0.20 s"
