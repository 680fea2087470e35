"""Images that nobody vouches for: shown right, or refused in one sentence."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_zoo.images import ImageError, open_image, sources


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
    monkeypatch.setattr("model_zoo.images.MAX_BYTES", 1000)
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
