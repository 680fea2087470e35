"""What a link may say: nothing in it makes a page fail, and old links keep working."""

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import navigation
from dashboard.state import link
from tests.dashboard.turning import turn_to

ROOT = Path(__file__).parents[2]
HOME = str(ROOT / "dashboard" / "Home.py")
MODEL = ["timm:test_vit@random:0"]
ADDRESSES = [address for address, _, _ in navigation.pages()]
BOUND = sorted(
    {
        key
        for file in (ROOT / "dashboard").rglob("*.py")
        for pattern in (r'key="([a-z_]+)",\s*bind="query-params"', r'one_of(?:_many)?\([^()]*?"([a-z_]+)"[,)]')
        for key in re.findall(pattern, file.read_text())
    }
)


def opened(address, **query):
    at = AppTest.from_file(HOME, default_timeout=60)
    for name, value in {"model": MODEL, "image": ["photo:coffee"], **query}.items():
        at.query_params[name] = value
    default = next(page.default for name, page, _ in navigation.pages() if name == address)
    if not default:
        turn_to(at, address)
    return at.run()


def clean(at):
    assert not at.exception
    assert [error.value for error in at.error] == []
    assert len(at.title) == 1


def test_no_widget_is_bound_to_a_name_that_the_link_uses_for_what_is_chosen():
    assert len(BOUND) > 20
    assert set(BOUND).isdisjoint(link.NAMES)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_name_without_letters_and_numbers_without_end_do_not_fail(address):
    at = opened(address, **{"": ["x"]}, **{name: ["inf"] for name in BOUND})
    clean(at)
    assert "" not in at.query_params
    assert any("was not possible" in toast.value for toast in at.toast)


@pytest.mark.parametrize("value", ["-inf", "nan", "1e999", "1e30", "-1", "9" * 5000, "\x00", "٣"])
@pytest.mark.parametrize("name", ["seed", "sheet", "tau", "lines"])
def test_numbers_beyond_reason_are_left_out_or_clamped(name, value):
    page = {"seed": "sanity", "sheet": "scenes", "tau": "compare", "lines": "correspondence"}[name]
    clean(opened(page, **{name: [value]}))


@pytest.mark.parametrize("linked", ["chosen", "scenes-100", "zip-000000000000", "conflict", "<script>"])
def test_a_set_of_images_in_the_link_leaves_the_page_of_scenes_alone(linked):
    at = opened("scenes", set=[linked])
    clean(at)
    assert at.segmented_control(key="surfaces").value == ("conflict" if linked == "conflict" else "own")


def test_from_image_similarity_with_a_chosen_set_to_scenes_and_back(settle):
    at = settle(opened("embeddings", set=["chosen"]))
    clean(at)
    turn_to(at, "scenes")
    clean(at.run())
    turn_to(at, "embeddings")
    clean(at.run())
    assert at.selectbox(key="set_choice").value == "chosen"


@pytest.mark.parametrize("part", ["begin", "publish"])
def test_a_fault_of_the_link_is_told_like_a_fault_of_a_page(part, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(link, part, broken)
    at = opened("zoo")
    assert not at.exception
    assert "a fault of its own (RuntimeError)" in at.error[0].value
    assert "secret detail" not in at.error[0].value
    assert "secret detail" in caplog.text


def image(at):
    """The image in the address."""
    value = at.query_params["image"]
    return value if isinstance(value, str) else ",".join(value)


def test_another_address_right_after_a_choice_is_left_alone_until_the_browser_was_asked_again(monkeypatch):
    at = opened("compare")
    monkeypatch.setattr(link, "TOLD", 3600.0)
    at.session_state["chosen"] = {**at.session_state["chosen"], "image": ("photo:astronaut",)}
    at.run()
    assert image(at) == "photo:astronaut"
    at.query_params["image"] = ["photo:coffee"]  # the browser is behind, or it went back
    at.run()
    assert image(at) == "photo:coffee"
    assert at.session_state["chosen"]["image"] == ("photo:astronaut",)
    monkeypatch.setattr(link, "TOLD", 0.0)  # asked again later, it says the same
    at.run()
    assert image(at) == "photo:coffee"
    assert at.session_state["chosen"]["image"] == ("photo:coffee",)


def test_what_is_chosen_while_the_browser_is_behind_is_published(monkeypatch):
    at = opened("compare")
    monkeypatch.setattr(link, "TOLD", 3600.0)
    at.session_state["chosen"] = {**at.session_state["chosen"], "image": ("photo:astronaut",)}
    at.run()
    at.query_params["image"] = ["photo:coffee"]
    at.session_state["chosen"] = {**at.session_state["chosen"], "image": ("photo:chelsea",)}
    at.run()
    assert image(at) == "photo:chelsea"
