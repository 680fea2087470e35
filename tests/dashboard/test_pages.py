"""Every page opens with small random models, says what it is, and meets nonsense with a sentence."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import navigation
from dashboard.draw import panels
from dashboard.images import gallery
from dashboard.state import models
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")
TINY = ["timm:test_vit@random:0", "timm:test_vit2@random:0"]
ADDRESSES = [address for address, _, _ in navigation.pages()]


def app(**query):
    at = AppTest.from_file(HOME, default_timeout=60)
    for name, value in {"model": TINY, "image": ["photo:coffee"], **query}.items():
        at.query_params[name] = value
    return at


def linked(at, name):
    values = at.query_params[name]
    return [values] if isinstance(values, str) else values


def clean(at):
    assert not at.exception
    assert [error.value for error in at.error] == []
    assert len(at.title) == 1
    assert at.title[0].value.endswith("?")


@pytest.fixture(scope="module")
def compare():
    """The comparison, opened once for the tests that only look."""
    from dashboard.compute import results

    at = app(layer=["2/6"], head=["1"]).run()
    for job in results.store().jobs.live():
        job.finished.wait(60)
    return at.run()


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_page_opens(address, settle):
    page = next(page for name, page, _ in navigation.pages() if name == address)
    at = app().run()
    if not page.default:
        turn_to(at, address)
    clean(settle(at))


def test_the_addresses_and_places_are_distinct():
    places = [(page.section, page.title) for _, page, _ in navigation.pages()]
    assert len(set(places)) == len(places)
    assert sum(page.default for _, page, _ in navigation.pages()) == 1


def test_the_comparison_shows_the_links_layer_and_head(compare):
    clean(compare)
    slider = next(s for s in compare.slider if s.label == "Layer")
    assert (slider.value, slider.max) == (2, 8)  # the deeper model has 8 layers
    assert compare.selectbox(key="head_choice").value == "1"
    said = " ".join(m.value for m in compare.markdown)
    assert "n = 1 image" in said
    assert "Head 1" in said


def test_the_comparison_draws_its_statistics_in_the_models_colours(compare):
    import json

    chart = compare.get("plotly_chart")[0]
    figure = json.loads(chart.proto.spec)
    lines = [trace for trace in figure["data"] if trace["mode"] == "lines+markers"]
    assert [line["line"]["color"] for line in lines] == list(models.colours(TINY).values())
    assert figure["layout"]["yaxis"]["title"]["text"] == "entropy of attention (nats)"


def test_the_first_visit_compares_four_trained_objectives_on_a_photo_and_a_scene(settle):
    at = settle(AppTest.from_file(HOME, default_timeout=60))
    clean(at)
    assert sum(button.label.startswith("Remove ") for button in at.button) == 4
    assert not {"model", "image"} & set(at.query_params), "what a page shows by itself is no choice"
    said = " ".join(m.value for m in at.markdown)
    assert "On the true object, of what the CLS query gives to patches: " in said
    assert "learned from procedural scenes alone" in said
    assert "](?model=dino-s16&model=deit-s16&image=photo%3Acoffee): " in said
    assert "n = 2 images" in said


def test_at_most_four_images_have_rows_and_the_page_says_so(settle):
    at = settle(app(image=[f"scene:{i}" for i in range(6)]))
    clean(at)
    assert "The first 4 of the 6 chosen images are shown." in [caption.value for caption in at.caption]
    assert "n = 4 images" in " ".join(m.value for m in at.markdown)
    assert linked(at, "image") == [f"scene:{i}" for i in range(6)]


def test_what_is_chosen_is_in_the_link(settle):
    at = settle(app())
    slider = next(s for s in at.slider if s.label == "Layer")
    settle(slider.set_value(3))
    at.selectbox(key="head_choice").set_value("max").run()
    assert linked(at, "layer") == ["3/8"]
    assert linked(at, "head") == ["max"]
    assert linked(at, "model") == TINY
    assert linked(at, "image") == ["photo:coffee"]


def test_a_point_of_the_link_is_asked_in_every_model(settle):
    at = settle(app(query=["patch"], at=["0.5,0.5"]))
    clean(at)
    assert at.segmented_control(key="query_choice").value == "patch"
    assert "the clicked patch" in " ".join(m.value for m in at.markdown)


@pytest.mark.parametrize("address", ["heads", "correspondence"])
def test_a_point_that_no_model_sees_is_said_on_every_panel(address, settle, monkeypatch):
    drawn = []
    monkeypatch.setattr(panels, "patch_panels", lambda picture, shown, **_: drawn.append(shown))
    at = settle(turn_to(app(query=["patch"], at=["0.01,0.5"]).run(), address))
    clean(at)
    assert [panel.message for panel in drawn[-1]] == ["The point lies outside this model's crop."] * 2


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"model": ["no-such-model", *TINY]}, "No model is called"),
        ({"model": ["timm:../../etc/passwd"]}, "is not a timm model name"),
        ({"image": ["photo:nobody"]}, "There is no image called"),
        ({"image": ["upload:0123456789abcdef"]}, "no longer held"),
        ({"layer": ["99/12"]}, "The link's layer"),
        ({"head": ["77"]}, "There is no head"),
        ({"head": ["<script>"]}, "There is no head"),
        ({"query": ["patch"], "at": ["9,9"]}, "was reset to CLS"),
        ({"tau": ["banana"]}, "tau=banana"),
    ],
)
def test_nonsense_in_the_link_is_reset_with_a_note(query, told, settle):
    settle(app())  # how many heads there are is known once the models were loaded
    at = app(**query)
    at.run()
    told_then = [toast.value for toast in at.toast]
    assert any(told in text for text in told_then), told_then
    assert not any(word in text for text in told_then for word in ("python", "command line", "--"))
    clean(settle(at))


def test_six_models_and_another_image_survive_a_change_of_page(settle):
    models = [f"timm:test_vit@random:{seed}" for seed in range(6)]
    at = settle(app(model=models, image=["photo:china"]))
    clean(at)
    settle(turn_to(at, "zoo"))
    assert linked(at, "model") == models
    assert linked(at, "image") == ["photo:china"]


def test_an_upload_that_is_no_image_leaves_the_choice_and_says_why(settle):
    at = settle(app())
    at.file_uploader[0].upload("broken.png", b"\x89PNG nothing follows", "image/png").run()
    assert any("broken.png" in toast.value for toast in at.toast)
    assert linked(at, "image") == ["photo:coffee"]
    clean(at)


def test_an_upload_is_shown_and_named_by_its_content(settle):
    import io

    buffer = io.BytesIO()
    gallery.load("photo:rocket").resize((64, 48)).save(buffer, "PNG")
    at = settle(app())
    at.file_uploader[0].upload("mine.png", buffer.getvalue(), "image/png")
    settle(at)
    assert linked(at, "image")[0].startswith("upload:")
    clean(at)


def test_a_model_that_cannot_be_had_says_so_on_its_panel_and_the_others_stay(settle, monkeypatch):
    from dashboard.compute import work
    from model_zoo.reference import ModelError

    lease = work.Zoo.lease

    def refuse(self, reference, **options):
        if reference.source.endswith("@random:9"):
            raise ModelError("The hub is out of reach: use a shipped model.")
        return lease(self, reference, **options)

    monkeypatch.setattr(work.Zoo, "lease", refuse)
    at = settle(app(model=[TINY[0], "timm:test_vit@random:9"]))
    clean(at)
    assert at.button(key="try_again").label == "Try again"
    assert "test_vit, untrained (seed 0)" in " ".join(m.value for m in at.markdown)


def test_a_page_that_fails_says_so_without_a_traceback(monkeypatch, settle, caplog):
    from dashboard.controls import sidebar

    def broken(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(sidebar, "_images", broken)
    at = app().run()
    assert not at.exception
    assert "a fault of its own (RuntimeError)" in at.error[0].value
    assert "secret detail" not in at.error[0].value
    assert "secret detail" in caplog.text
