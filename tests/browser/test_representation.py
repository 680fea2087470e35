"""The representation lab as a person uses it: linked selection, a clicked patch, a link that is opened again."""

import re
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import expect

expect.set_options(timeout=20_000)

MODELS = "model=scenes-vit-supervised&model=scenes-vit-dino"
# Streamlit asks below an address such as /cka for its server before it asks at the root, to support being served from
# a folder, and the browser reports both 404s. Nothing but a page of Streamlit's own could tell it otherwise.
PROBES = re.compile(r"/[a-z-]+/_stcore/(health|host-config)$")


def state(page):
    return parse_qs(urlparse(page.url).query)


@pytest.fixture
def opened(visit, page):
    """Open an address; the test fails on whatever the browser's console calls an error."""
    said = []
    page.on("console", lambda m: said.append((m.text, m.location.get("url", ""))) if m.type == "error" else None)
    yield visit
    assert [entry for entry in said if not PROBES.search(entry[1])] == []


def drawn(page, canvas):
    """How many pixels of a canvas are painted at all."""
    return page.locator(canvas).evaluate_all(
        """all => all.map(c => c.getContext("2d").getImageData(0, 0, c.width, c.height).data
        .filter((v, i) => i % 4 === 3 && v > 0).length)"""
    )


def test_an_image_selected_in_one_model_is_marked_in_all_and_its_neighbours_shown(opened, settled):
    page = opened(f"/embeddings?set=scenes-32&{MODELS}")
    expect(page.locator("figure .name")).to_have_count(2)
    squares = drawn(page, "canvas.pixels")
    assert squares == [32 * 32] * 2
    assert drawn(page, "canvas.over") == [0, 0]
    box = page.locator("canvas.over").first.bounding_box()
    u, v = 3.5 / 32, 10.5 / 32

    page.mouse.move(box["x"] + u * box["width"], box["y"] + v * box["height"])
    expect(page.locator(".pair canvas")).to_have_count(2)
    assert all(drawn(page, ".pair canvas"))
    expect(page.locator(".pair")).to_contain_text("Scene")
    assert all(drawn(page, "canvas.over")), "the pointer over one grid is marked in both"

    page.mouse.click(box["x"] + u * box["width"], box["y"] + v * box["height"])
    page.wait_for_url(re.compile("pick="))
    settled(page)
    expect(page.locator(".near .line")).to_have_count(2)
    expect(page.locator(".near .line").first.locator("button")).to_have_count(10)
    page.mouse.move(5, 5)
    assert all(drawn(page, "canvas.over")), "the selection is marked in both"
    chosen = int(state(page)["pick"][0])
    expect(page.locator(".near .line .note").first).to_contain_text(f"nearest to Scene {chosen + 1} ")

    page.get_by_role("radio", name="PCA", exact=True).click()
    page.wait_for_url(re.compile("shown=PCA"))
    settled(page)
    assert all(drawn(page, "canvas.over")), "and in both maps"


def test_a_clicked_patch_draws_lines_in_all_models(opened, settled):
    page = opened(f"/correspondence?image=scene:0&image=scene:2&{MODELS}")
    hits = page.locator(".frame .hit")
    expect(hits.nth(2)).to_be_visible()
    box = hits.nth(1).bounding_box()
    page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.6 * box["height"])
    page.wait_for_url(re.compile("at="))
    settled(page)
    u, v = (float(x) for x in state(page)["at"][0].split(","))
    assert (u, v) == pytest.approx((0.4, 0.6), abs=0.02)
    expect(page.locator(".cell.sel:visible")).to_have_count(2)
    expect(page.get_by_text(re.compile(r"· \d+ best mutual matches"))).to_have_count(2)
    lines = page.get_by_alt_text(re.compile("best mutual matches under"))
    expect(lines).to_have_count(2)
    assert all(lines.evaluate_all("all => all.map(image => image.naturalWidth > 0 || image.innerHTML.length > 0)"))


def test_a_link_to_cka_shows_the_same_again(opened, context, settled):
    page = opened(f"/cka?set=scenes-32&{MODELS}")
    page.get_by_role("radio", name="CLS", exact=True).click()
    page.wait_for_url(re.compile("representation=CLS"))
    settled(page)
    charts = page.locator("[data-testid=stPlotlyChart]")
    expect(charts).to_have_count(3)
    said = page.get_by_text("features are CLS").text_content()
    assert "n = 32 images in 1 minibatch" in said
    other = context.new_page()
    other.goto(page.url)
    settled(other)
    expect(other.locator("[data-testid=stPlotlyChart]")).to_have_count(3)
    assert other.get_by_text("features are CLS").text_content() == said
    assert state(other) == state(page)
    other.close()


@pytest.mark.parametrize("name", ["PNG", "SVG"])
def test_pictures_are_saved(opened, name):
    page = opened(f"/embeddings?set=scenes-32&{MODELS}")
    with page.expect_download(timeout=60_000) as saved:
        page.get_by_role("button", name=name, exact=True).click()
    data = saved.value.path().read_bytes()
    assert saved.value.suggested_filename == f"image-similarity.{name.lower()}"
    assert data.startswith(b"\x89PNG" if name == "PNG" else b"<svg")
    assert len(data) > 20_000
