"""Clips that are as they should be, and clips that are not."""

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from probes.core.video.clip import Limits, Part, VideoError
from probes.core.video.framing import framing, sheet
from probes.core.video.reading import FileClip
from tests.probes.clips import clip, pictures, recording, sound


def read(data: bytes, part: Part | None = None, limits: Limits | None = None):
    found = FileClip(io.BytesIO(data), part, limits, name="clip")
    return found, list(found.frames())


def test_frames_come_as_they_were_written_each_time() -> None:
    written = pictures(8)
    found, frames = read(clip(written))
    assert found.size == (64, 48)
    assert found.expected == 8
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(8) / 10)
    for frame, pixels in zip(frames, written, strict=True):
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 3
    again = list(found.frames())
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(frames, again, strict=True))
    assert found.notes == ()


@pytest.mark.parametrize(("form", "codec"), [("matroska", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")])
def test_common_containers(form: str, codec: str) -> None:
    found, frames = read(clip(pictures(6), form=form, codec=codec, pix_fmt="yuv420p"))
    assert (found.size, len(frames)) == ((64, 48), 6)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_respected(rotation: int) -> None:
    found, frames = read(clip(pictures(3), rotation=rotation))
    turned = np.rot90(pictures(3)[0], rotation // 90)
    assert found.size == (turned.shape[1], turned.shape[0])
    assert np.abs(frames[0].pixels.astype(int) - turned).mean() < 3


def test_pixels_that_are_not_square_become_so() -> None:
    found, frames = read(clip(pictures(2), wide=2))
    assert found.size == (128, 48)
    assert np.abs(frames[0].pixels[:, ::2].astype(int) - pictures(2)[0]).mean() < 6


def test_variable_frame_rate_keeps_its_times() -> None:
    times = [0.0, 0.04, 0.5, 0.54, 2.0]
    _, frames = read(clip(pictures(5), times=times))
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=2e-3)


@pytest.mark.parametrize("form", ["webm", "mp4"])
def test_a_recording_of_a_browser_has_its_times_and_a_length_though_no_header_says_it(form: str) -> None:
    times = [0.0, 0.031, 0.07, 0.1, 0.21, 0.25, 0.3, 0.33, 0.5, 0.9, 1.0, 1.2]
    data = recording(pictures(12), times, form)
    found, frames = read(data, Part(0, 6, 2))
    assert [frame.seconds for frame in frames] == pytest.approx(times[::2], abs=2e-3)
    assert found.expected == 6
    assert found.notes == ()
    with pytest.raises(VideoError, match=r"clip ends after 1\.\d s: choose an earlier start than 5 s"):
        read(data, Part(5, 11))


def test_a_recording_that_breaks_off_gives_what_came() -> None:
    data = recording(pictures(40), [index / 20 for index in range(40)])
    found, frames = read(data[: len(data) * 2 // 3])
    assert 10 < len(frames) < 40
    assert found.expected == pytest.approx(len(frames), abs=1)


def test_a_part_is_taken_by_time_and_stride() -> None:
    data = clip(pictures(60))
    _, frames = read(data, Part(start=3.0, end=4.0, stride=3))
    assert [frame.seconds for frame in frames] == pytest.approx([3.0, 3.3, 3.6, 3.9])
    whole = read(data)[1]
    assert np.array_equal(frames[1].pixels, whole[33].pixels), "seeking gives the same frames"


def test_a_file_that_breaks_off_gives_its_readable_part_and_says_what_is_lost() -> None:
    data = clip(pictures(80))
    _, whole = read(data)
    found, frames = read(data[: len(data) * 2 // 3])
    assert 20 < len(frames) < 80
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(frames, whole, strict=False))
    assert any("breaks off at" in note and "of 8.0 s" in note for note in found.notes)


def test_damage_in_the_middle_is_left_out_and_counted() -> None:
    data = bytearray(clip(pictures(40), form="matroska"))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    found, frames = read(bytes(data))
    assert 4 < len(frames) <= 40
    assert [frame.seconds for frame in frames] == sorted(frame.seconds for frame in frames)
    assert len(frames) == 40 or found.notes


def test_a_damaged_index_is_said() -> None:
    data = bytearray(clip(pictures(20)))
    at = data.index(b"stco") + 12
    data[at : at + 4] = struct.pack(">I", 2**31 - 1)
    with pytest.raises(VideoError, match="no frame that can be read"):
        read(bytes(data))


def test_a_size_without_half_pixels_is_read_as_it_is() -> None:
    found, frames = read(clip(pictures(3, (65, 47))))
    assert found.size == (65, 47)
    assert frames[0].pixels.shape == (47, 65, 3)


REFUSED = {
    "not a video": (b"GIF is not what this is" * 9, "not a video"),
    "a list of other files": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n", "not a video"),
    "a script for joining": (b"ffconcat version 1.0\nfile /etc/passwd\n", "not a video"),
    "nothing": (b"", "is empty"),
    "no index": (clip(pictures(20), faststart=False)[:900], "cut off"),
    "only sound": (sound(), "only sound"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_clip_is_refused_in_a_sentence(name: str) -> None:
    data, said = REFUSED[name]
    with pytest.raises(VideoError, match=said) as error:
        FileClip(io.BytesIO(data), name="clip")
    assert "\n" not in str(error.value)


def test_no_frame_at_all_is_refused() -> None:
    data = clip(pictures(1))
    at = data.index(b"mdat")
    with pytest.raises(VideoError, match="no frame that can be read"):
        FileClip(io.BytesIO(data[: at + 4] + bytes(len(data) - at - 4)), name="clip")


def test_a_start_after_the_end_says_how_long_the_clip_is() -> None:
    with pytest.raises(VideoError, match=r"ends after 0\.[56] s"):
        FileClip(io.BytesIO(clip(pictures(6))), Part(start=30), name="clip")


def test_large_frames_and_long_clips_are_refused_before_decoding() -> None:
    data = bytearray(clip(pictures(3)))
    with pytest.raises(VideoError, match=r"64 × 48 px; at most 0\.0 million"):
        FileClip(io.BytesIO(bytes(data)), limits=Limits(pixels=64 * 47), name="clip")
    long = clip(pictures(4), times=[0.0, 1.0, 2.0, 3 * 3600.0])
    with pytest.raises(VideoError, match="3 h 0 min are asked for, and at most 10 min"):
        FileClip(io.BytesIO(long), name="clip")
    assert len(read(long, Part(end=60))[1]) == 3


def test_limits_hold_also_where_no_header_says_how_long_it_is() -> None:
    data = clip(pictures(40), form="matroska", options={"live": "1"})
    with av.open(io.BytesIO(data)) as container:
        assert container.duration is None
    found, frames = read(data, limits=Limits(seconds=1.0))
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(10) / 10)
    assert any("only the first 1 s" in note for note in found.notes)
    found, frames = read(clip(pictures(40)), limits=Limits(frames=7))
    assert len(frames) == 7
    assert any("only the first 7 frames" in note for note in found.notes)
    found, frames = read(clip(pictures(40)), limits=Limits(decoded=12))
    assert len(frames) == 12
    assert any("12 frames were decoded" in note for note in found.notes)


def test_a_path_is_read_and_named(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(clip(pictures(3)))
    assert FileClip(tmp_path / "film.mp4").name == "film.mp4"


@pytest.mark.parametrize(
    ("clip_size", "steps", "short", "size"),
    [
        ((640, 360), [16], 224, (224, 384)),
        ((360, 640), [16], 224, (384, 224)),
        ((640, 360), [16, 14], 224, (224, 336)),
        ((224, 224), [8, 16], 224, (224, 224)),
        ((65, 47), [16], 32, (32, 32)),
    ],
)
def test_the_region_is_whole_patches_of_all_models(clip_size, steps, short, size) -> None:
    found = framing(clip_size, steps, short)
    assert found.size == size
    left, top, right, bottom = found.box
    assert 0 <= left < right <= clip_size[0]
    assert 0 <= top < bottom <= clip_size[1]
    assert (right - left) / (bottom - top) == pytest.approx(size[1] / size[0], rel=0.03)
    assert abs(left - (clip_size[0] - right)) <= 1, "the middle"


def test_a_side_below_a_patch_says_what_would_do() -> None:
    with pytest.raises(VideoError, match="take 112 to 4096 px, in steps of 112"):
        framing((640, 360), [16, 14], 100)


@pytest.mark.parametrize(("region", "panels", "columns"), [((640, 360), 3, 3), ((640, 360), 4, 2), ((224, 224), 4, 4)])
def test_panels_fill_a_screen(region, panels, columns) -> None:
    found = sheet(region, panels, above=34, below=38)
    assert found.columns == columns
    assert all(side % 2 == 0 for side in found.panel)
    assert found.columns * found.panel[0] <= 1920
    assert found.rows * found.panel[1] <= 1080
