"""The list of models and the browser's history, as someone with a mouse, a keyboard or a screen reader meets them."""

import re
from itertools import pairwise
from urllib.parse import parse_qs, urlparse

from playwright.sync_api import expect

from model_zoo.catalog import CATALOG

expect.set_options(timeout=20_000)

ZOO = "/zoo?model=vit-s16-in1k&model=vit-b16-in1k&model=swin-tiny"


def state(page):
    return {name: values for name, values in parse_qs(urlparse(page.url).query).items() if name != "colour"}


def entries(page):
    return page.evaluate("history.length")


def colours(page):
    """Name to the colour of its edge."""
    found = page.locator("[class*=st-key-chip-] [data-testid=stPopover] button").evaluate_all(
        "all => all.map(b => [b.textContent, getComputedStyle(b).borderLeftColor])"
    )
    return {re.sub(r"\W*(keyboard_arrow_down|expand_more)?$", "", name): colour for name, colour in found}


def shown(page, models, weights):
    """Wait until the page and its address say this."""
    page.wait_for_url(lambda url: parse_qs(urlparse(url).query)["model"] == models)
    expect(page.get_by_role("button", name=re.compile("^Remove "))).to_have_count(len(models))
    chosen = page.get_by_role("radio", checked=True).or_(page.locator("[data-testid*=segmented_controlActive]"))
    expect(chosen).to_have_count(len(weights))
    assert state(page).get("weights", []) == weights


def test_one_act_is_one_entry_and_back_and_forward_restore_each(visit, settled):
    page = visit(ZOO)
    three = ["vit-s16-in1k", "vit-b16-in1k", "swin-tiny"]
    opened = entries(page)
    before = colours(page)
    page.get_by_role("button", name="Remove ViT-S/16 1k").click()
    shown(page, three[1:], [])
    settled(page)
    assert entries(page) == opened + 1
    after = colours(page)
    assert after == {name: colour for name, colour in before.items() if name in after}
    page.locator("button", has_text="shipped").first.click()
    page.wait_for_url(re.compile("weights=shipped"))
    settled(page)
    shown(page, three[1:], ["shipped"])
    assert entries(page) == opened + 2
    page.go_back()
    shown(page, three[1:], [])
    settled(page)
    page.go_back()
    shown(page, three, [])
    settled(page)
    assert colours(page) == before
    page.go_forward()
    shown(page, three[1:], [])
    settled(page)
    page.go_forward()
    shown(page, three[1:], ["shipped"])
    assert entries(page) == opened + 2


def test_the_focus_stays_near_what_was_taken_out(visit, settled):
    page = visit(ZOO)
    page.get_by_role("button", name="Remove ViT-S/16 1k").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove ViT-B/16 1k")).to_be_focused()
    settled(page)
    page.get_by_role("button", name="Remove Swin-T").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Add a model")).to_be_focused()


def test_headings_go_down_one_step_at_a_time_and_small_print_can_be_read(visit, page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        visit(ZOO)
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert 1 in levels
        assert all(b <= a + 1 for a, b in pairwise(levels)), levels
        for text in ("Loaded:", f"{len(CATALOG)} of {len(CATALOG)} models"):
            ink, opacity, ground = page.get_by_text(re.compile(f"^{text}")).evaluate(
                """e => { let o = 1, g = 'rgba(0, 0, 0, 0)', c = getComputedStyle(e).color;
                for (let p = e; p; p = p.parentElement) { const s = getComputedStyle(p); o *= s.opacity;
                  if (g === 'rgba(0, 0, 0, 0)') g = s.backgroundColor; } return [c, o, g]; }"""
            )
            assert contrast(ink, opacity, ground) >= 4.5


def contrast(ink, opacity, ground):
    ink, ground = ([float(x) for x in re.findall(r"[\d.]+", colour)] for colour in (ink, ground))
    opacity *= ink[3] if len(ink) > 3 else 1
    mixed = [opacity * a + (1 - opacity) * b for a, b in zip(ink[:3], ground[:3], strict=True)]
    light, dark = sorted((luminance(mixed), luminance(ground[:3])), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
