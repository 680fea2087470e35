"""Every page of the representation lab opens with one random model of every family and says what it cannot show."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.compute import work
from dashboard.state.models import title
from tests.dashboard.test_pages import HOME, clean
from tests.dashboard.turning import turn_to

SMALL = {
    "timm:vit_small_patch16_dinov3@random:0": (64, 64),  # five prefix tokens, rotary
    "timm:swin_tiny_patch4_window7_224@random:0": (64, 64),  # windows and stages
    "timm:vit_base_patch16_siglip_224@random:0": (64, 64),  # no prefix token, a pooling query
    "timm:vit_small_patch14_reg4_dinov2@random:0": (56, 56),  # registers
    "timm:deit_tiny_distilled_patch16_224@random:0": (64, 64),  # two prefix tokens, two classifiers
    "timm:resnet18@random:0": (64, 64),  # no tokens at all
}
FAMILIES = list(SMALL)
NAMES = [title(name) for name in FAMILIES]
IMAGES = ["scene:0", "scene:1", "scene:2", "scene:3"]


@pytest.fixture(autouse=True)
def nothing_strange(caplog):
    """Whatever goes wrong for no reason that a page can tell is logged."""
    yield
    assert [record.message for record in caplog.records if record.exc_info] == []


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The models at small image sizes."""
    lease = work.Zoo.lease

    def resized(self, reference, *, image_size=None, **options):
        return lease(self, reference, image_size=image_size or SMALL.get(reference.source), **options)

    monkeypatch.setattr(work.Zoo, "lease", resized)


def opened(settle, address, **query):
    at = AppTest.from_file(HOME, default_timeout=120)
    for name, value in {"model": FAMILIES, "image": IMAGES, "set": ["chosen"], **query}.items():
        at.query_params[name] = value
    at.run()
    turn_to(at, address)
    at = settle(at)
    clean(at)
    return at


def said(at):
    return " ".join(text.value for text in (*at.markdown, *at.info, *at.caption))


def test_patch_colours_has_a_result_for_every_family(settle):
    text = said(opened(settle, "patch-colours"))
    assert all(f"**{name}** " in text for name in NAMES)
    assert "n = 4 images together" in text


def test_embeddings_opens_with_every_family(settle):
    opened(settle, "embeddings")


def test_filters_and_positions_have_a_result_or_a_reason_for_every_family(settle):
    text = said(opened(settle, "filters"))
    assert all(f"**{name}**: " in text for name in NAMES)
    text = said(opened(settle, "positions"))
    assert all(f"**{name}**: " in text for name in NAMES)
    assert "this model is convolutional: it has no position embedding" in text
    assert "inside one window" in text


def test_correspondence_asks_every_family_at_the_same_point(settle):
    at = opened(settle, "correspondence", at=["0.4,0.4"], image=IMAGES[:2])
    text = said(at)
    assert all(f"**{name}**: " in text for name in NAMES)
    at.segmented_control(key="facet").set_value("key")
    settle(at)
    clean(at)
    assert f"**{NAMES[0]}**: " in said(at)
    assert f"**{NAMES[-1]}**: " not in said(at)  # a CNN has no keys; its panel says so


def test_the_lens_reads_those_with_a_classifier_and_names_the_layers_without_a_point(settle):
    text = said(opened(settle, "logit-lens"))
    read = [name for name in NAMES if f"**{name}**: " in text]
    assert read == [NAMES[1], NAMES[4], NAMES[5]]
    assert f"layers 1 to 10 of {NAMES[1]}, layers 1 to 6 of {NAMES[5]}" in text


@pytest.mark.parametrize(("across", "up"), [(0, 5), (1, 3)])
def test_cka_between_any_two_families_of_six(across, up, settle):
    at = opened(settle, "cka", across=[NAMES[across]], up=[NAMES[up]], representation=["mean of patches"])
    assert (at.selectbox(key="across").value, at.selectbox(key="up").value) == (FAMILIES[across], FAMILIES[up])
    assert at.segmented_control(key="representation").value == "mean"
    assert not any("was reset" in toast.value for toast in at.toast)
    figures = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    pairs = [(f["layout"]["xaxis"]["title"]["text"], f["layout"]["yaxis"]["title"]["text"]) for f in figures]
    a, b = (f"{NAMES[i]}, layer" for i in (across, up))
    assert pairs == [(a, a), (a, b), (b, b)]
    assert f"**{NAMES[across]}** and **{NAMES[up]}** are most alike" in said(at)
