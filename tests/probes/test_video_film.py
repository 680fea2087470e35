"""Films: what is computed of frames, how it is drawn, and the files that come of it."""

import io
import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import probes
from model_zoo.images import ImageSource, sources
from model_zoo.loading import load
from probes.core.colour_map import colours
from probes.core.command import main
from probes.core.runner import run
from probes.core.saliency import mass_mask
from probes.core.video import film
from probes.core.video.clip import Part, VideoError
from probes.core.video.drawing import paint
from probes.core.video.framing import framing
from probes.core.video.maps import Maps, Show
from probes.core.video.reading import FileClip
from probes.core.video.scene_clip import SceneClip
from probes.core.video.screen import Style
from probes.core.video.stability import Stability, correlation, on_object
from probes.core.video.tape import Tape, clip_scale, smoothed
from tests.probes.clips import clip, pictures

TINY = "timm:test_vit@random:0"


@pytest.fixture(scope="module")
def models():
    return {"first": load(TINY, image_size=(48, 64)), "second": load("timm:test_vit2@random:1", image_size=(48, 64))}


def opened(data: bytes, part: Part | None = None) -> FileClip:
    return FileClip(io.BytesIO(data), part, name="clip")


def made(models, source, out: Path, *, show: Show | None = None, style: Style | None = None, **more):
    return film.make(models, source, framing(source.size, [16], 48), out, show=show, style=style, **more)


def decoded(path: Path):
    with av.open(path) as container:
        frames = list(container.decode(video=0))
        return [f.to_ndarray(format="rgb24") for f in frames], [float(f.time or 0) for f in frames], container.duration


def test_a_film_plays_anywhere_and_keeps_the_times_of_the_clip(models, tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.5, 0.6, 1.6]
    result = made(models, opened(clip(pictures(5), times=times)), tmp_path / "out.mp4", batch_size=2)
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "its index is in front, so that it plays while it loads"
    with av.open(tmp_path / "out.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == result.size
        assert (stream.width % 2, stream.height % 2) == (0, 0)
    _, seconds, duration = decoded(tmp_path / "out.mp4")
    assert seconds == pytest.approx(times, abs=2e-3)
    assert duration / 1e6 == pytest.approx(2.6, abs=0.02), "the last frame stays as long as the one before"
    assert (result.frames, result.duration) == (5, pytest.approx(2.6, abs=2e-3))


def test_maps_of_frames_are_those_of_the_probes(models) -> None:
    frames = pictures(3)
    images = [ImageSource(str(i), lambda frame=frame: Image.fromarray(frame)) for i, frame in enumerate(frames)]
    asked = {"maps": probes.load("attention-maps")(layers="last"), "rollout": probes.load("attention-rollout")()}
    found = run({"m": models["first"]}, images, asked)
    heads = found["maps"]["m"]["attention"].values[:, 0]
    adapter = models["first"]
    np.testing.assert_allclose(Maps(adapter, Show()).of(frames), heads.mean(1), rtol=1e-5)
    np.testing.assert_allclose(Maps(adapter, Show(head="1")).of(frames), heads[:, 1], rtol=1e-5)
    np.testing.assert_allclose(
        Maps(adapter, Show("rollout")).of(frames), found["rollout"]["m"]["rollout"].values, rtol=1e-5
    )


def test_the_best_head_is_chosen_on_scenes_and_named() -> None:
    adapter = load("scenes-vit-dino", image_size=(64, 64))
    score = probes.load("saliency-score")(steps=0, tau=0.6)
    found = run({"m": adapter}, sources(["scenes:16"]), {"score": score}, dtype="float32")["score"]["m"]
    best = int(found["iou"].mean("image").values.argmax())
    maps = Maps(adapter, Show(head="best"))
    assert maps.head == best
    assert maps.note == f"layer {len(adapter.spec.layers)}, head {best + 1}, best on 16 scenes"


def test_patch_colours_do_not_change_while_the_picture_does_not(models) -> None:
    frames = pictures(6, still=True)
    maps = Maps(models["first"], Show("pca"))
    maps.fit(frames[:2])
    found = maps.of(frames)
    assert found.shape == (6, 3, 4, 3)
    assert found.std() > 0.1, "there are colours"
    np.testing.assert_allclose(found[0], found[-1], atol=1e-6)
    np.testing.assert_allclose(maps.of(pictures(9)[-1:])[0, 0, 0], found[0, 0, 0], atol=0.6)


def test_a_still_clip_is_perfectly_stable_and_a_moving_one_is_not(models, tmp_path: Path) -> None:
    still = made(models, opened(clip(pictures(5, still=True))), tmp_path / "still.mp4").models["first"]
    assert still["stability"] == pytest.approx(1.0, abs=1e-3)
    moving = made(models, opened(clip(pictures(5))), tmp_path / "moving.mp4").models["first"]
    assert moving["stability"] < still["stability"]
    assert moving["iou"] is moving["stability_on_object"] is None, "there are no masks"


def test_stability_is_the_mean_correlation_of_successive_maps() -> None:
    maps = np.random.default_rng(0).random((4, 5, 7))
    numbers = Stability(0.6)
    for values in maps:
        numbers.add(values, None)
    expected = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairwise(maps)])
    assert numbers.means()["stability"] == pytest.approx(expected)
    assert correlation(np.ones(4), np.ones(4)) == 1.0
    assert np.isnan(correlation(np.ones(4), np.arange(4.0)))


def test_a_map_that_moves_with_its_object_is_stable_on_it_though_not_in_the_picture() -> None:
    numbers = Stability(0.6)
    for place in range(4):
        mask, values = np.zeros((80, 160), bool), np.zeros((10, 20))
        mask[24:56, 16 + 32 * place : 48 + 32 * place] = True
        values[3:7, 2 + 4 * place : 6 + 4 * place] = np.arange(16).reshape(4, 4) + 1
        numbers.add(values, mask)
        assert on_object(values, mask) is not None
    means = numbers.means()
    assert means["stability_on_object"] == pytest.approx(1.0, abs=0.02)
    assert means["stability"] < 0.2
    assert numbers.overlap == pytest.approx([7 / 16] * 4), "16 + 15 + … + 10 of 136 is the first above 60 %"
    assert on_object(values, np.zeros((80, 160), bool)) is None


def test_iou_on_the_drawn_clip_is_that_of_the_saliency_score(models, tmp_path: Path) -> None:
    source = SceneClip(3, Part(stride=24))
    adapter = load(TINY, image_size=(224, 224))
    frame = framing(source.size, [16], 224)
    numbers = film.make({"m": adapter}, source, frame, tmp_path / "out.mp4", show=Show(tau=0.5)).models["m"]
    images = [
        ImageSource(str(i), lambda p=f.pixels: Image.fromarray(p), lambda m=f.mask: m)
        for i, f in enumerate(source.frames())
    ]
    score = probes.load("saliency-score")(steps=0, tau=0.5, map="mean")
    found = run({"m": adapter}, images, {"score": score}, dtype="float32")["score"]["m"]["iou"].values
    np.testing.assert_allclose(numbers["each"]["iou"], found, atol=1e-6)
    assert numbers["iou"] == pytest.approx(np.mean(numbers["each"]["iou"]))
    assert len(numbers["each"]["stability_on_object"]) == 2


def test_the_threshold_is_applied() -> None:
    values = np.random.default_rng(1).random((6, 8)) ** 4
    frame = np.full((60, 80, 3), 200, np.uint8)
    for tau in (0.3, 0.6, 0.9):
        drawn = paint(frame, values, 1.0, "mask", "map", tau)
        inside = (drawn == colours(np.array(1.0), 0, 1)).all(-1)
        assert np.array_equal(inside[5::10, 5::10], mass_mask(values, tau))
        cut = paint(frame, values, 1.0, "attention", "cutout", tau)
        assert np.array_equal((cut[5::10, 5::10] == 200).all(-1), mass_mask(values, tau))


def test_one_scale_holds_for_all_frames_and_models(models, tmp_path: Path) -> None:
    data = clip(pictures(6))
    result = made(models, opened(data), tmp_path / "out.mp4")
    seen = [framing((64, 48), [16], 48).seen(frame.pixels) for frame in opened(data).frames()]
    values = np.concatenate([Maps(adapter, Show()).of(seen).ravel() for adapter in models.values()])
    high = np.percentile(values, 99)
    assert result.scale == pytest.approx(high if high < 0.7 * values.max() else values.max(), rel=1e-4)
    assert made(models, opened(data), tmp_path / "out.mp4", style=Style(scale="frame")).scale is None


def test_the_scale_of_a_film_does_not_follow_a_few_towering_values() -> None:
    rng = np.random.default_rng(2)
    with Tape() as tape:
        tape.append(rng.random((300, 5, 5)))
        assert clip_scale([tape]) == (pytest.approx(1.0, abs=1e-2), False)
        tower = np.zeros((1, 5, 5))
        tower[0, 0, 0] = 50
        tape.append(tower)
        high, beyond = clip_scale([tape])
        assert high == pytest.approx(0.99, abs=0.03)
        assert beyond
        read = list(tape)
        assert len(read) == 301
        assert read[-1][0, 0] == 50


def test_smoothing_is_the_stated_recursion() -> None:
    maps = np.random.default_rng(3).random((5, 2, 3))
    expected = [maps[0]]
    for values in maps[1:]:
        expected.append(0.7 * expected[-1] + 0.3 * values)
    np.testing.assert_allclose(list(smoothed(iter(maps), 0.7)), expected)
    np.testing.assert_array_equal(list(smoothed(iter(maps), 0.0)), maps)


def test_memory_does_not_grow_with_the_clip(models, tmp_path: Path) -> None:
    peaks = []
    for count in (24, 24, 240):
        data = clip(pictures(count))
        tracemalloc.start()
        made({"first": models["first"]}, opened(data), tmp_path / "out.mp4", batch_size=4)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1]


def test_a_film_that_is_stopped_leaves_nothing(models, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "drawing" and done == 3:
            raise RuntimeError("stop")

    (tmp_path / "out.mp4").write_bytes(b"what was there")
    with pytest.raises(RuntimeError, match="stop"):
        made(models, opened(clip(pictures(6))), tmp_path / "out.mp4", on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"what was there"


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_for_slides(models, tmp_path: Path, suffix: str) -> None:
    result = made(models, opened(clip(pictures(12), rate=5)), tmp_path / f"out{suffix}")
    with Image.open(tmp_path / f"out{suffix}") as animation:
        assert animation.n_frames == 12
        assert animation.width == min(result.size[0], 960)
        lengths = []
        for place in range(12):
            animation.seek(place)
            animation.load()
            lengths.append(animation.info["duration"])
    assert sum(lengths) == pytest.approx(1000 * result.duration, abs=40)


def test_a_model_without_the_map_says_why_and_the_others_are_shown(models, tmp_path: Path) -> None:
    both = {"net": load("timm:resnet18@random:0", image_size=(64, 64)), "vit": load(TINY, image_size=(64, 64))}
    source = opened(clip(pictures(2, (64, 64))))
    frame = framing(source.size, [32, 16], 64)
    numbers = film.make(both, source, frame, tmp_path / "out.mp4").models
    assert "no attention" in numbers["net"]["undefined"]
    assert numbers["vit"]["stability"] is not None
    with pytest.raises(VideoError, match="Nothing can be shown of net"):
        film.make({"net": both["net"]}, source, frame, tmp_path / "none.mp4")
    assert not (tmp_path / "none.mp4").exists()


def test_the_command_makes_a_film_and_prints_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip(pictures(4, (65, 47))))
    out = tmp_path / "film.mp4"
    arguments = ["video", "--model", f"a={TINY}", "--input", str(tmp_path / "clip.mp4"), "--out", str(out)]
    assert main([*arguments, "--short-side", "48", "--json", "--head", "0", "--draw", "cutout"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["models"]["a"]["shown"] == f"layer {len(load(TINY).spec.layers)}, head 1"
    assert -1 <= told["models"]["a"]["stability"] <= 1
    assert told["frames"] == 4
    assert "cut to whole patches" in told["region"]
    assert len(decoded(out)[0]) == 4


WRONG = {
    "no file": (["--input", "nothing.mp4"], "is no file"),
    "not a video": (["--input", __file__], "not a video"),
    "head": (["--input", "scene:0", "--head", "most"], "must be mean, best, or an index"),
    "kind": (["--input", "scene:0", "--show", "saliency"], "must be one of attention, rollout, mask, pca"),
    "tau": (["--input", "scene:0", "--tau", "0"], "above 0 and at most 1"),
    "smooth": (["--input", "scene:0", "--smooth", "1"], "at least 0 and below 1"),
    "part": (["--input", "scene:0", "--start", "3", "--end", "2"], "after the start"),
    "side": (["--input", "scene:0", "--short-side", "8"], "take 16 to 4096 px"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_ends_with_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, said = WRONG[name]
    assert main(["video", "--model", TINY, "--out", str(tmp_path / "out.mp4"), *given]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_loaded_ends_the_command_before_any_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = f"timm:test_vit@{tmp_path / 'gone.safetensors'}"
    out = str(tmp_path / "out.mp4")
    assert main(["video", "--model", TINY, "--model", f"other={gone}", "--input", "scene:0", "--out", out]) == 2
    error = capsys.readouterr().err
    assert "gone.safetensors" in error
    assert error.startswith("python -m probes video: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_ending_is_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["video", "--model", TINY, "--input", "scene:0", "--out", str(tmp_path / "out.avi")]) == 2
    assert "ends in .mp4, .gif or .webp" in capsys.readouterr().err
