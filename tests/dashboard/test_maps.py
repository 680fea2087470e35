import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.color import rgb2xyz, xyz2lab
from skimage.color.colorconv import xyz_from_rgb

from dashboard.controls import choices, map_options
from dashboard.draw import head_maps, palette, sentences
from dashboard.state import models
from model_zoo.layout import AttentionLayer

MAPS = arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.floats(0, 1).map(lambda x: x**2))


@given(MAPS, st.floats(0.05, 1.0))
def test_the_mask_reaches_its_mass_and_no_smaller_set_does(values, tau):
    mask = head_maps.mass_mask(values, tau)
    total = values.sum()
    if total == 0:
        assert not mask.any()
        return
    assert values[mask].sum() >= tau * total * (1 - 1e-9)
    largest_without_one = np.sort(values.ravel())[::-1][: mask.sum() - 1].sum()
    assert largest_without_one < tau * total


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_the_contour_has_one_edge_for_every_border_of_the_mask(mask):
    rows, columns = mask.shape
    padded = np.pad(mask, 1).astype(int)
    edges = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    path = head_maps.contour(mask)
    drawn = re.findall(r"M(\d+) (\d+)([hv])1", path)
    assert len(drawn) == edges == len(set(drawn))
    for x, y, way in drawn:
        column, row = int(x), int(y)
        here, before = (row + 1, column + 1), (row, column + 1) if way == "h" else (row + 1, column)
        assert padded[here] != padded[before]
        assert row + (way == "v") <= rows
        assert column + (way == "h") <= columns


def test_heads_are_reduced_chosen_and_their_absence_is_said():
    heads = np.stack([np.full((2, 3), v) for v in (0.1, 0.3, 0.2)])
    assert head_maps.choose_head(heads, "mean").values == pytest.approx(0.2)
    assert head_maps.choose_head(heads, "max").values.max() == 0.3
    second = head_maps.choose_head(heads, "2")
    assert second.head == "head 2 of 3"
    assert (second.values == heads[1]).all()
    beyond = head_maps.choose_head(heads, "5")
    assert beyond.head == "head 3: it has no head 5"
    assert (beyond.values == heads[2]).all()


def test_padding_is_taken_off_a_layer():
    values = np.full((1, 2, 4, 8, 8), np.nan, np.float32)
    values[0, 0] = 1.0
    values[0, 1, :2, :4, :4] = 2.0
    attention = xr.DataArray(
        values,
        dims=("image", "layer", "head", "y", "x"),
        coords={"head_count": ("layer", [4, 2]), "grid_height": ("layer", [8, 4]), "grid_width": ("layer", [8, 4])},
    )
    assert head_maps.layer_heads(attention, 0).shape == (4, 8, 8)
    second = head_maps.layer_heads(attention, 1)
    assert second.shape == (2, 4, 4)
    assert (second == 2.0).all()


def test_smoothing_keeps_range_mean_and_orientation():
    values = np.zeros((2, 4))
    values[0, 3] = 1.0
    drawn = head_maps.smooth(values)
    assert drawn.shape == (2 * head_maps.SMOOTH_SIDE, 4 * head_maps.SMOOTH_SIDE)
    assert drawn[0, -1] == 1.0
    assert drawn[-1, 0] == 0.0
    assert drawn.mean() == pytest.approx(values.mean(), rel=0.2)


def test_even_attention_needs_its_share_of_the_patches():
    even = sentences.concentration("even", np.full((10, 10), 0.009), 0.6)
    assert (even.patches, even.of) == (60, 100)
    assert even.share == pytest.approx(0.9)
    peak = np.zeros((10, 10))
    peak[3, 4] = 0.5
    said = sentences.sentence(
        [even, sentences.concentration("peak", peak, 0.6)], 0.6, "the CLS query", "Mean over heads", 1
    )
    assert said.index("60 of 100 patches in even") < said.index("1 of 100 patches in peak"), "as the panels stand"
    assert "Patches receive 50\u202f% to 90\u202f%" in said
    assert "n = 1" in said
    assert "not renormalised" in said


def test_a_maximum_over_heads_is_told_without_shares_of_attention():
    """Each head gives up to all of its attention to other patches, so that the sum of the largest is above one."""
    found = [sentences.concentration("a", np.full((10, 10), 0.03), 0.6)]
    said = sentences.sentence(found, 0.6, "the CLS query", "Maximum over heads", 1, shares=False)
    assert "60 of 100 patches in a" in said
    assert "of all its attention" not in said
    assert "300" not in said


def test_several_images_are_told_by_their_mean_shares():
    even, half = np.full((10, 10), 0.009), np.zeros((10, 10))
    half[:, :5] = 0.02
    found = [sentences.concentration("a", even, 0.6), sentences.concentration("a", half, 0.6)]
    said = sentences.sentence(found, 0.6, "the CLS query", "Mean over heads", 2)
    assert "45\u202f% of the patches in a" in said
    assert "n = 2 images (means over them)" in said


def test_the_share_on_an_object_is_told_beside_what_an_even_map_would_have():
    said = sentences.on_object(
        {"a": 0.2, "b": 0.5, "c": np.nan}, [0.1, 0.12], [0.31, np.nan], "true object", "the CLS query"
    )
    assert said.index("a **20\u202f%**") < said.index("b **50\u202f%**"), "as the panels stand"
    assert "An even map would have 10\u202f% to 12\u202f%, one that only favours the middle 31\u202f%." in said
    assert "whether a map has its outline is IoU" in said
    assert "c **" not in said
    assert sentences.on_object({"a": np.nan}, [0.0], [np.nan], "true object", "the CLS query") == ""


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (AttentionLayer("a", 3, (4, 4), 1, cls=True), ""),
        (AttentionLayer("a", 3, (4, 4), 0), "mean of patches (no CLS)"),
        (AttentionLayer("a", 3, (4, 4), 4, cls=False), "mean of patches (no CLS)"),  # registers alone
        (AttentionLayer("a", 3, (4, 4), 0, kind="pool"), "pooling query (no CLS)"),
        (AttentionLayer("a", 3, (4, 4), 1, cls=True, kind="class"), ""),
    ],
)
def test_the_token_that_answers_without_cls_is_named(layer, told):
    assert choices.answering(layer, "cls") == told
    assert choices.answering(layer, "mean") == ""


def test_no_map_no_sentence():
    assert sentences.sentence([], 0.6, "the CLS query", "Mean over heads", 1) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.123"),
        (0, "0"),
        (12345.6, "12\u202f300"),
        (0.05, "0.05"),
        (float("nan"), "–"),
        (1e-7, "1·10^−7"),
        (-0.5, "−0.5"),
    ],
)
def test_numbers_have_at_most_three_digits(value, text):
    assert palette.number(value) == text


def test_the_colour_maps_are_ordered():
    table = palette.sequential().astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(table) > -1.5).all()
    assert table[-1] > table[0] + 100
    low, middle, high = palette.diverging()[[0, 128, 255]].astype(int)
    assert low[2] > low[0]
    assert high[0] > high[2]
    assert middle.min() > 225


def test_colours_clip_and_show_what_is_not_there():
    rgb = palette.colours(np.array([[-1.0, 0.0, 1.0, 9.0, np.nan]]), 0.0, 1.0)
    assert (rgb[0, 0] == rgb[0, 1]).all()
    assert (rgb[0, 2] == rgb[0, 3]).all()
    assert (rgb[0, 4] == 128).all()


def test_model_colours_are_distinct():
    assert len(set(models.COLOURS)) == models.MOST_MODELS == len(models.MARKS)


DEFICIENT = {  # Machado, Oliveira and Fernandes 2009, the whole of a kind of cones missing; linear RGB
    "none": np.eye(3),
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def seen(rgb, missing):
    """CIE L*a*b* of colours (n, 3) as someone sees them whose cones of a kind are missing."""
    linear = rgb2xyz(rgb[None] / 255.0) @ np.linalg.inv(xyz_from_rgb).T
    return xyz2lab(np.clip(linear @ np.transpose(DEFICIENT[missing]), 0, 1) @ xyz_from_rgb.T)[0]


@pytest.mark.parametrize("missing", DEFICIENT)
@pytest.mark.parametrize("signed", [False, True])
def test_the_highest_value_is_told_from_any_grey_of_a_photograph_by_every_colour_vision(missing, signed):
    ends = [0.0, 1.0] if signed else [1.0]
    grey = 255 - palette.INK * (255 - np.linspace(0, 255, 52)[:, None].repeat(3, 1))
    ground = seen(grey, missing)
    for end in ends:
        *colour, opacity = palette.overlay(np.array([end]), 0.0, 1.0, signed=signed)[0] / 255
        over = opacity * 255 * np.array(colour) + (1 - opacity) * grey
        distance = np.linalg.norm(seen(over, missing)[:, None] - ground, axis=-1)
        assert distance.min() > 20, "2 can just be told apart"


def test_no_value_is_no_low_value():
    opacity = palette.overlay(np.array([np.nan, 0.0, 1.0]), 0.0, 1.0)[:, 3]
    assert opacity[0] == 255
    assert opacity[1] < 20


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-2, 3)), st.booleans())
def test_more_is_never_drawn_fainter(values, signed):
    low = -1.0 if signed else 0.0
    opacity = palette.overlay(values, low, 1.0, signed=signed)[:, 3].astype(int)
    order = np.argsort(np.abs(np.clip(values, low, 1.0)), kind="stable")
    assert (np.diff(opacity[order]) >= 0).all()


class Layout:
    """As much of a model's layout as counts its tokens."""

    def __init__(self, *reach):
        self.layers = [AttentionLayer("a", 1, (1, tokens), 0) for tokens in reach]


@pytest.mark.parametrize(
    ("models", "unit"),
    [
        ([197, 198, 201], "weight"),  # CLS, distillation token, registers: not seen
        ([197, 1370], "times even"),
        ([197, None, 49], "times even"),
        ([197, None], "weight"),
        ([], "weight"),
    ],
)
def test_times_even_is_drawn_where_numbers_of_tokens_differ_unless_the_link_says_otherwise(monkeypatch, models, unit):
    linked = {}
    monkeypatch.setattr(map_options.link, "first", lambda name: linked.get(name, ""))
    tokens = map_options.tokens([reach and Layout(3, reach) for reach in models])
    assert map_options.linked_values(tokens) == unit
    for explicit in map_options.UNITS:
        linked["values"] = explicit
        assert map_options.linked_values(tokens) == explicit


def test_even_attention_is_one_times_even_whatever_the_number_of_tokens():
    options = map_options.MapOptions(values="times even")
    for tokens in (49, 197, 1370):
        assert options.drawn(np.full((2, 2), 1 / tokens), tokens) == pytest.approx(1)
    weights = np.array([[0.25, 0.75]])
    assert (map_options.MapOptions().drawn(weights, 197) == weights).all()
    assert options.units == "times even attention"
