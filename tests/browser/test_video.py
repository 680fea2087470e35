"""A clip is uploaded, and the film that comes of it plays in the browser."""

import pytest

from probes.core.video.drawing import BAR, GAP, LABEL
from probes.core.video.framing import framing, sheet
from tests.probes.clips import clip, pictures

PATIENCE = 240_000
MODELS = "model=timm:test_vit@random:0&model=timm:test_vit@random:1"
STATE = """() => { const video = document.querySelector("[data-testid=stVideo]");
  return video && [video.readyState, video.videoWidth, video.videoHeight, video.duration, video.currentTime]; }"""


def upload(page, settled, path):
    """Choose a file and have the film made of it."""
    page.get_by_role("button", name="Upload a clip").click()
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
