"""The comparison as a person uses it: models, a clicked patch, the link, the keyboard, a phone, no network."""

import io
import re
from urllib.parse import parse_qs, urlparse

import pytest
from PIL import Image
from playwright.sync_api import expect

from dashboard.state import models

expect.set_options(timeout=20_000)

ONE = "/?model=timm:test_vit@random:0&image=photo:coffee"
TWO = "/?model=timm:test_vit@random:0&model=timm:test_vit2@random:0&image=photo:coffee"


def state(page):
    return parse_qs(urlparse(page.url).query)


def linked(page, **wanted):
    """Wait until the link holds these values: a rerun may not have begun when the key is up."""
    page.wait_for_url(lambda url: all(parse_qs(urlparse(url).query).get(k) == [v] for k, v in wanted.items()))


def hits(page):
    """The surfaces of the panels that take the pointer: the original first, then a model each."""
    return page.locator(".frame:not(.compact) .hit")


def click_at(page, panel, u, v):
    box = hits(page).nth(panel).bounding_box()
    page.mouse.click(box["x"] + u * box["width"], box["y"] + v * box["height"])


def test_it_opens_with_a_comparison(visit):
    page = visit("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Where does each model look?")
    assert "model" not in state(page), "what a page shows by itself is no choice"
    expect(hits(page)).to_have_count(2 * (1 + 4))  # a photo and a scene, each with four trained models
    expect(page.locator("figure[data-state=ready]")).to_have_count(10)
    names = page.locator(".frame .name").all_text_contents()
    assert names[1:5] == names[6:10] == ["ViT, supervised", "DeiT, distilled", "ViT, DINO", "ViT, MAE"]
    expect(page.locator("svg.lines:not([hidden])")).to_have_count(1)  # the true object, in the scene itself
    expect(page.get_by_text(re.compile("On the true object, of what the CLS query gives to patches"))).to_be_visible()
    assert page.locator(".bar.shared:visible").count() == 1, "one scale for both rows"
    box = page.locator("figure .view").nth(4).bounding_box()
    assert box["y"] + box["height"] < 900, "the first row is seen without scrolling"


def test_a_patch_is_asked_at_the_same_place_of_every_image(visit, settled):
    page = visit(TWO + "&image=scene:0")
    expect(hits(page)).to_have_count(6)
    click_at(page, 4, 0.5, 0.4)
    linked(page, query="patch")
    settled(page)
    expect(page.locator(".cell.sel:visible")).to_have_count(4)
    expect(page.get_by_text("in every image")).to_be_visible()


def test_on_a_phone_the_panels_of_a_row_stand_in_two_columns(visit, page):
    page.set_viewport_size({"width": 390, "height": 900})
    visit(TWO + "&image=scene:0")
    boxes = [page.locator("figure .view").nth(i).bounding_box() for i in range(6)]
    assert len({round(box["x"]) for box in boxes}) == 2
    assert boxes[3]["y"] > boxes[2]["y"] + boxes[2]["height"], "the second image begins a line of its own"


def test_two_models_a_clicked_patch_and_the_copied_link(visit, context, server, settled):
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server)
    page = visit(ONE)
    expect(hits(page)).to_have_count(2)
    adding = page.get_by_role("combobox", name="Add a model")
    adding.fill("test_vit2")
    adding.press("Enter")
    page.get_by_text("Random weights", exact=True).click()
    page.get_by_role("button", name="Add", exact=True).click()
    expect(hits(page)).to_have_count(3)
    settled(page)

    click_at(page, 1, 0.5, 0.4)
    expect(page.locator(".cell.sel:visible")).to_have_count(2)
    expect(page.locator(".pin:visible")).to_have_count(1)
    settled(page)
    expect(page.get_by_text("of what the clicked patch gives to patches")).to_be_visible()
    said = page.locator(".readout").all_text_contents()
    chosen = state(page)
    assert chosen["query"] == ["patch"]
    u, v = (float(x) for x in chosen["at"][0].split(","))
    assert (u, v) == pytest.approx((0.5, 0.4), abs=0.01)
    assert [bool(re.match(r"row \d+, column \d+ · [\d.]+", text)) for text in said[1:3]] == [True, True]

    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    other = context.new_page()
    other.goto(link)
    settled(other)
    expect(hits(other)).to_have_count(3)
    expect(other.locator(".cell.sel:visible")).to_have_count(2)
    assert other.locator(".readout").all_text_contents() == said
    assert state(other) == chosen
    other.close()


def test_the_pointer_is_linked_over_all_panels_without_a_run(visit):
    page = visit(TWO)
    box = hits(page).nth(2).bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator(".cell.hov:visible")).to_have_count(2)
    expect(page.locator(".shared .tick")).to_have_count(2)
    colours = page.locator(".shared .tick").evaluate_all("all => all.map(t => getComputedStyle(t).borderLeftColor)")
    assert colours == [
        "rgb({}, {}, {})".format(*bytes.fromhex(colour[1:])) for colour in models.colours(state(page)["model"]).values()
    ]
    assert "at" not in state(page)
    page.mouse.move(5, 5)
    expect(page.locator(".cell.hov:visible")).to_have_count(0)


def test_a_point_outside_the_crop_is_marked_nowhere_and_said(visit, settled):
    page = visit(TWO)
    click_at(page, 0, 0.02, 0.5)
    settled(page)
    expect(page.locator(".cell.sel:visible")).to_have_count(0)
    expect(page.get_by_text("The point lies outside this model's crop.")).to_have_count(2)


def test_the_keyboard_selects_and_clears(visit, settled):
    page = visit(TWO)
    hits(page).nth(1).focus()
    for key in ("ArrowLeft", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".cell.sel:visible")).to_have_count(2)
    linked(page, query="patch")
    settled(page)
    expect(page.locator("output.sr").first).to_contain_text("selected")
    hits(page).nth(1).focus()
    page.keyboard.press("Escape")
    expect(page.locator(".cell.sel:visible")).to_have_count(0)
    linked(page, query="cls")
    settled(page)


def test_a_clicked_patch_is_one_entry_of_the_history(visit, settled):
    page = visit(TWO)
    before = page.evaluate("history.length")
    click_at(page, 1, 0.5, 0.4)
    linked(page, query="patch")
    settled(page)
    assert page.evaluate("history.length") == before + 1
    page.go_back()
    page.wait_for_url(lambda url: "query" not in url)
    settled(page)
    expect(page.locator(".cell.sel:visible")).to_have_count(0)
    page.go_forward()
    linked(page, query="patch")
    settled(page)
    expect(page.locator(".cell.sel:visible")).to_have_count(2)


def test_going_back_takes_the_choice_back(visit, settled):
    page = visit(TWO)
    page.locator(".strip button").nth(1).click()
    page.wait_for_url(re.compile("astronaut"))
    settled(page)
    page.go_back()
    page.wait_for_url(re.compile("coffee"))
    settled(page)
    expect(page.locator(".strip button[aria-pressed=true]")).to_have_attribute("data-id", "photo:coffee")


def test_an_uploaded_photo_is_compared(visit, settled):
    page = visit(TWO)
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("CMYK").save(buffer, "JPEG")
    page.get_by_role("button", name="Add an image").click()
    page.locator("input[type=file]").set_input_files(
        {"name": "gradient.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
    )
    page.wait_for_url(re.compile("upload%3A"))
    settled(page)
    expect(page.locator("figure .name").first).to_have_text("gradient")
    expect(page.locator("figure[data-state=ready]")).to_have_count(6)  # beside the photo that was there


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_it_fits_the_screen_in_light_and_dark(visit, page, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    visit(TWO)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("figure .view").nth(1).bounding_box()
    assert box["y"] + box["height"] < 900, "the first model's picture is seen without scrolling"
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    ground, ink = page.evaluate(
        """() => [document.querySelector('[data-testid=stApp]'), document.querySelector('.frame .name') ||
        [...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(Boolean).map(r => r.querySelector('.name'))
        .find(Boolean)].map((e, i) => getComputedStyle(e)[i ? 'color' : 'backgroundColor'])"""
    )
    assert abs(brightness(ground) - brightness(ink)) > 150
    assert (brightness(ground) < 128) == (scheme == "dark")


def brightness(colour):
    return sum(float(x) for x in re.findall(r"[\d.]+", colour)[:3]) / 3


def test_a_hub_model_without_a_network_says_so_on_its_panel(visit):
    page = visit("/?model=timm:test_vit@random:0&model=dino-s16&image=photo:coffee")
    expect(page.locator("figure[data-state=ready]")).to_have_count(2)
    expect(page.locator(".message:not(:empty)")).to_contain_text(re.compile("hub", re.IGNORECASE))
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_the_zoo_is_searched_and_its_link_keeps_the_search(visit):
    page = visit("/zoo?search=dinov2")
    expect(page.get_by_text(re.compile(r"^[1-9]\d* of \d+ models"))).to_be_visible()
    expect(page.get_by_role("textbox", name="Search")).to_have_value("dinov2")
    assert state(page)["search"] == ["dinov2"]
