"""Lesions as a person uses them: a cell is clicked, its head is off, the link says so, and a click takes it back."""

import re
from urllib.parse import parse_qs, urlparse

import pandas as pd
from playwright.sync_api import expect

expect.set_options(timeout=20_000)


def click_cell(page, layer, head, layers=6, heads=4):
    """Click a head in the first map."""
    area = page.locator("[data-testid=stPlotlyChart] .nsewdrag").first
    box = area.bounding_box()
    at = {"x": (layer - 0.5) / layers * box["width"], "y": (head - 0.5) / heads * box["height"]}
    area.hover(position=at)  # Plotly finds what is under the pointer as it moves
    page.wait_for_timeout(300)
    area.click(position=at)


def test_a_clicked_head_is_off_until_it_is_clicked_again(visit, settled):
    page = visit("/lesions?model=scenes-vit-supervised&image=scene:0")
    expect(page.get_by_text("most: layer")).to_be_visible()
    click_cell(page, 3, 2)
    page.wait_for_url(re.compile("off=3.2"))
    settled(page)
    expect(page.get_by_text("without layer 3 head 2: cosine to the intact embedding")).to_be_visible()
    expect(page.get_by_text("Without the heads that are switched off")).to_be_visible()
    click_cell(page, 5, 1)
    page.wait_for_function("location.search.includes('5.1')")
    settled(page)
    expect(page.get_by_text("without layer 3 head 2, layer 5 head 1: cosine")).to_be_visible()
    click_cell(page, 3, 2)
    page.wait_for_function("!location.search.includes('3.2')")
    settled(page)
    expect(page.get_by_text("without layer 5 head 1: cosine")).to_be_visible()
    assert parse_qs(urlparse(page.url).query)["off"] == ["5.1"]
    with page.expect_download(timeout=60_000) as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    lines = pd.read_csv(download.value.path(), comment="#")
    assert sorted(lines["layer"].unique()) == [1, 2, 3, 4, 5, 6]
    assert sorted(lines["head"].dropna().unique()) == [1, 2, 3, 4]
    assert len(lines) == 6 * (4 + 2)
