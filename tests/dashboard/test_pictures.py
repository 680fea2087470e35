import io

import numpy as np
import pytest
from PIL import Image

from dashboard.images import gallery
from dashboard.images.gallery import Uploads
from model_zoo.decoding import ImageError


def file_of(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()


def noise(side, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


@pytest.mark.parametrize("identity", gallery.offered())
def test_every_offered_picture_opens_and_says_whose_it_is(identity):
    assert gallery.missing(identity) is None
    assert gallery.load(identity).mode == "RGB"
    assert len(gallery.credit(identity)) > 8
    assert gallery.alt(identity)
    assert gallery.data_uri(identity, 64).startswith("data:image/jpeg;base64,")


def test_an_upload_is_named_by_its_content():
    uploads = Uploads()
    data = file_of(noise(32))
    first, again = uploads.add(data, "a.png"), uploads.add(data, "b.png")
    assert first == again
    assert uploads.add(file_of(noise(32, 1)), "a.png") != first
    assert uploads.get(first)[0] == data


@pytest.mark.parametrize("identity", [*gallery.offered(), "scene:1999"])
def test_the_size_is_the_opened_pictures(identity):
    assert gallery.size(identity) == gallery.load(identity).size


def test_the_size_of_an_upload_is_the_upright_ones_and_known_without_opening_it(monkeypatch):
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by a quarter
    data = file_of(noise(32).resize((48, 32)), format="JPEG", exif=turned)
    identity = gallery.UPLOADS.add(data, "a.jpg")
    assert gallery.load(identity).size == (32, 48)

    def never(*_):
        raise AssertionError("the picture was opened for its size")

    monkeypatch.setattr(gallery, "open_image", never)
    monkeypatch.setattr(gallery, "load", never)
    assert gallery.size(identity) == (32, 48)
    with pytest.raises(LookupError, match="no longer held"):
        gallery.size("upload:0123456789abcdef")


def test_the_store_of_uploads_is_bounded():
    size = len(file_of(noise(64)))
    uploads = Uploads(most_bytes=int(size * 2.5))
    ids = [uploads.add(file_of(noise(64, seed)), f"{seed}.png") for seed in range(3)]
    assert [uploads.get(identity) is not None for identity in ids] == [False, True, True]
    assert [uploads.size(identity) is not None for identity in ids] == [False, True, True]


@pytest.mark.parametrize("data", [b"not an image", file_of(noise(64))[:500], file_of(Image.new("RGB", (1, 1)))])
def test_what_cannot_be_shown_is_not_kept(data):
    uploads = Uploads()
    with pytest.raises(ImageError, match=r"\.$"):
        uploads.add(data, "bad.png")
    assert not uploads._files


@pytest.mark.parametrize(
    "identity", ["upload:0123456789abcdef", "photo:nobody", "scene:x", "", "x" * 500, "upload:../etc"]
)
def test_pictures_that_are_not_there_say_so_in_one_sentence(identity):
    reason = gallery.missing(identity)
    assert reason
    assert reason.endswith(".")
    assert len(reason) < 140


def test_decoded_pictures_are_bounded_in_bytes():
    for shade in range(7):
        identity = gallery.UPLOADS.add(
            file_of(Image.new("RGB", (4000, 4000), (shade, 0, 0)), compress_level=1), "a.png"
        )
        assert gallery.load(identity).size == (4000, 4000)
    held = [value for value in gallery.load.cache.values() if value.size == (4000, 4000)]
    assert 0 < sum(value.width * value.height * 4 for value in held) <= gallery.PICTURE_BYTES
    assert len(held) < 7
