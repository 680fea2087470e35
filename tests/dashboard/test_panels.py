import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dashboard.draw import export, palette, panels
from dashboard.draw.panels import Look, Panel, Row, Scale, checked_point
from dashboard.images import gallery
from model_zoo.adapter import Geometry

PICTURE = "photo:coffee"
SIZE = gallery.load(PICTURE).size
GEOMETRY = Geometry(SIZE, (100.0, 0.0, 500.0, 400.0), (224, 224))
VALUES = np.arange(12.0).reshape(3, 4) / 100


def described(panel, scale=None, **look):
    return panels.described(panel, PICTURE, scale or Scale.over([VALUES], "attention weight"), Look(**look))


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_a_map_is_drawn_one_pixel_a_patch_over_the_models_crop_only():
    entry = described(Panel("a", "#0072B2", geometry=GEOMETRY, values=VALUES))
    assert entry["state"] == "ready"
    assert entry["grid"] == [3, 4]
    assert entry["exact"]
    assert entry["box"] == pytest.approx([100 / 600, 0, 500 / 600, 1])
    drawn = pixels(entry["map"])
    assert drawn.shape == (3, 4, 4)
    assert (drawn[-1, -1, :2] > 180).all()  # the largest value is yellow
    assert drawn[-1, -1, 2] < 100
    assert entry["values"][5] == "0.05"
    assert entry["places"][0] == 0.0
    assert entry["places"][-1] == 1.0


def test_the_photograph_is_seen_where_values_are_low_and_not_at_all_under_a_flat_map():
    panel = Panel("a", "#0072B2", geometry=GEOMETRY, values=VALUES)
    over, flat = (pixels(described(panel, flat=flat)["map"]) for flat in (False, True))
    opacity = over[..., 3].ravel() / 255
    assert opacity[0] == pytest.approx(0.05, abs=0.002)
    assert opacity[1:3] == pytest.approx(0.05 + 1.1 * (VALUES.ravel()[1:3] / 0.11) ** 0.7, abs=0.002)
    assert opacity[-1] == pytest.approx(0.92, abs=0.002)
    assert (np.diff(opacity) >= 0).all()
    assert flat.shape == (3, 4, 3)
    assert (flat == over[..., :3]).all(), "the same colours"


def test_a_signed_map_shows_the_photograph_around_zero():
    values = np.array([[-0.2, -0.1, 0.0, 0.1, 0.2]])
    scale = Scale.over([values], "difference", signed=True)
    drawn = pixels(described(Panel("a", "#0072B2", geometry=GEOMETRY, values=values), scale)["map"])[0].astype(int)
    assert drawn[:, 3].tolist() == drawn[::-1, 3].tolist()
    assert (drawn[2, 3], drawn[0, 3]) == (round(0.05 * 255), round(0.92 * 255))
    assert drawn[0, 2] > drawn[0, 0], "blue"
    assert drawn[4, 0] > drawn[4, 2], "orange"


def test_what_is_drawn_for_a_value_is_what_the_bar_shows_over_the_photographs_grey():
    grey = gallery.UPLOADS.add(encoded(Image.new("RGB", (600, 400), (128, 128, 128))), "grey.png")
    panel = Panel("a", "#0072B2", geometry=GEOMETRY, values=VALUES)
    scale = Scale.over([VALUES], "attention weight")
    text = export.svg(grey, [panel], scale=scale, look=Look(), title="t", caption="c")
    picture = np.asarray(Image.open(io.BytesIO(export.png(text))).convert("RGB")).astype(float)
    ramp = palette.ramp(flat=False, steps=12)
    left, top, width = export.MARGIN + export.WIDTH + export.GAP, export.MARGIN + 40 + export.HEAD, export.WIDTH
    for patch, wanted in enumerate(ramp):
        row, column = divmod(patch, 4)
        x = left + (100 + (column + 0.5) * 100) / 600 * width
        y = top + (row + 0.5) * 400 / 3 / 600 * width
        assert picture[round(2 * y), round(2 * x)] == pytest.approx(wanted, abs=3)


def test_smooth_is_finer_and_not_called_exact():
    entry = described(Panel("a", "#0072B2", geometry=GEOMETRY, values=VALUES), smooth=True)
    assert not entry["exact"]
    assert pixels(entry["map"]).shape == (48, 64, 4)


def test_the_same_value_has_the_same_colour_in_panels_of_one_scale():
    other = np.full((2, 2), 0.05)
    scale = Scale.over([VALUES, other], "attention weight")
    first = pixels(described(Panel("a", "#0072B2", geometry=GEOMETRY, values=VALUES), scale)["map"])
    second = pixels(described(Panel("b", "#E69F00", geometry=GEOMETRY, values=other), scale)["map"])
    assert (first[1, 1] == second[0, 0]).all()


def test_a_scale_of_its_own_is_drawn_with_a_bar_of_its_own():
    panel = Panel("a", "#0072B2", geometry=GEOMETRY, values=VALUES, scale=Scale.over([VALUES], "attention weight"))
    assert described(panel)["bar"]["high"] == "0.11 attention weight"


def test_a_mask_darkens_what_is_outside_and_draws_its_border():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    entry = described(Panel("a", "#0072B2", geometry=GEOMETRY, values=VALUES, mask=mask))
    veil = pixels(entry["map"])
    assert veil[1, 2, 3] == 0
    assert veil[0, 0, 3] > 150
    assert entry["contour"].count("M") == 4
    both = described(Panel("a", "#0072B2", geometry=GEOMETRY, values=VALUES, mask=mask, contour_only=True))
    assert set(pixels(both["map"])[..., 3].ravel()) - {0, 195}, "a map, no veil"
    assert both["contour"] == entry["contour"]


def test_an_outline_lies_over_the_whole_picture_on_its_own_grid():
    mask = np.zeros((6, 10), bool)
    mask[2:4, 3:5] = True
    entry = described(Panel("a", "#0072B2", geometry=GEOMETRY, values=VALUES, outline=mask))
    assert entry["contour"].count("M") == 8
    assert (entry["contour_grid"], entry["contour_box"]) == ([6, 10], [0, 0, 1, 1])
    assert entry["grid"] == list(VALUES.shape), "the pointer still reads the map's own patches"


def test_a_scale_over_most_values_ends_below_a_towering_one_and_says_so():
    peaked = np.full((20, 20), 0.01)
    peaked[3, 4] = 0.5
    scale = Scale.over_most([peaked], "attention weight")
    assert scale.high == pytest.approx(0.01)
    assert scale.bar(flat=False)["high"] == "0.01 attention weight or more"
    even = Scale.over_most([np.linspace(0, 1, 400)], "attention weight")
    assert (even.high, even.units) == (1.0, "attention weight")


def test_the_picture_for_a_slide_holds_every_row_with_its_note_and_outline():
    mask = np.zeros((6, 10), bool)
    mask[2:4, 3:5] = True
    drawn = [Panel("ViT", "#0072B2", "layer 3 of 12", GEOMETRY, VALUES)]
    second = Row(PICTURE, drawn, note="second note", outline=mask, outline_of="true object")
    rows = [Row(PICTURE, drawn, note="first note"), second]
    scale = Scale.over([VALUES], "attention weight")
    one, two = (export.rows_svg(some, scale=scale, look=Look(), title="t", caption="c") for some in (rows[:1], rows))
    said = [element.text for element in ET.fromstring(two).iter("{http://www.w3.org/2000/svg}text")]
    assert said.count("ViT") == 2
    assert {"first note", "second note", "true object"} <= set(said)
    assert said.count("0.11 attention weight") == 1, "one bar for all rows"
    assert int(ET.fromstring(two).get("height")) > 1.6 * int(ET.fromstring(one).get("height"))
    assert two.count("M3 2h1") == 2  # the outline, its halo and its line


def test_a_panel_without_a_map_says_why():
    entry = described(Panel("a", "#0072B2", message="Not defined here: it has no attention."))
    assert entry["state"] == "message"
    assert entry["map"] is None
    assert entry["message"] == "Not defined here: it has no attention."
    assert entry["message"] in entry["alt"]


def test_a_signed_scale_is_symmetric():
    scale = Scale.over([np.array([-0.2, 0.5, np.nan])], "difference", signed=True)
    assert (scale.low, scale.high) == (-0.5, 0.5)


@given(
    st.one_of(
        st.none(), st.text(), st.lists(st.floats(), max_size=4), st.integers(), st.dictionaries(st.text(), st.floats())
    )
)
def test_whatever_the_browser_sends_becomes_a_point_or_none(value):
    point = checked_point(value)
    assert point is None or all(0 <= x < 1 for x in point)


def test_the_picture_for_a_slide_holds_every_panel_once():
    drawn = [
        Panel("ViT & <co>", "#0072B2", "layer 3 of 12", GEOMETRY, VALUES),
        Panel("ResNet", "#E69F00", message="Not defined here: no attention."),
    ]
    text = export.svg(
        PICTURE,
        drawn,
        scale=Scale.over([VALUES], "attention weight"),
        look=Look(),
        title="Coffee",
        caption="n = 1. " * 40,
    )
    root = ET.fromstring(text)
    said = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ViT & <co>", "ResNet", "Coffee", "layer 3 of 12", "0.11 attention weight"} <= set(said)
    assert sum("n = 1." in (line or "") for line in said) > 1  # wrapped
    assert {"#0072B2", "#E69F00"} <= {element.get("fill") for element in root.iter()}
    image = Image.open(io.BytesIO(export.png(text)))
    assert image.size == (2 * int(root.get("width")), 2 * int(root.get("height")))
    shown = np.asarray(image.convert("RGB")).reshape(-1, 3).std(axis=0)
    assert (shown > 20).all()  # the photos and the map were drawn, not only text
    heading = np.asarray(image.convert("L"))[2 * 24 : 2 * 50, 2 * 20 : 2 * 120]
    assert (heading < 100).sum() > 200, "the heading was drawn"
