import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dashboard.images import gallery
from dashboard.state import models
from dashboard.state.selection import (
    Depth,
    read_depth,
    read_head,
    read_images,
    read_models,
    read_point,
    write_depth,
    write_point,
)
from model_zoo.catalog import CATALOG
from probes.core.layers import layer_index

DEPTHS = st.integers(1, 200).flatmap(lambda of: st.builds(Depth, st.integers(1, of), st.just(of)))
FRACTIONS = st.floats(0, 1, exclude_max=True)


@given(DEPTHS)
def test_a_layer_survives_the_link(depth):
    assert read_depth(write_depth(depth)) == depth


@given(st.tuples(FRACTIONS, FRACTIONS))
def test_a_point_survives_the_link_to_four_decimals(point):
    once = read_point(write_point(point))
    assert once is not None
    assert once == pytest.approx(point, abs=1.01e-4)
    assert all(0 <= x < 1 for x in once)
    assert read_point(write_point(once)) == pytest.approx(once, abs=1.01e-4)


@given(st.text(max_size=40))
def test_nonsense_is_refused_without_an_error(text):
    for read in (read_depth, read_point, read_head):
        value = read(text)
        assert value is None or read(text) == value
    models, notes = read_models([text])
    assert len(models) + len(notes) >= 1 or text == ""
    assert all(note.endswith(".") for note in notes)
    assert all(note.endswith(".") for note in read_images([text])[1])


@given(st.lists(st.sampled_from(sorted(CATALOG)), min_size=1, max_size=models.MOST_MODELS, unique=True))
def test_models_survive_the_link_in_their_order(keys):
    assert read_models(keys) == (tuple(keys), [])


@given(st.lists(st.sampled_from(gallery.offered()), min_size=1, max_size=12, unique=True))
def test_images_survive_the_link_in_their_order(ids):
    assert read_images(ids) == (tuple(ids), [])


@given(DEPTHS, st.integers(1, 200))
def test_relative_depth_stays_in_range_and_keeps_the_ends(depth, layers):
    assert 0 <= depth.index(layers) < layers
    if depth.layer == depth.of:
        assert depth.index(layers) == layers - 1
    if depth.layer == 1 and depth.of > 1:
        assert depth.index(layers) == 0


def test_too_many_models_are_cut_and_said():
    kept, notes = read_models(list(CATALOG)[:8])
    assert len(kept) == models.MOST_MODELS
    assert "At most 6" in notes[0]


def test_a_link_cannot_name_a_file():
    models, notes = read_models(["timm:vit_tiny_patch16_224@/etc/passwd"])
    assert models == ()
    assert "file cannot be named here" in notes[0]


def test_one_model_under_two_labels_is_one_model():
    assert read_models(["a=timm:test_vit@random:0", "b=timm:test_vit@random:0"])[0] == ("timm:test_vit@random:0",)


@pytest.mark.parametrize("text", ["0/12", "13/12", "8", "8/", "08/12", "-1/3"])
def test_layers_that_are_none(text):
    assert read_depth(text) is None


@pytest.mark.parametrize("text", ["1,0.5", "0.5", "nan,0.1", "-0.1,0.2", "0.5,0.5,0.5", "1e-3,0"])
def test_points_that_are_none(text):
    assert read_point(text) is None


@given(DEPTHS, st.integers(1, 60))
@example(Depth(2, 7), 4)  # 1/6 of 3 is a half, and rounded digits of it would be more
def test_a_depth_is_the_layer_that_probes_take_for_its_parameter(depth: Depth, layers: int) -> None:
    assert layer_index(depth.parameter, layers) == depth.index(layers)
    assert depth.layer == depth.of or layer_index(depth.parameter, depth.of) == depth.layer - 1
