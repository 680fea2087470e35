"""A colour is a model's own: it stays when others come and go, and no two models at once share one."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.state import models
from dashboard.state.selection import Selection
from model_zoo.catalog import CATALOG, PRESETS

ANY = st.lists(
    st.sampled_from([*CATALOG, *(f"timm:test_vit{n}@random:{seed}" for n in ("", "2") for seed in range(4))]),
    min_size=1,
    max_size=models.MOST_MODELS,
    unique=True,
)


def test_every_model_of_the_catalog_has_one_colour_of_its_own():
    assert Counter(key for keys in models.OWN.values() for key in keys.split()) == Counter(list(CATALOG))
    assert tuple(models.OWN) == models.NAMES
    assert len(set(models.COLOURS)) == len(set(models.MARKS)) == models.MOST_MODELS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_has_the_same_colour_in_every_preset(preset):
    assert models.colours(PRESETS[preset]) == {key: models.own_colour(key) for key in PRESETS[preset]}
    assert len({models.own_colour(key) for key in PRESETS[preset]}) == len(PRESETS[preset])


@given(ANY, st.data())
def test_taking_out_moving_and_replacing_leave_the_others_colours(chosen, data):
    before = models.colours(chosen)
    assert len(set(before.values())) == len(chosen)
    after = data.draw(st.permutations(chosen))[: data.draw(st.integers(1, len(chosen)))]
    at = data.draw(st.integers(0, len(after) - 1))
    replaced = list(dict.fromkeys([*after[:at], data.draw(ANY)[0], *after[at + 1 :]]))
    for others in (after, replaced):
        now = models.colours(others, before)
        assert len(set(now.values())) == len(others)
        assert all(now[model] == before[model] for model in others if model in before)


@given(ANY, ANY)
def test_a_link_gives_every_model_the_colour_that_it_had(chosen, more):
    first = models.colours(more)
    given_colours = models.colours(chosen, first)
    carried = models.write_colours(given_colours)
    assert models.colours(chosen, models.read_colours(carried, chosen)) == given_colours
    assert all(model in chosen for model in models.read_colours(carried, chosen))


def test_a_link_carries_only_colours_that_are_not_the_models_own():
    assert models.write_colours(models.colours(PRESETS["Families"])) == ()
    same = ("vit-s16-in1k", "vit-b16-in1k")
    assert models.write_colours(models.colours(same)) == ("orange:vit-b16-in1k",)


@pytest.mark.parametrize("value", ["", ":", "orange", "orange:", "orange:deit-b16", "#0072B2:dino-s16", "x:dino-s16"])
def test_a_colour_of_a_link_that_is_none_is_passed_over(value):
    assert models.read_colours([value], ["dino-s16"]) == {}


def test_two_models_of_a_link_do_not_share_a_colour():
    link = models.read_colours(["sky:dino-s16", "sky:deit-s16"], ["dino-s16", "deit-s16"])
    assert list(link) == ["dino-s16"]


def test_the_mark_goes_with_the_colour():
    assert len({models.mark(colour) for colour in models.COLOURS}) == models.MOST_MODELS


def test_more_models_than_colours_have_their_own():
    drawn = models.colours(CATALOG)
    assert set(drawn) == set(CATALOG)
    assert len(set(drawn.values())) == models.MOST_MODELS


def test_a_selection_keeps_what_it_was_given():
    assert Selection(("dino-s16",), (), {"dino-s16": "#0072B2"}).colour("dino-s16") == "#0072B2"
    assert Selection(("dino-s16",), ()).colour("dino-s16") == models.own_colour("dino-s16")
