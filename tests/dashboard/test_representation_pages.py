"""The pages of the representation lab with the sets of images that go wrong: each says so in a sentence."""

import copy
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from streamlit.testing.v1 import AppTest

from dashboard import navigation
from dashboard.images import gallery, sets
from dashboard.views.embeddings import projection
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")
TINY = ["timm:test_vit@random:0", "timm:test_vit2@random:0"]
CONVOLUTIONAL = "timm:test_resnet@random:0"
PAGES = [address for address, page, _ in navigation.pages() if page.section == "Representation"]
OF_SETS = ["embeddings", "cka"]


def opened(address, settle, **query):
    at = AppTest.from_file(HOME, default_timeout=90)
    for name, value in {"model": TINY, "image": ["photo:coffee"], **query}.items():
        at.query_params[name] = value
    at.run()
    turn_to(at, address)
    settle(at)
    assert not at.exception
    assert [error.value for error in at.error] == []
    assert len(at.title) == 1
    return at


def said(at):
    return " ".join(element.value for element in (*at.markdown, *at.info, *at.caption, *at.toast))


def png(seed=0, note="", side=48):
    """A picture whose bytes, not pixels, differ by the note."""
    about = PngImagePlugin.PngInfo()
    about.add_text("note", note)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=about)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def same():
    """The name of a set of eight files with the same picture."""
    return sets.SETS.add([(f"{i}.png", png(note=str(i))) for i in range(8)])[0]


@pytest.mark.parametrize("address", PAGES)
def test_one_image(address, settle):
    at = opened(address, settle, set=["chosen"])
    if address == "embeddings":
        assert "One image has nothing to be compared with" in said(at)
    if address == "cka":
        assert "at least 4 images" in said(at)
    if address == "correspondence":
        assert "choose one more" in said(at)


def test_identical_images_among_each_other(same, settle):
    at = opened("embeddings", settle, set=[same])
    for shown in ("grid", "difference", "pca", "tsne"):
        at.segmented_control(key="shown").set_value(shown)
        settle(at)
        assert not at.exception
        assert [error.value for error in at.error] == []
        assert "All images are the same to every model." in said(at)
        assert "nan" not in said(at)


def test_identical_images_have_no_cka_and_the_page_says_why(same, settle):
    at = opened("cka", settle, set=[same])
    assert "gives all images the same" in said(at)
    assert "nan" not in said(at)


def test_two_models_that_share_no_representation(settle):
    at = opened("cka", settle, model=[TINY[0], CONVOLUTIONAL], set=["scenes-32"], representation=["CLS"])
    assert "CLS" in said(at)
    assert "Not defined here" in said(at)
    assert len(at.get("plotly_chart")) == 1, "what can be shown is shown"


@pytest.mark.parametrize("address", PAGES)
def test_a_network_without_tokens_beside_one_with_them(address, settle):
    opened(address, settle, model=[TINY[0], CONVOLUTIONAL], set=["scenes-32"])


@pytest.mark.parametrize("address", OF_SETS)
def test_files_that_are_no_images(address, settle):
    at = opened(address, settle, set=["chosen"])
    for name, data, told in (
        ("x.zip", packed([("a.txt", b"text"), ("b.exe", b"MZ")]), "The zip holds no image"),
        ("y.zip", b"no zip at all", "not a zip"),
        ("notes.png", b"no picture", "None of the files is an image"),
    ):
        at.file_uploader[many(at)].upload(name, data, "application/zip").run()
        assert any(told in toast.value for toast in at.toast), [toast.value for toast in at.toast]
    assert not at.exception
    assert [error.value for error in at.error] == []
    assert at.query_params["set"] in ("chosen", ["chosen"])


def test_a_zip_with_path_tricks_and_other_files_beside_its_images(settle, tmp_path, monkeypatch):
    at = opened("embeddings", settle, set=["chosen"])
    monkeypatch.chdir(tmp_path)
    data = packed([("../../../tmp/evil.png", png(1)), ("/etc/a.png", png(2)), ("c.txt", b"no")])
    at.file_uploader[many(at)].upload("x.zip", data, "application/zip")
    at.run()
    assert any("1 file was skipped" in toast.value for toast in at.toast)
    settle(at)
    assert at.query_params["set"][0].startswith("zip-") or at.query_params["set"].startswith("zip-")
    assert list(tmp_path.iterdir()) == []
    assert not at.exception
    assert [error.value for error in at.error] == []


def test_a_zip_is_read_off_the_script_thread(settle, monkeypatch):
    import threading

    go, add = threading.Event(), sets.SETS.add

    def slow(files, on_progress):
        assert go.wait(60)
        return add(files, on_progress)

    monkeypatch.setattr(sets.SETS, "add", slow)
    at = opened("embeddings", settle, set=["scenes-32"])
    data = packed([(f"{i}.png", png(note=f"off the thread {i}")) for i in range(4)])
    at.file_uploader[many(at)].upload("x.zip", data, "application/zip")
    at.run()  # returns while the zip is still being read, with the set that the page had
    assert any(bar.proto.text.startswith("Images: ") for bar in at.get("progress"))
    assert at.query_params["set"] in ("scenes-32", ["scenes-32"])
    go.set()
    settle(at)
    assert "zip-" in str(at.query_params["set"])
    assert not at.exception


def test_a_zip_of_ten_gigabytes_is_refused_before_anything_is_unpacked():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(19 * 2**20))
        for i in range(1, 560):
            again = copy.copy(archive.filelist[0])
            again.filename = f"{i}.png"
            archive.filelist.append(again)
    with zipfile.ZipFile(io.BytesIO(buffer.getvalue())) as archive:
        assert sum(entry.file_size for entry in archive.infolist()) > 10 * 2**30
    with pytest.raises(ValueError, match=r"holds no image that can be read \(560 other files\)"):
        sets.SETS.add([("bomb.zip", buffer.getvalue())])


def test_umap_that_is_not_installed_says_how_to_get_it(settle, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    assert not projection.has_umap()
    assert projection.fetch(np.eye(8), "me", "umap") == projection.NO_UMAP
    at = opened("embeddings", settle, set=["scenes-32"], shown=["UMAP"])
    assert "pip install -r requirements-umap.txt" in said(at)


def test_a_map_that_was_stopped_stays_stopped_until_it_is_asked_for_again(settle, monkeypatch):
    import threading

    from dashboard.compute import results

    go = threading.Event()
    place = projection.tsne

    def slow(vectors, job=None):
        assert go.wait(60)
        return place(vectors, job)

    monkeypatch.setitem(projection._SLOW, "tsne", ("t-SNE", slow))
    at = opened("embeddings", settle, set=["scenes-32"])
    at.segmented_control(key="shown").set_value("tsne").run()
    jobs = [job for job in results.store().jobs.live() if job.label == "t-SNE"]
    assert jobs
    at.button(key="stop").click().run()
    assert at.button(key="again").label == "Compute"
    go.set()
    for job in jobs:
        assert job.finished.wait(60)
        assert job.state == "cancelled"
    at.run()
    assert at.button(key="again").label == "Compute", "another run does not start it again"
    at.button(key="again").click()
    settle(at)
    assert not [button for button in at.button if button.key in ("again", "stop")]
    assert not at.exception


def packed(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def many(at):
    """Which of the page's uploaders takes several files."""
    return next(i for i, uploader in enumerate(at.file_uploader) if "zip" in uploader.label)


def test_pictures_have_sizes_for_uploads_of_a_set(same):
    kept = sets.SETS.get(same)
    assert {gallery.size(image) for image in kept.images} == {(48, 48)}
