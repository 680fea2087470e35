"""Every file of every page: its button is pressed as a person does it, and the file is opened."""

import io
import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import expect

from dashboard import navigation

MODELS = "model=timm:test_vit@random:0&model=timm:test_vit2@random:0"
SMALLEST = "&image=scene:0&image=scene:1&set=chosen"
OWN = {"cka": "&image=scene:2&image=scene:3", "heads": "&query=patch&at=0.5,0.4"}
"""What a page is opened with beside the models and two scenes."""
LABELLED = {"landscape": "model=scenes-vit-supervised&model=scenes-resnet"}
"""Models for pages that need a classifier of the images."""
WITHOUT = {"zoo": "a table that saves itself", "glossary": "words", "digits": "nothing before a training",
           "results": "nothing before a run; with one they are in test_results"}  # fmt: skip
COUNTED = ("layer", "layer_a", "layer_b", "head", "row", "column", "query_row", "query_column", "rank")
SVG = "{http://www.w3.org/2000/svg}"
PAGES = [name for name, _, _ in navigation.pages() if name not in WITHOUT]


def pressed(page, kind):
    with page.expect_download(timeout=60_000) as download:
        button = page.get_by_role("button", name=kind, exact=True)
        expect(button).to_have_count(1, timeout=60_000)  # while a page is drawn again, its old end stands below the new
        button.click()
    assert download.value.suggested_filename.endswith(f".{kind.lower()}")
    return download.value.path().read_bytes()


def texts_of(svg):
    return [text for node in ET.fromstring(svg).iter(f"{SVG}text") if (text := "".join(node.itertext()).strip())]


@pytest.mark.parametrize("name", PAGES)
def test_all_files_of_a_page_can_be_saved_and_opened(visit, server, name):
    page = visit(f"/{'' if name == 'compare' else name}?{LABELLED.get(name, MODELS)}{SMALLEST}{OWN.get(name, '')}")
    svg, png, csv = (pressed(page, kind) for kind in ("SVG", "PNG", "CSV"))

    root, texts = ET.fromstring(svg), texts_of(svg)
    width, height = (float(root.get(side)) for side in ("width", "height"))
    assert len(texts) > 3
    assert not any("**" in text or "`" in text for text in texts)
    picture = Image.open(io.BytesIO(png))
    assert picture.size == pytest.approx((2 * width, 2 * height), abs=2)
    assert width <= 2000, "wider than a slide's writing allows"
    assert len(picture.convert("RGB").resize((60, 60)).getcolors(3600)) > 20, "there is something on it"

    table = pd.read_csv(io.BytesIO(csv), comment="#")
    assert len(table) > 0
    assert table.shape[1] > 1
    for column in set(COUNTED) & set(table):
        places = table[column].dropna()
        assert places[places >= 0].min() >= 1, f"{column} counts from 1"

    link = f"Link: {server}/{'' if name == 'compare' else name}?"
    told = "".join(line for line in csv.decode().splitlines() if line[:1] == "#")
    metadata = next(root.iter(f"{SVG}metadata")).text
    for said in (told, metadata, "".join(f"{kind}: {text};" for kind, text in picture.text.items())):
        assert link in said
        assert re.search(r"torch \d", said)
        assert name == "scenes" or "test_vit untrained (seed 0) = timm:test_vit@random:0" in said or name in SHIPPED


SHIPPED = ("formation", "masked-reconstruction", "attention-and-convolution", *LABELLED)
"""Pages that show shipped models, where no selected one has what they need or as the test asks."""


def test_pages_without_files_say_so(visit):
    for name in ("zoo", "digits"):
        page = visit(f"/{name}?{MODELS}")
        assert page.get_by_role("button", name="PNG", exact=True).count() == 0


def test_the_asked_patch_is_marked_in_the_file(visit):
    page = visit(f"/?{MODELS}&image=scene:0&query=patch&at=0.5,0.4")
    root = ET.fromstring(pressed(page, "SVG"))
    assert len(list(root.iter(f"{SVG}circle"))) == 2, "a ring of two lines in the original"
    frames = [node for node in root.iter(f"{SVG}rect") if node.get("stroke") == "#fff"]
    assert len(frames) == 2, "a frame in each of the two models"
