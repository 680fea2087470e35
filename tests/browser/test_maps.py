"""Maps as they are pointed at and projected: the pointer in every row, the colours alone, writing that can be read."""

import re
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import expect

expect.set_options(timeout=20_000)

MODELS = "model=timm:test_vit@random:0&model=timm:test_vit2@random:0"
TWO_ROWS = f"/?{MODELS}&image=photo:coffee&image=scene:0"
LEAST = 14

PLACES = """() => { const boxes = []; const walk = (root) => root.querySelectorAll("*").forEach((e) => {
  if (e.shadowRoot) walk(e.shadowRoot);
  if (e.matches(".cell, .pin, .tick, .sr")) return;
  const b = e.getBoundingClientRect(); boxes.push([e.tagName, b.x, b.y, b.width, b.height].join(" ")); });
  walk(document.querySelector("[data-testid=stMain]")); return boxes; }"""
"""Where everything on the page is, but the marks of the pointer themselves."""

WRITING = """() => { const found = []; const walk = (root) => root.querySelectorAll("*").forEach((e) => {
  if (e.shadowRoot) walk(e.shadowRoot);
  const own = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join(" ").trim();
  const box = e.getBoundingClientRect();
  if (!own || ["STYLE", "SCRIPT", "TITLE"].includes(e.tagName) || box.width < 2 || box.height < 2) return;
  if (!e.checkVisibility({ visibilityProperty: true, opacityProperty: true })) return;
  found.push([own.slice(0, 40), parseFloat(getComputedStyle(e).fontSize)]); });
  walk(document); return found; }"""
"""All that is written, and the pixels of its letters; of a chart too, whose writing is no text of the page."""


def hits(page):
    return page.locator(".frame:not(.compact) .hit")


def test_the_pointer_marks_the_place_in_every_row_and_on_the_images_and_nothing_moves(visit):
    page = visit(TWO_ROWS)
    expect(page.locator("figure[data-state=ready]")).to_have_count(6)
    page.mouse.move(5, 5)
    before = page.evaluate(PLACES)
    for panel in (4, 0):  # a model of the second row, the image of the first
        box = hits(page).nth(panel).bounding_box()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.4 * box["height"])
        expect(page.locator(".cell.hov:visible")).to_have_count(4)
        expect(page.locator(".pin.hov:visible")).to_have_count(2)
        assert (
            page.locator(".pin.hov:visible").evaluate_all("all => all.map(p => [p.style.left, p.style.top])")
            == [page.locator(".pin.hov:visible").first.evaluate("p => [p.style.left, p.style.top]")] * 2
        )
        assert all(page.locator(".readout").all_text_contents()[i] for i in (1, 2, 4, 5))
        assert page.evaluate(PLACES) == before
    page.mouse.move(5, 5)
    expect(page.locator(".cell.hov:visible, .pin.hov:visible")).to_have_count(0)
    assert page.evaluate(PLACES) == before


def test_one_switch_draws_the_colours_alone_and_the_link_keeps_it(visit, settled):
    page = visit(TWO_ROWS)
    over = page.locator("img.map:visible").first.get_attribute("src")
    ramp = page.locator(".shared .ramp:visible").get_attribute("style")
    page.get_by_text("Flat maps").click()
    page.wait_for_url(re.compile("flat=yes"))
    settled(page)
    expect(page.locator("img.map:visible").first).not_to_have_attribute("src", over)
    assert page.locator(".shared .ramp:visible").get_attribute("style") != ramp
    page.get_by_text("Flat maps").click()
    page.wait_for_url(lambda url: "flat" not in parse_qs(urlparse(url).query))
    settled(page)
    expect(page.locator("img.map:visible").first).to_have_attribute("src", over)


@pytest.mark.parametrize("path", ["/", "/rollout", "/token-norms", "/heads", "/sanity"])
def test_on_a_projector_writing_can_be_read_and_the_comparison_is_on_the_first_screen(visit, page, path):
    page.set_viewport_size({"width": 1920, "height": 1080})
    visit(path)
    expect(page.locator("figure[data-state=ready]").nth(4)).to_be_visible()
    page.wait_for_timeout(500)  # charts draw themselves
    small = [entry for entry in page.evaluate(WRITING) if entry[1] < LEAST - 0.01]
    assert small == []
    if path != "/sanity":  # a row for each model, six stages long
        tops = (
            page.locator(".frame:not(.compact)")
            .first.locator("figure .view")
            .evaluate_all("all => all.map(v => v.getBoundingClientRect().top)")
        )
        assert len(tops) == 5
        assert max(tops) - min(tops) < 1, "the image and four models stand beside each other"
        bar = page.locator(".bar.shared:visible").last.bounding_box()
        assert bar["y"] + bar["height"] <= 1080, "panels and colour bar are seen without scrolling"
