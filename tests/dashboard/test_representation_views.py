"""Figures of the representation pages as data."""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from dashboard.draw import export, position_tiles
from dashboard.draw.figures import layer_squares as cka
from dashboard.views.filters import sheets as filters
from dashboard.views.positions import mosaics

COLOURS = {"a": "#0072B2", "b": "#E69F00"}


def square(layers_a=3, layers_b=4, kinds=("resid_post", "resid_post"), **attrs):
    values = np.random.default_rng(0).random((layers_a, layers_b)) * 0.5
    values[1, 2] = 0.9
    points = [[f"{kind}.{i}" for i in range(n)] for kind, n in zip(kinds, (layers_a, layers_b), strict=True)]
    return xr.Dataset(
        {
            "cka": (("layer_a", "layer_b"), values),
            "cka_sd": (("layer_a", "layer_b"), np.full_like(values, np.nan)),
        },
        coords={"point_a": ("layer_a", points[0]), "point_b": ("layer_b", points[1])},
        attrs={"n": 64, "minibatches": 2, "dropped": 1, "constant": [], "used_a": "cls", "used_b": "cls", **attrs},
    )


def test_cka_square_is_not_transposed_and_has_one_scale():
    drawn = cka.figure("a", "b", square())
    heat = drawn.data[0]
    assert (len(heat.y), len(heat.x)) == (4, 3)
    assert heat.z[2][1] == pytest.approx(0.9)  # up is the second model, across the first
    assert list(heat.customdata[2][1]) == ["block 2", "block 3", "–"]
    assert (heat.zmin, heat.zmax) == (0, 1)
    assert drawn.layout.xaxis.title.text == "a, layer"
    assert drawn.layout.yaxis.title.text == "b, layer"


def test_cka_in_words():
    said = cka.reading({("a", "b"): square()})
    assert "most alike at block 2 and block 3, CKA 0.9;" in said
    assert "n = 64 images in 2 minibatches; 1 left over; features are CLS" in said
    assert "features are CLS and mean of patches" in cka.reading({("a", "b"): square(used_b="mean")})
    constant = cka.reading({("a", "a"): square(3, 3, constant=["embed"])})
    assert constant.endswith("Undefined where every image gives the same: input of block 1.")
    assert "with the first" in constant


def test_a_square_in_which_nothing_is_defined_is_said_in_words():
    data = square()
    data["cka"][:] = np.nan
    assert cka.reading({("a", "b"): data}).startswith("CKA is undefined here, as every image gives the same")


@pytest.mark.parametrize("made", ["cka", "positions"])
def test_pictures_to_save_hold_every_panel_its_axes_and_the_words(made):
    if made == "cka":
        found = {("a", "a"): square(3, 3), ("a", "b"): square()}
        text = cka.document(found, COLOURS, "what the **numbers** say")
    else:
        found = {"a": similarity(), "b": similarity(units="attention score")}
        text = mosaics.document(found, COLOURS, "what the **numbers** say")
    root = ET.fromstring(text)
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    said = [element.text for element in root.iter() if element.text]
    panels = 2
    bars = 1 if made == "cka" else 2  # units that differ have scales of their own
    assert tags.count("image") == panels + bars
    assert "what the numbers say" in said
    if made == "cka":
        assert {"a, layer", "b, layer", "1", "3", "4", "1 CKA"} <= set(said)
    assert export.png(text).startswith(b"\x89PNG")


def test_layers_are_counted_from_the_bottom_in_the_saved_picture():
    root = ET.fromstring(cka.document({("a", "b"): square()}, COLOURS, ""))
    ticks = {e.text: float(e.get("y")) for e in root.iter() if e.get("text-anchor") == "end"}
    assert ticks["1"] > ticks["4"]
    uri = next(e.get("href") for e in root.iter() if e.tag.endswith("image"))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    row, column = (np.unravel_index(pixels[..., 0].argmax(), pixels.shape[:2]) / np.array(pixels.shape[:2])).tolist()
    assert (int(4 - row * 4 - 1e-9) + 1, int(column * 3) + 1) == (3, 2)  # 0.9 is at layer 3 of b, layer 2 of a


def similarity(grid=(2, 3), units="cosine", seed=0):
    shape = (*grid, *grid)
    values = np.random.default_rng(seed).uniform(-1, 1, shape)
    dims = ("query_y", "query_x", "y", "x")
    data = xr.Dataset({"similarity": (dims, values, {"units": units})}, attrs={"remark": "r", "source": "s"})
    return data.transpose("y", "x", "query_y", "query_x")


def test_every_position_has_its_tile_at_its_place():
    data = similarity((2, 3))
    picture, rows, columns, step = position_tiles.mosaic(data["similarity"])
    assert picture.shape == (2 * 3 - 1, 3 * 4 - 1) == (len(rows), len(columns))
    assert step == 1
    for qy, qx, y, x in np.ndindex(2, 3, 2, 3):
        expected = data["similarity"].sel(query_y=qy, query_x=qx, y=y, x=x).item()
        assert picture[qy * 3 + y, qx * 4 + x] == expected
        assert rows[qy * 3 + y] == f"row {qy + 1} against row {y + 1}"
    assert np.isnan(picture[2]).all()
    assert len(set(rows)) == len(rows)


def test_a_fine_grid_is_thinned():
    values = xr.DataArray(np.zeros((30, 30, 30, 30), np.float32), dims=("y", "x", "query_y", "query_x"))
    picture, _, _, step = position_tiles.mosaic(values)
    assert step > 1
    assert picture.size <= position_tiles.MOST_CELLS


def test_cosines_share_the_scale_from_minus_one_to_one_and_others_have_their_own():
    heat = position_tiles.figure(similarity()).data[0]
    assert (heat.zmin, heat.zmax) == (-1, 1)
    other = similarity(units="attention score")
    other["similarity"] *= 3
    heat = position_tiles.figure(other).data[0]
    assert heat.zmax == -heat.zmin == pytest.approx(float(np.abs(other["similarity"]).max()))
    assert heat.colorbar.title.text == "bias, attention score"


def test_neighbours_against_loops():
    data = similarity((3, 4), seed=2)["similarity"]
    near, far = [], []
    for qy, qx, y, x in np.ndindex(3, 4, 3, 4):
        away = abs(qy - y) + abs(qx - x)
        if away:
            (near if away == 1 else far).append(data.sel(query_y=qy, query_x=qx, y=y, x=x).item())
    assert position_tiles.neighbours(data) == pytest.approx((np.mean(near), np.mean(far)))
    assert "mean over 3 × 4 positions; r" in mosaics.reading({"a": similarity((3, 4))})


def bank(count=5, side=4):
    weights = np.random.default_rng(1).normal(size=(count, 3, side, side))
    return xr.Dataset(
        {
            "filters": (("filter", "c", "fy", "fx"), weights),
            "components": (("component", "c", "fy", "fx"), weights[:3]),
            "spectrum": ("rank", np.array([0.6, 0.3, 0.1])),
        },
        attrs={"filter_count": count},
    )


def test_each_filter_is_scaled_over_its_own_weights():
    data = bank()
    page = filters.sheet(data["filters"].values, 3)
    assert page.shape == (2 * 5 - 1, 3 * 5 - 1, 4)
    for index in range(5):
        row, column = divmod(index, 3)
        tile = page[row * 5 : row * 5 + 4, column * 5 : column * 5 + 4]
        assert (tile[..., 3] == 255).all()
        tile = tile[..., :3]
        assert (tile.min(), tile.max()) == (0, 255)
        own = data["filters"].values[index].transpose(1, 2, 0)
        brightest = [np.unravel_index(pixels.argmax(), pixels.shape) for pixels in (tile, own)]
        assert brightest[0] == brightest[1]
    assert (page[4, :, 3] == 0).all()  # the gaps are clear, on a dark page, too


def test_constant_filters_do_not_divide_by_zero():
    assert np.isfinite(filters.sheet(np.ones((1, 3, 2, 2)), 1)).all()


def test_the_spectrum_is_cumulative_with_a_colour_a_model():
    drawn = filters.figure({"a": bank(), "b": bank(7)}, COLOURS)
    assert list(drawn.data[0].y) == pytest.approx([0.6, 0.9, 1.0])
    assert [trace.line.color for trace in drawn.data] == list(COLOURS.values())
    assert "variance (0 to 1)" in drawn.layout.yaxis.title.text
    assert filters.reading({"a": bank()}) == (
        "Components that hold 90% of the variance over a model's filters: **a** 2 of 3."
    )


def test_filters_of_all_models_as_one_picture():
    drawn = filters.document({"a": bank(), "b": bank(7, 2)}, "filters", COLOURS)
    assert drawn.count("<image") == 2
    assert all(text in drawn for text in (*COLOURS.values(), "first 5 of 5 filters, 4 × 4 px", "2 × 2 px"))
    assert export.png(drawn).startswith(b"\x89PNG")
