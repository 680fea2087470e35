"""Images that nobody vouches for: shown right, or refused in one sentence."""

import io
import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_zoo import decoding
from model_zoo.command_line import printable
from model_zoo.decoding import ImageError, check_image, open_image
from model_zoo.images import sources


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


REFUSED = {
    "text": (b"hello, world", "not an image"),
    "empty": (b"", "not an image"),
    "pickle": (b"\x80\x04\x95", "not an image"),
    "truncated": (encode(Image.effect_noise((300, 200), 50).convert("RGB"), "JPEG")[:4000], "damaged or cut off"),
    "one pixel": (encode(Image.new("RGB", (1, 1))), "at least 8"),
    "bomb": (png_header(20_000, 20_000), "100,000,000 pixels"),
    "stripe": (png_header(60_000, 10), "60,000 × 10"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(name: str) -> None:
    data, says = REFUSED[name]
    with pytest.raises(ImageError, match=says) as error:
        open_image(data)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_zoo.decoding.MAX_BYTES", 1000)
    with pytest.raises(ImageError, match="larger than"):
        open_image(encode(Image.effect_noise((100, 100), 50)))


def colour(data: bytes, at: tuple[int, int] = (10, 10)) -> tuple[int, ...]:
    image = open_image(data)
    assert image.mode == "RGB"
    return image.getpixel(at)


def test_modes() -> None:
    size = (20, 20)
    assert colour(encode(Image.new("L", size, 100))) == (100, 100, 100)
    assert colour(encode(Image.new("LA", size, (0, 0)))) == (255, 255, 255)
    assert colour(encode(Image.new("RGBA", size, (255, 0, 0, 0)))) == (255, 255, 255)
    assert colour(encode(Image.new("RGBA", size, (255, 0, 0, 255)))) == (255, 0, 0)
    assert colour(encode(Image.new("P", size, 0))) == (0, 0, 0)
    assert colour(encode(Image.new("1", size, 1))) == (255, 255, 255)
    red = colour(encode(Image.new("CMYK", size, (0, 255, 255, 0)), "JPEG", quality=95))
    assert red[0] > 200
    assert max(red[1:]) < 60


def test_sixteen_bits_keep_their_shades() -> None:
    ramp = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    values = np.asarray(open_image(encode(Image.fromarray(ramp))))[..., 0]
    np.testing.assert_allclose(values, ramp / 257, atol=0.51)


def test_float_tiff_is_stretched() -> None:
    values = np.linspace(-1, 3, 400, dtype=np.float32).reshape(20, 20)
    shown = np.asarray(open_image(encode(Image.fromarray(values), "TIFF")))[..., 0]
    assert (shown[0, 0], shown[-1, -1]) == (0, 255)


def test_transparent_palette_is_laid_on_white() -> None:
    image = Image.new("P", (20, 20), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert colour(encode(image, transparency=0)) == (255, 255, 255)


def test_exif_rotation() -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown upright, left becomes top
    upright = open_image(encode(image, "JPEG", exif=exif, quality=95))
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 3))[2] > 200
    assert upright.getpixel((10, 35))[0] > 200


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "blue")]
    assert colour(encode(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


def test_sources(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.jpg", "a.PNG", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            Image.new("RGB", (20, 20)).save(path)
    assert [s.name for s in sources([tmp_path])] == ["a.PNG", "b/1.jpg", "b/2.png"]
    assert len(sources([tmp_path, tmp_path / "a.PNG"])) == 4
    assert len(sources([tmp_path], limit=2)) == 2
    assert sources([tmp_path])[1].open().size == (20, 20)


@pytest.mark.parametrize("path", ["no-such-file.png", "scenes:", "scenes:-1", "scenes:9999999", "scenes:²"])
def test_no_such_source(path: str) -> None:
    with pytest.raises(ImageError):
        sources([path])


def test_scenes_are_the_same_every_time() -> None:
    first, again = (sources(["scenes:3"]) for _ in range(2))
    assert [s.name for s in first] == ["scene-000000", "scene-000001", "scene-000002"]
    assert np.array_equal(np.asarray(first[2].open()), np.asarray(again[2].open()))
    assert not np.array_equal(np.asarray(first[1].open()), np.asarray(first[2].open()))


def scans_repeated(side: int, times: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encode(Image.new("RGB", (side, side), (90, 120, 30)), "JPEG", progressive=True, quality=50)
    last = [match.start() for match in re.finditer(rb"\xff\xda", data)][-1]
    return data[:-2] + data[last:-2] * times + data[-2:]


def test_a_jpeg_of_a_thousand_passes_is_refused_before_it_is_decoded() -> None:
    began = time.thread_time()
    with pytest.raises(ImageError, match="1,010 passes; at most 100"):
        open_image(scans_repeated(2000, 1000))
    assert time.thread_time() - began < 1
    assert open_image(scans_repeated(200, 20)).size == (200, 200)


def test_passes_are_bounded_by_the_pixels_that_they_walk_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_SCANNED", 200 * 200 * 15)
    assert open_image(scans_repeated(200, 4)).size == (200, 200)
    with pytest.raises(ImageError, match="20 passes; at most 15"):
        open_image(scans_repeated(200, 10))


def test_markers_inside_a_comment_are_no_passes() -> None:
    data = encode(Image.new("RGB", (20, 20)), "JPEG", comment=b"\xff\xda\x00\x08" * 500)
    assert open_image(data).size == (20, 20)


@pytest.mark.parametrize("head", [b"P6 2000 2000 100\n", b"P3 2000 2000 255\n"])
def test_slow_decoding_is_broken_off(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_SECONDS", 0.2)
    began = time.thread_time()
    with pytest.raises(ImageError, match="takes longer than"):
        open_image(head + b"1 " * 6_000_000)
    assert time.thread_time() - began < 3


@pytest.mark.parametrize(
    ("name", "image", "kind"),
    [
        ("16-bit", lambda: Image.new("I;16", (6000, 6000), 1500), "PNG"),
        ("float", lambda: Image.new("F", (6000, 6000), 1.5), "TIFF"),
        ("transparent", lambda: Image.new("RGBA", (6000, 6000), (1, 2, 3, 4)), "PNG"),
    ],
)
def test_memory_is_bounded_by_the_decoded_pixels(name: str, image, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    image().save(path, kind, compression="tiff_adobe_deflate") if kind == "TIFF" else image().save(path, kind)
    script = """if True:
        import resource, sys
        from model_zoo.decoding import open_image
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        open_image(sys.argv[1])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    pixel_bytes = int(done.stdout) * 1024 / 6000**2
    assert pixel_bytes < 14  # 8 and the strips, against 29 to 46 of a conversion as a whole


def test_a_picture_of_several_strips_is_the_same_as_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 40, 4), np.uint8)
    deep = noise[..., :2].copy().view(np.uint16)[..., 0]
    kinds = {
        "RGB": encode(Image.fromarray(noise[..., :3])),
        "RGBA": encode(Image.fromarray(noise)),
        "LA": encode(Image.fromarray(noise).convert("LA")),
        "P": encode(Image.fromarray(noise[..., :3]).convert("P"), transparency=3),
        "1": encode(Image.fromarray(noise[..., 0]).convert("1")),
        "CMYK": encode(Image.fromarray(noise[..., :3]).convert("CMYK"), "TIFF"),
        "16": encode(Image.fromarray(deep)),
        "float": encode(Image.fromarray(deep.astype(np.float32) / 7 - 3), "TIFF"),
    }
    whole = {kind: np.asarray(open_image(data)) for kind, data in kinds.items()}
    monkeypatch.setattr(decoding, "STRIP_PIXELS", 40 * 7)
    for kind, data in kinds.items():
        np.testing.assert_array_equal(np.asarray(open_image(data)), whole[kind], kind)


def test_a_colour_profile_stays() -> None:
    assert open_image(encode(Image.new("RGB", (20, 20)), icc_profile=b"profile")).info["icc_profile"] == b"profile"


def test_a_jpeg_above_the_limit_is_opened_at_half_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 50_000)
    picture = Image.new("RGB", (400, 300), "red")
    assert open_image(encode(picture, "JPEG")).size == (200, 150)
    for refused in (
        encode(picture),
        encode(picture, "JPEG", progressive=True),
        encode(picture.resize((800, 600)), "JPEG"),
    ):
        with pytest.raises(ImageError, match="at most 50,000"):
            open_image(refused)


def test_a_check_reads_the_header_alone() -> None:
    assert check_image(encode(Image.effect_noise((300, 200), 50), "JPEG")[:2000]) == (300, 200)
    for data, _ in (REFUSED["text"], REFUSED["one pixel"], REFUSED["bomb"]):
        with pytest.raises(ImageError):
            check_image(data)


def test_sources_are_made_when_they_are_needed() -> None:
    began = time.process_time()
    assert len(sources(["scenes:1000000"], limit=2)) == 2
    assert time.process_time() - began < 0.5
    with pytest.raises(ImageError, match="is not understood"):
        sources(["scenes:" + "9" * 5000])


def test_images_of_one_name_get_different_names(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "x.png" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        Image.new("RGB", (20, 20)).save(path)
    assert [s.name for s in sources(paths)] == [str(path) for path in paths]
    assert [s.name for s in sources([tmp_path / "a", tmp_path / "b"])] == [str(path) for path in paths]
    assert [s.name for s in sources([paths[0], paths[0]])] == [str(paths[0]), f"{paths[0]} (2)"]
    assert [s.name for s in sources(["scenes:1", "scenes:1"])] == ["scene-000000", "scene-000000 (2)"]


def test_names_reach_no_terminal_as_they_are(tmp_path: Path) -> None:
    bad = "a\x1b[31m\n\u202eb.png"
    Image.new("RGB", (20, 20)).save(tmp_path / bad)
    (tmp_path / ("broken" + bad)).write_bytes(b"no image")
    first, second = sources([tmp_path])
    assert first.name == "a\\x1b[31m\\n\\u202eb.png"
    assert first.open().size == (20, 20)
    for attempt in (second.open, lambda: sources([tmp_path / "none\x1b"])):
        with pytest.raises(ImageError) as error:
            attempt()
        assert str(error.value).isprintable()
    assert printable("Grüße \udcff") == "Grüße \\udcff"


def test_images_of_scenes_and_of_folders_know_their_class(tmp_path):
    from model_zoo.scenes import CLASSES, Scenes

    scenes = sources(["scenes:3"])
    true = [CLASSES[label] for label in Scenes().batch(range(3)).labels.tolist()]
    assert [source.label() for source in scenes] == true
    (tmp_path / "star").mkdir()
    for path in (tmp_path / "star" / "a.png", tmp_path / "b.png"):
        Image.new("RGB", (4, 4)).save(path)
    named = {source.name: source.label for source in sources([tmp_path])}
    assert named["star/a.png"]() == "star"
    assert named["b.png"] is None
    assert sources([tmp_path / "star" / "a.png"])[0].label is None


def test_naming_scenes_needs_no_torch() -> None:
    code = "import sys; from model_zoo.images import sources; print(len(sources(['scenes:3'])), 'torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]
