"""Zips that nobody vouches for."""

import io
import struct
import zipfile

import pytest
from PIL import Image

from dashboard.images import archives, gallery, sets
from model_zoo.decoding import ImageError


def png(colour=(200, 10, 10), size=(32, 24)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def packed(entries, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def test_images_are_found_with_their_folder_as_class_and_the_rest_is_counted():
    data = packed([("set/cats/a.png", png()), ("b.png", png((0, 0, 0))), ("notes.txt", b"no"), (".DS_Store", b"x")])
    found = archives.unpack(data)
    assert [(name, kind) for name, kind, _ in found.images] == [("b.png", ""), ("a.png", "cats")]
    assert found.skipped == 2


@pytest.mark.parametrize("name", ["../../etc/passwd.png", "/etc/x.png", "C:\\windows\\y.png", "a/../../b.png"])
def test_paths_are_only_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = archives.unpack(packed([(name, png())]))
    assert "/" not in found.images[0][0]
    assert "\\" not in found.images[0][0]
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_is_skipped_without_being_unpacked():
    bomb = packed([("big.png", b"\0" * (30 * 2**20)), ("ok.png", png())], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    found = archives.unpack(bomb)
    assert [name for name, _, _ in found.images] == ["ok.png"]
    assert found.skipped == 1


def test_a_size_that_lies_is_not_believed(monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES_EACH", 50)
    data = bytearray(packed([("a.png", png())]))
    place = data.rfind(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 10)  # the directory says 10 bytes
    with pytest.raises(ImageError, match="holds no image"):
        archives.unpack(bytes(data))


def test_number_and_total_size_are_bounded(monkeypatch):
    data = packed([(f"{i}.png", png((i, 0, 0))) for i in range(6)])
    monkeypatch.setattr(archives, "MOST_IMAGES", 4)
    found = archives.unpack(data)
    assert len(found.images) == 4
    assert "Only the first 4" in found.notes[0]
    monkeypatch.setattr(archives, "MOST_IMAGES", 100)
    monkeypatch.setattr(archives, "MOST_BYTES", 2 * len(png()) + 20)
    found = archives.unpack(data)
    assert 1 <= len(found.images) <= 3
    assert "unpacks to more" in found.notes[0]
    monkeypatch.setattr(archives, "MOST_ENTRIES", 5)
    with pytest.raises(ImageError, match="holds 6 files"):
        archives.unpack(data)


@pytest.mark.parametrize("data", [b"", b"no zip", packed([])[:10], png()])
def test_what_is_no_zip(data):
    with pytest.raises(ImageError, match="not a zip"):
        archives.unpack(data)


@pytest.mark.parametrize("name", [".", "./.", "", "..", "a/..", "x\x1b[31m\n.png", "/"])
def test_odd_names_are_no_crash_and_reach_no_terminal(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ok.png", png())
        archive.writestr(entry := zipfile.ZipInfo(name or "x"), png((1, 2, 3)))
        entry.filename = name  # zipfile writes no empty name; in the directory at the end it stands
    found = archives.unpack(buffer.getvalue())
    assert "ok.png" in {shown for shown, _, _ in found.images}
    for shown, kind, _ in found.images:
        assert shown
        assert shown.isprintable()
        assert kind.isprintable()


def test_the_pixels_of_a_zip_are_bounded(monkeypatch):
    data = packed([(f"{i}.png", png((i, 0, 0), (100, 100))) for i in range(6)])
    monkeypatch.setattr(archives, "MOST_PIXELS", 35_000)
    found = archives.unpack(data)
    assert len(found.images) == 3
    assert "million pixels" in found.notes[0]


def test_what_is_no_image_counts_towards_the_bytes_that_are_unpacked(monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 10_000)
    found = archives.unpack(packed([("0.png", png()), *((f"{i}.bin", bytes(4_000)) for i in range(1, 9))]))
    assert len(found.images) == 1
    assert found.skipped == 3
    assert "unpacks to more" in found.notes[0]


@pytest.mark.parametrize(
    ("limit", "most", "kept", "says"),
    [
        ("MOST_IMAGES", 4, 4, "Only the first 4 images of the upload are shown."),
        (
            "MOST_BYTES",
            2 * len(png()) + 20,
            2,
            "The upload holds more than 0 MiB: only the images up to there are shown.",
        ),
        ("MOST_PIXELS", 3 * 32 * 24, 3, "The upload holds more than 0 million pixels: only the images up to there"),
    ],
)
def test_single_files_have_the_limits_of_a_zip(limit, most, kept, says, monkeypatch):
    monkeypatch.setattr(archives, limit, most)
    name, notes = sets.SETS.add([(f"{i}.png", png((i, 7, 7))) for i in range(6)])
    assert len(sets.SETS.get(name).images) == kept
    assert len(notes) == 1
    assert notes[0].startswith(says)


def test_an_image_that_cannot_be_decoded_is_skipped_when_the_set_is_made():
    noise = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(noise, "PNG")
    _, notes = sets.SETS.add([("x.zip", packed([("a.png", png((3, 3, 3))), ("b.png", noise.getvalue()[:9000])]))])
    assert notes == ["1 file was skipped: no image, or too large."]


def test_a_damaged_entry_is_skipped():
    data = bytearray(packed([("a.png", png()), ("b.png", png((1, 2, 3)))], zipfile.ZIP_DEFLATED))
    data[45:60] = b"\xff" * 15
    assert archives.unpack(bytes(data)).skipped == 1


def test_a_zip_inside_a_zip_is_no_image():
    with pytest.raises(ImageError, match="no image that can be read"):
        archives.unpack(packed([("inner.zip", packed([("a.png", png())]))]))


def test_a_set_is_named_by_its_content_and_says_what_was_skipped():
    files = [("x.zip", packed([("dogs/a.png", png((9, 9, 9))), ("cats/b.png", png((8, 9, 9))), ("c.txt", b"c")]))]
    name, notes = sets.SETS.add(files)
    assert name == sets.SETS.add(files)[0]
    kept = sets.SETS.get(name)
    assert kept.classes == ("cats", "dogs")
    assert all(gallery.missing(image) is None for image in kept.images)
    assert notes == ["1 file was skipped: no image, or too large."]
    assert sets.SETS.get("zip-000000000000") is None
    with pytest.raises(ImageError, match="None of the files"):
        sets.SETS.add([("a.png", b"nothing")])


def test_sets_of_scenes_know_their_classes():
    from model_zoo.scenes import CLASSES, Scenes

    found = sets.named("scenes-32", ("photo:coffee",))
    assert len(found.images) == len(found.classes) == 32
    assert found.classes[7] == CLASSES[int(Scenes().batch([7]).labels[0])]
    chosen = sets.named("chosen", ("photo:coffee", "scene:1"))
    assert chosen.classes == ()
    assert chosen.title == "2 chosen images"
