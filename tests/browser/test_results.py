"""Results of a run in the real browser: drawn, browsed, every file pressed and opened, and the report by itself."""

import io
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from tests import runs

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def measured(server_folder):
    """Two runs where the server looks for them."""
    photos = runs.photos(server_folder / "photos")
    assert runs.make(server_folder / "runs" / "browsed.zarr", photos) == 0
    other = ("--limit", "6")
    assert runs.make(server_folder / "runs" / "other.zarr", photos, *other, probes=("attention-distance",), seed=1) == 0
    yield server_folder / "runs"
    for out in ("browsed", "other"):
        (server_folder / "runs" / f"{out}.zarr").rename(server_folder / f"{out}.gone")


def saved(page, name):
    with page.expect_download(timeout=120_000) as download:
        page.get_by_role("button", name=name, exact=True).click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def test_a_run_is_browsed_beside_another_and_all_its_files_open(visit, measured, tmp_path, settled):
    page = visit("/results?result=browsed&beside=other")
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert page.locator(".js-plotly-plot .scatterlayer .trace").count() == 8, "heads and means of two models, two runs"

    name, svg = saved(page, "SVG")
    assert name == "browsed-attention-distance-mean-attention-distance.svg"
    texts = " ".join("".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text"))
    assert "Run browsed" in texts
    assert "timm:test_vit@random:0" in texts
    _, png = saved(page, "PNG")
    assert len(Image.open(io.BytesIO(png)).convert("RGB").resize((60, 60)).getcolors(3600)) > 20
    _, csv = saved(page, "CSV")
    table = pd.read_csv(io.BytesIO(csv), comment="#")
    assert set(table["model"]) == {"a · browsed", "b · browsed", "a · other", "b · other"}
    assert table["layer"].min() == 1
    name, netcdf = saved(page, "NetCDF of the probe")
    (tmp_path / name).write_bytes(netcdf)
    kept = xr.open_zarr(measured / "browsed.zarr", group="attention-distance/a", chunks=None)["distance"]
    with xr.open_dataset(tmp_path / name, group="attention-distance/a", engine="h5netcdf") as opened:
        assert opened["distance"].values.tolist() == kept.values.tolist()

    page.get_by_role("button", name="Pin this view").click()
    page.wait_for_url(lambda address: "pin=" in address)
    settled(page)
    page = visit("/results?result=browsed&probe=Attention+maps")
    page.wait_for_selector(".js-plotly-plot .heatmaplayer image")
    assert page.locator(".js-plotly-plot .heatmaplayer image").count() == 2
    assert page.evaluate("window.hacked") is None
    _, maps = saved(page, "SVG")
    assert len(list(ET.fromstring(maps).iter(f"{SVG}image"))) == 3, "two maps and their bar"


def test_the_report_stands_alone(visit, measured, context, tmp_path):
    name, report = saved(visit("/results?result=browsed"), "Report of the run")
    assert name == "browsed.html"
    (tmp_path / name).write_bytes(report)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / name).as_uri())
    plots = page.locator(".plot").count()
    assert plots >= 8
    page.wait_for_function(
        "n => document.querySelectorAll('.plot > .plot-container .main-svg').length >= 2 * n", arg=plots
    )
    assert page.locator("text=<img src=x onerror=window.hacked=1>.png").count() > 0, "shown as it is"
    assert page.evaluate("window.hacked") is None
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        ink = page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
        assert ink == {"light": "rgb(27, 31, 36)", "dark": "rgb(232, 234, 237)"}[scheme]
    assert len(grounds) == 2
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert len(page.pdf(format="A4")) > 10_000
    assert said == []
    assert asked == [(tmp_path / name).as_uri()]
    page.close()
