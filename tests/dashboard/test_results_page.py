"""The page of results: a run made by the real command is opened, browsed, compared, pinned; what is wrong is said."""

import base64
import json
import os
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr
from streamlit.testing.v1 import AppTest

from dashboard.runs import drawing, quantities, run
from probes.core import output
from probes.core.output import OutputError
from tests import runs
from tests.dashboard.test_pages import HOME
from tests.dashboard.turning import turn_to


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the run `six`, and `raw` of five of the images with another parameter and other weights of a."""
    place = tmp_path_factory.mktemp("results")
    photos = runs.photos(place / "photos")
    assert runs.make(place / "runs" / "six.zarr", photos) == 0
    other = ("--limit", "6", "--param", "attention-distance.renormalise=false")
    assert runs.make(place / "runs" / "raw.zarr", photos, *other, probes=("attention-distance",), seed=1) == 0
    return place / "runs"


@pytest.fixture
def opened(folder, monkeypatch):
    """Open the page with what the link says."""
    monkeypatch.setenv(run.FOLDER, str(folder))

    def go(**link):
        at = AppTest.from_file(HOME, default_timeout=60)
        for name, value in link.items():
            at.query_params[name] = value
        turn_to(at, "results").run()
        assert not at.exception
        assert [error.value for error in at.error] == []
        return at

    return go


def charts(at):
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]


def numbers(sent):
    """An array as Plotly sends it: a list, or base64 of its bytes."""
    if isinstance(sent, list):
        return np.array(sent, float)
    shape = [int(side) for side in str(sent.get("shape", "-1")).split(",")]
    return np.frombuffer(base64.b64decode(sent["bdata"]), sent["dtype"]).reshape(shape)


def said(at):
    return " ".join(
        one.value.replace("\\", "") for kind in (at.markdown, at.caption, at.warning, at.info) for one in kind
    )


def stored(folder, name, group):
    return xr.open_zarr(folder / f"{name}.zarr", group=group, chunks=None)


def test_a_run_is_opened_with_its_heads_errors_images_and_digests(opened, folder):
    at = opened(result="six")
    (figure,) = charts(at)
    lines = {trace["name"]: trace for trace in figure["data"] if trace["mode"] == "lines+markers"}
    assert set(lines) == {"a", "b"}
    heads = next(trace for trace in figure["data"] if trace["name"] == "a, heads")
    dataset = stored(folder, "six", "attention-distance/a")
    assert numbers(heads["error_y"]["array"]) == pytest.approx(dataset["distance_sem"].values.ravel())
    assert figure["layout"]["yaxis"]["title"]["text"] == "mean attention distance (px of the model's input)"
    assert "n = 6 images, bars are standard errors over the images" in said(at)
    tables = [frame.value for frame in at.dataframe]
    assert any(f"broken {runs.HOSTILE}" in table.to_csv() for table in tables), "what could not be read is named"
    assert any(dataset.attrs["weights_sha256"][0] in table.to_csv() for table in tables)


def test_maps_are_browsed_image_by_image_on_one_scale(opened, folder):
    at = opened(result="six", probe="Attention maps", quantity="Attention of the query to the patch")
    before = charts(at)
    slider = next(slider for slider in at.slider if slider.label == "Image")
    slider.set_value(3).run()
    after = charts(at)
    maps = {label: stored(folder, "six", f"attention-maps/{label}")["attention"].mean("head") for label in "ab"}
    drawn = numbers(after[0]["data"][0]["z"])
    assert drawn == pytest.approx(maps["a"].isel(image=2, layer=-1).values)
    largest = max(float(one.isel(layer=-1).max()) for one in maps.values())
    ends = [trace["zmax"] for figure in (*before, *after) for trace in figure["data"]]
    assert ends == pytest.approx([largest] * 4)
    assert "image 3 of 6" in said(at)
    assert "photo-2.png" in said(at)


def test_the_pages_own_charts_are_drawn_of_what_is_stored(opened):
    at = opened(result="six", probe="CKA")
    assert len(charts(at)) == 3, "a, b and both"
    assert at.selectbox(key="quantity").value == drawing.BY_PAGE
    at = opened(result="six", probe="Token norms")
    assert "longest patch" in charts(at)[0]["data"][0]["name"]


def test_layers_rise_in_every_square_as_in_the_pages_own(opened, folder):
    copy = folder / "spread.zarr"
    shutil.copytree(folder / "six.zarr", copy)
    try:
        for name in ("a", "b", "a+b"):  # six images make one minibatch, whose deviation nobody knows
            kept = zarr.open_array(copy / "cka" / name / "cka_sd", mode="a")
            kept[:] = np.linspace(0, 0.5, kept.size).reshape(kept.shape)
        at = opened(result="spread", probe="CKA")
        at.selectbox(key="quantity").select("CKA standard deviation").run()
        assert [chart["layout"]["yaxis"]["autorange"] for chart in charts(at)] == [True] * 3
        bar = next(text for text in (one.proto.body for one in at.get("html")) if "one scale for all" in text)
        assert "0.5; one scale for all" in bar
    finally:
        shutil.rmtree(copy)


def test_two_runs_are_in_one_chart_with_their_differences(opened, folder):
    at = opened(result="six", beside="raw")
    (figure,) = charts(at)
    lines = {trace["name"]: trace for trace in figure["data"] if trace["mode"] == "lines+markers"}
    assert set(lines) == {"a · six", "b · six", "a · raw", "b · raw"}
    assert {name for name, line in lines.items() if line["line"].get("dash") == "dash"} == {"a · raw", "b · raw"}
    assert lines["a · six"]["line"]["color"] == lines["a · raw"]["line"]["color"]
    told = said(at)
    assert "the images (6 and 5, 5 of them the same)" in told
    assert "the weights of a" in told
    assert "renormalise (True and False)" in told
    table = next(frame.value for frame in at.dataframe if "Mean difference" in frame.value)
    apart = [
        stored(folder, "raw", f"attention-distance/{x}")["distance"]
        - stored(folder, "six", f"attention-distance/{x}")["distance"]
        for x in "ab"
    ]
    assert list(table["Mean difference"]) == pytest.approx([float(one.mean()) for one in apart])
    assert list(table["Largest difference"]) == pytest.approx([float(abs(one).max()) for one in apart])


def test_matrices_of_two_runs_are_compared_too(opened, folder):
    copy = folder / "again.zarr"
    shutil.copytree(folder / "six.zarr", copy)
    try:
        at = opened(result="six", beside="again", probe="CKA")
        assert len(charts(at)) == 6
        table = next(frame.value for frame in at.dataframe if "Mean difference" in frame.value)
        assert list(table["Model"]) == ["a", "a+b", "b"]
        assert list(table["Largest difference"]) == [0, 0, 0]
        assert "Both runs are of the same images, weights, parameters and versions" in said(at)
    finally:
        shutil.rmtree(copy)


def test_a_pinned_view_is_in_the_link_and_one_click_away(opened):
    at = opened(result="six", probe="Token norms", quantity="High", place_image="4")
    at.button(key="pin-this").click().run()
    (pin,) = [at.query_params["pin"]] if isinstance(at.query_params["pin"], str) else at.query_params["pin"]
    assert "place_image=4" in pin
    at.selectbox(key="probe").set_value("attention-distance").run()
    at.button(key="pin-0").click().run()
    assert (at.selectbox(key="probe").value, at.selectbox(key="quantity").value) == ("token-norm", "high")
    assert next(slider for slider in at.slider if slider.label == "Image").value == 4
    opened(result="six", pin=["place_image=x&result=..%2Fsix&said=%3Cb%3E", "&&&", "x" * 5000]).button(
        key="pin-0"
    ).click().run()


@pytest.mark.parametrize("name", ["../six", "..", "/etc", "six.zarr/cka", "linked", "%2e%2e%2fsix"])
def test_a_link_opens_only_what_lies_in_the_folder(opened, folder, name):
    link = folder / "linked.zarr"
    if not link.is_symlink():
        link.symlink_to(folder / "six.zarr", target_is_directory=True)
    at = opened(result=name)
    assert at.selectbox(key="result").value in ("six", "raw")
    assert any("was not possible here and was reset" in toast.value for toast in at.toast)
    assert "linked" not in at.selectbox(key="result").options
    with pytest.raises(OutputError, match="no such run"):
        run.of_folder(name)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda out: shutil.rmtree(out / "cka" / "a"), None),
        (lambda out: (out / "stranger").write_text("x"), "is not a result"),
        (lambda out: (out / "manifest.json").write_text('{"format": 1, "images": 3}'), "manifest.json is damaged"),
        (lambda out: (out / "attention-distance/a/distance/0.0").write_bytes(b"\0" * 40), "is damaged"),
        (lambda out: (out / "attention-distance/a/distance/.zattrs").write_text("{"), "is damaged"),
    ],
)
def test_a_damaged_or_foreign_folder_is_one_sentence(opened, folder, monkeypatch, tmp_path, harm, told):
    shutil.copytree(folder / "six.zarr", tmp_path / "worn.zarr")
    harm(tmp_path / "worn.zarr")
    monkeypatch.setenv(run.FOLDER, str(tmp_path))
    at = AppTest.from_file(HOME, default_timeout=60)
    turn_to(at, "results").run()
    assert not at.exception
    assert [error.value for error in at.error] == []
    sentences = [warning.value.replace("\\", "") for warning in at.warning]
    assert len(sentences) == (told is not None)
    assert told is None or told in sentences[0]


def test_a_run_that_was_broken_off_says_how_far_it_is(opened, folder, monkeypatch):
    def full(*_, **__):
        raise OutputError("The disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(output, "write", full)
        assert runs.make(folder / "late.zarr", folder.parent / "photos", probes=("token-norm",)) == 2
    at = opened()
    assert "late is not whole yet: 7 of 7 images are kept" in said(at)
    assert "late" not in at.selectbox(key="result").options
    shutil.rmtree(folder / ".late.zarr.run")


def test_without_a_run_the_page_says_how_one_is_made(opened, monkeypatch, tmp_path):
    monkeypatch.setenv(run.FOLDER, str(tmp_path / "none"))
    at = AppTest.from_file(HOME, default_timeout=60)
    turn_to(at, "results").run()
    assert not at.exception
    assert "python -m probes run" in said(at)


def test_of_many_maps_one_is_read(tmp_path):
    import tracemalloc

    values = np.random.default_rng(0).random((512, 48, 48))
    dataset = xr.Dataset({"map": (("image", "y", "x"), values, {"units": "1"})}, coords={"image": np.arange(512)})
    out = tmp_path / "large.zarr"
    pieces = output.Pieces(lambda: (dataset.isel(image=slice(k, k + 64)) for k in range(0, 512, 64)), 512, {})
    output.write(out, {"token-norm": {"a": pieces}})
    source = drawing.source([run.opened(out)], "token-norm")
    quantity = source.quantities["map"]
    dataset = source.sets["large", "a"]
    tracemalloc.start()
    read = quantities.values(dataset, quantity, {"image": 400})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read.mean.values == pytest.approx(values[400])
    assert most < values.nbytes / 2
    assert os.fspath(out)
