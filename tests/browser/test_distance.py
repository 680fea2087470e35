"""Attention distance as a person uses it: the full range, the file of the chart, a picture instead of a set."""

import io
import re
from urllib.parse import parse_qs, urlparse
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from dashboard.draw import export

expect.set_options(timeout=20_000)

MODELS = "model=scenes-vit-supervised&model=scenes-vit-dino"
TEXT = "{http://www.w3.org/2000/svg}text"
CHART = "[data-testid=stVegaLiteChart]"
# What Vega says of the page's chart: the numbers along both axes, and the legend.
SPOKEN = """root => ({
  marks: [...root.querySelectorAll('[aria-roledescription=point]')].length,
  texts: [...root.querySelectorAll('text')].map((text) => text.textContent),
})"""


def state(page):
    return parse_qs(urlparse(page.url).query)


def texts_of(svg):
    """Every line that is written in a file, in no order of the page."""
    return [line for text in ElementTree.fromstring(svg).iter(TEXT) for line in text.itertext()]


def lowest(texts):
    """The first number of the axis that stands up; layers are whole numbers below 7."""
    found = [float(text) for text in texts if re.fullmatch(r"[0-9.]+", text) and text not in "123456"]
    return min(found, default=float("nan"))


@pytest.fixture
def opened(visit):
    """The page with two models on scenes."""
    return visit(f"/distance?set=scenes-32&{MODELS}")


def saved(page, kind):
    with page.expect_download(timeout=60_000) as download:
        page.get_by_role("button", name=kind, exact=True).click()
    assert download.value.suggested_filename == f"attention-distance.{kind.lower()}"
    return download.value.path().read_bytes()


def test_the_file_is_the_chart_of_the_page(opened, settled):
    page = opened
    expect(page.locator(CHART)).to_be_visible()
    for full in (False, True):
        if full:
            page.get_by_role("radio", name="full range", exact=True).click()
            page.wait_for_url(re.compile("axis="))  # the browser writes it before the server has drawn anything
            for _ in range(300):
                if lowest(page.locator(CHART).evaluate(SPOKEN)["texts"]) == 0:
                    break
                page.wait_for_timeout(100)
            settled(page)
        svg = saved(page, "SVG").decode()
        texts = texts_of(svg)
        assert page.locator("h1").text_content() == "How far does each head look?"
        assert "How far does each head look?" in texts
        assert "Mean attention distance." in texts
        assert svg.count('aria-roledescription="point"') == 2 * 6 * 4
        verdict = page.get_by_text(re.compile("all layer means lie")).text_content()
        assert " ".join(verdict.split()) in " ".join(texts)
        drawn = page.locator(CHART).evaluate(SPOKEN)
        assert set(drawn["texts"]) <= set(texts), "names, ticks and the dashed line of the page are all in the file"
        assert drawn["marks"] == 2 * 6 * 4
        assert (lowest(drawn["texts"]) == 0) == full
        picture, drawn_anew = (Image.open(io.BytesIO(file)) for file in (saved(page, "PNG"), export.png(svg)))
        assert np.array_equal(np.asarray(picture), np.asarray(drawn_anew))


def test_a_clicked_head_shows_its_map(opened, settled):
    page = opened
    before = page.get_by_text(re.compile("where the marked patch looks")).text_content()
    point = page.locator(f"{CHART} [aria-roledescription=point]").nth(3)
    box = point.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_text(re.compile("where the marked patch looks"))).not_to_have_text(before)
    settled(page)
    expect(page.get_by_text(re.compile("Head 4 of layer 1 of ViT, supervised"))).to_be_visible()


def test_a_picked_picture_takes_the_place_of_the_set(opened, settled):
    page = opened
    chosen = page.locator("[aria-pressed=true]")
    expect(page.get_by_text("Shown: 32 scenes")).to_be_visible()
    expect(chosen).to_have_count(0)
    page.locator(".strip button").nth(2).click()
    page.wait_for_url(re.compile("set=chosen"))
    settled(page)
    assert state(page)["image"] == ["photo:coffee"]
    expect(chosen).to_have_count(1)
    expect(page.get_by_text(re.compile("n = 1 image"))).to_be_visible()
    expect(page.get_by_text(re.compile("over Coffee alone"))).to_be_visible()


def test_on_a_phone_the_legend_names_every_model(visit, page):
    page.set_viewport_size({"width": 390, "height": 900})
    visit("/distance?set=scenes-32")
    expect(page.locator(f"{CHART} text", has_text="ViT, MAE")).to_be_visible()
    ends = page.locator(f"{CHART} text").evaluate_all("all => all.map((text) => text.getBoundingClientRect().right)")
    assert max(ends) <= 390
