"""What a masked autoencoder fills in: its panels and words as data, and the page with and without a decoder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from streamlit.testing.v1 import AppTest

from dashboard.compute import results, work
from dashboard.compute.asking import ModelResult
from dashboard.views.masked_reconstruction import pictures
from model_zoo import catalog
from model_zoo.adapter import Geometry
from model_zoo.catalog import DECODER
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")
KEY = "scenes-vit-mae"
SHIPPED = catalog.CATALOG[KEY].folder


def dataset() -> xr.Dataset:
    hidden = np.array([[[True, False, True], [True, True, False]]])
    error = np.where(hidden, np.arange(6.0).reshape(1, 2, 3), np.nan)
    dims = ("image", "row", "column", "colour")
    return xr.Dataset(
        {
            "error": (("image", "y", "x"), error),
            "hidden": (("image", "y", "x"), hidden),
            "loss": ("image", np.nanmean(error, (1, 2))),
            "original": (dims, np.full((1, 8, 12, 3), 0.25)),
            "reconstruction": (dims, np.full((1, 8, 12, 3), 1.5)),
        },
        attrs={"hidden_patches": 4, "patches": 6, "patch_norm": True},
    )


def test_what_is_hidden_is_grey_then_predicted_and_what_is_visible_stays() -> None:
    model = ModelResult("m", "MAE", "#0072B2", None, (Geometry((12, 8), (0, 0, 12, 8), (8, 12)),), {})
    seen, guess, filled, error = pictures.drawn(model, dataset(), 0)
    assert (seen.rgba[0, 0].tolist(), seen.rgba[0, 4].tolist()) == ([128, 128, 128, 255], [64, 64, 64, 255])
    assert (guess.rgba == 255).all(), "beyond white is white"
    assert (filled.rgba[7, 0, 0], filled.rgba[7, 11, 0], filled.rgba[0, 7, 0]) == (255, 64, 64)
    assert {panel.grid for panel in (seen, guess, filled)} == {(2, 3)}
    assert seen.note == "2 of 6 patches"
    assert seen.texts[:3] == ["error 0", "visible", "error 2"]
    np.testing.assert_array_equal(error.values, dataset()["error"][0])
    assert error.note == "mean 2.25"


def test_the_words_follow_from_the_numbers() -> None:
    said = pictures.reading({"MAE": dataset()})
    assert "**MAE**: mean squared error 2.25 over the 4 hidden of 6 patches" in said
    assert "each patch scaled to mean 0 and deviation 1; n = 1 image." in said
    two = xr.concat([dataset(), dataset().assign(loss=dataset()["loss"] * 2)], "image")
    assert "3.38 (from 2.25 to 4.5)" in pictures.reading({"MAE": two})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The shipped masked autoencoder without a decoder, in a folder of its own, and nothing kept of it."""
    shutil.copytree(SHIPPED, tmp_path / KEY, ignore=shutil.ignore_patterns(DECODER))
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    for kept in (work.zoo, results.store):
        kept.cache_clear()
    yield tmp_path / KEY
    for kept in (work.zoo, results.store):
        kept.cache_clear()


def opened(settle, **query: str) -> AppTest:
    at = AppTest.from_file(HOME, default_timeout=120)
    for name, value in {"model": KEY, "image": "scene:1", **query}.items():
        at.query_params[name] = value
    settle(turn_to(at, "masked-reconstruction"))
    assert not at.exception
    return at


def said(at: AppTest) -> str:
    return " ".join(element.value for kind in (at.markdown, at.info, at.caption) for element in kind)


def test_without_a_decoder_the_page_says_so_plainly(folder, settle) -> None:
    at = opened(settle)
    assert "no decoder (decoder.safetensors) lies beside its weights" in said(at)
    assert not [button for button in at.get("download_button") if "PNG" in button.proto.label]


def test_with_a_decoder_it_is_drawn_and_another_mask_changes_the_numbers(folder, settle) -> None:
    shutil.copyfile(SHIPPED / DECODER, folder / DECODER)
    at = opened(settle, hidden="50")
    first = said(at)
    assert "over the 98 hidden of 196 patches" in first
    next(button for button in at.button if button.label == "Draw another mask").click()
    settle(at)
    assert at.number_input(key="mask").value == 1
    assert "over the 98 hidden of 196 patches" in said(at)
    assert said(at) != first
    assert {button.proto.label for button in at.get("download_button")} >= {"PNG", "SVG", "CSV"}
