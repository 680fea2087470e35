"""A clip is uploaded, and the film that comes of it plays in the browser."""

import re

import pytest
from playwright.sync_api import expect

from probes.core.video.drawing import BAR, GAP, LABEL
from probes.core.video.framing import framing, sheet
from tests.probes.clips import clip, pictures

PATIENCE = 240_000
MODELS = "model=timm:test_vit@random:0&model=timm:test_vit@random:1"
STATE = """() => { const video = document.querySelector("[data-testid=stVideo]");
  return video && [video.readyState, video.videoWidth, video.videoHeight, video.duration, video.currentTime]; }"""


CAMERA = """window.streams = [];
  const media = navigator.mediaDevices, get = media.getUserMedia.bind(media);
  media.getUserMedia = async (wanted) => { const stream = await get(wanted); streams.push(stream); return stream; };"""
"""Remembers what the camera gave, so that a test can ask whether it was let go."""
LARGE = """window.MediaRecorder = class extends MediaRecorder { constructor(...all) { super(...all);
  const grow = ({ data }) => Object.defineProperty(data, "size", { value: 100_500_000 });
  this.addEventListener("dataavailable", grow, { once: true }); } };"""
"""The first piece of a recording claims 100.5 MB."""
LIVE = "() => streams.flatMap((stream) => stream.getTracks()).map((track) => `${track.kind} ${track.readyState}`)"


@pytest.fixture
def camera(page, server):
    """The browser's own test picture, lent to the pages of this test."""
    page.context.grant_permissions(["camera"], origin=server)
    page.add_init_script(CAMERA)


def press(page, name):
    """Press a button with the keyboard."""
    page.get_by_role("button", name=name, exact=True).press("Enter", timeout=PATIENCE)


def upload(page, settled, path):
    """Choose a file and have the film made of it."""
    page.get_by_role("button", name="Add a clip").click()
    page.locator("input[type=file]").first.set_input_files(path)
    page.get_by_text(f"{path.name} is chosen").first.wait_for(timeout=PATIENCE)
    page.keyboard.press("Escape")
    settled(page)
    page.get_by_role("button", name="Make the film").click()


def test_an_uploaded_clip_becomes_a_film_that_plays(visit, settled, tmp_path):
    (tmp_path / "square.mp4").write_bytes(clip(pictures(12, (160, 96)), rate=6, pix_fmt="yuv420p"))
    page = visit(f"/video?{MODELS}&film_stride=3&film_side=112")
    upload(page, settled, tmp_path / "square.mp4")
    page.get_by_text("4 frames. The middle").wait_for(timeout=PATIENCE)
    settled(page)
    page.wait_for_function(f"() => ({STATE})()?.[0] === 4 && ({STATE})()[4] > 0", timeout=PATIENCE)
    _, width, height, duration, _ = page.evaluate(STATE)
    left, top, right, bottom = framing((160, 96), [16], 112).box
    placed = sheet((right - left, bottom - top), 3, LABEL, BAR)
    assert width == 2 * GAP + placed.columns * placed.panel[0] + (placed.columns - 1) * GAP
    assert height > placed.panel[1]
    assert duration == pytest.approx(2.0, abs=0.05)
    assert "square" in page.locator("[data-testid=stVideo]").get_attribute("aria-label")
    for kind, begins in (("MP4", b"ftyp"), ("GIF", b"GIF8")):
        with page.expect_download(timeout=PATIENCE) as download:
            page.get_by_role("button", name=kind, exact=True).click()
        assert begins in download.value.path().read_bytes()[:8]


def test_a_file_that_is_no_video_is_answered_in_a_sentence(visit, settled, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"nothing of a film")
    page = visit(f"/video?{MODELS}&film_stride=10&film_side=112")
    upload(page, settled, tmp_path / "broken.mp4")
    page.get_by_text("broken.mp4 is not a video that can be read here").wait_for(timeout=PATIENCE)
    expect(page.get_by_text("Make the film tries again.")).to_be_visible()
    page.get_by_role("button", name="Make the film").click()
    page.get_by_text("broken.mp4 is not a video that can be read here").wait_for(timeout=PATIENCE)


def test_a_clip_from_the_camera_becomes_a_film_that_plays(visit, settled, page, camera):
    page = visit("/video?model=timm:test_vit@random:0&film_stride=3&film_side=112")
    settled(page)
    press(page, "Add a clip")
    press(page, "Turn the camera on")
    page.get_by_role("button", name="Start recording").wait_for(timeout=PATIENCE)
    assert page.evaluate(LIVE) == ["video live"]
    seen = page.get_by_label("What the camera sees").element_handle()
    page.wait_for_function("(seen) => !seen.paused && seen.srcObject !== null", arg=seen, timeout=PATIENCE)
    press(page, "Start recording")
    page.get_by_text(re.compile(r"^([2-9]|\d\d) s of at most 60 s")).wait_for(timeout=PATIENCE)
    press(page, "Stop recording")
    page.get_by_text(re.compile(r"Camera [\d.]+\.webm is chosen")).first.wait_for(timeout=PATIENCE)
    assert page.evaluate(LIVE) == ["video ended"]
    page.keyboard.press("Escape")
    settled(page)
    page.get_by_role("button", name="Make the film").click()
    page.locator("[data-testid=stVideo][aria-label^=Camera]").wait_for(timeout=PATIENCE)
    page.wait_for_function(f"() => ({STATE})()?.[0] === 4 && ({STATE})()[4] > 0", timeout=PATIENCE)
    _, width, height, duration, _ = page.evaluate(STATE)
    left, top, right, bottom = framing((640, 480), [16], 112).box
    placed = sheet((right - left, bottom - top), 2, LABEL, BAR)
    assert width == 2 * GAP + placed.columns * placed.panel[0] + (placed.columns - 1) * GAP
    assert height > placed.panel[1]
    assert 0.5 < duration < 7
    assert page.get_by_text(re.compile("damaged|breaks off|were taken")).count() == 0, "nothing was lost"


def test_the_camera_is_let_go_when_its_place_is_closed(visit, page, camera):
    page = visit("/video?model=timm:test_vit@random:0&film_stride=10&film_side=112")
    page.get_by_role("button", name="Add a clip").click()
    press(page, "Turn the camera on")
    press(page, "Start recording")
    page.get_by_text("s of at most 60 s").wait_for()
    page.keyboard.press("Escape")
    page.get_by_label("What the camera sees").wait_for(state="detached")
    assert page.evaluate(LIVE) == ["video ended"]
    expect(page.get_by_role("combobox", name="Clip")).to_have_value("Sample 1")


def test_a_recording_stops_by_itself_and_is_not_sent_when_it_is_too_large(visit, page, camera):
    page.add_init_script(LARGE)
    page = visit("/video?model=timm:test_vit@random:0&film_stride=10&film_side=112")
    page.get_by_role("button", name="Add a clip").click()
    press(page, "Turn the camera on")
    press(page, "Start recording")
    page.evaluate("() => { const now = performance.now(); performance.now = () => now + 60_000; }")
    expect(page.get_by_text("The recording takes 101 MB, and at most 100 MB are taken")).to_be_visible(timeout=PATIENCE)
    assert page.evaluate(LIVE) == ["video ended"]
    assert page.locator("input[type=file]").evaluate("(input) => input.files.length") == 0


def test_a_camera_that_is_not_lent_is_answered_in_a_sentence(visit):
    page = visit("/video?model=timm:test_vit@random:0&film_stride=10&film_side=112")
    page.get_by_role("button", name="Add a clip").click()
    for change, sentence in {
        "() => {}": "The browser does not lend this page the camera: allow it",
        "() => { delete window.MediaRecorder; }": "This browser cannot record video: use a current",
        "() => Object.defineProperty(window, 'isSecureContext', { value: false })": "Browsers lend a camera only to",
    }.items():
        page.evaluate(change)
        press(page, "Turn the camera on")
        expect(page.get_by_text(sentence)).to_be_visible(timeout=PATIENCE)


def test_a_model_that_cannot_be_loaded_is_named_beside_the_film_of_the_others(visit):
    page = visit("/video?model=timm:test_vit@random:0&model=dino-s16&film_stride=10&film_side=112")
    expect(page.get_by_text(re.compile("is not in the film.*hub", re.IGNORECASE))).to_be_visible(timeout=PATIENCE)
    assert "dino" not in page.locator("[data-testid=stVideo]").get_attribute("aria-label").lower()
