"""The sidebar's list of models: found by name, added, moved, replaced and taken out, with colours that stay."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.controls import model_list, model_search
from dashboard.state import models
from model_zoo.catalog import CATALOG, PRESETS
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")
THREE = ("vit-s16-in1k", "vit-b16-in1k", "dino-s16")
"""Two of one own colour, so that the second has another, and a third; the zoo loads none of them."""


@pytest.fixture
def zoo():
    def opened(*chosen):
        at = AppTest.from_file(HOME, default_timeout=120)
        at.query_params["model"] = list(chosen)
        return turn_to(at, "zoo").run()

    return opened


def chosen(at):
    return tuple(at.query_params["model"])


def carried(at):
    values = at.query_params.get("colour", [])
    return [values] if isinstance(values, str) else values


def opened_card(at, model):
    at.session_state[f"card-{model}"] = True
    return at.run()


def labels(at):
    return [button.label for button in at.button]


def test_the_catalog_is_found_before_timm_and_no_model_twice():
    found = [model for model in model_search.offered() if "dinov2" in model_search.listed(model).lower()]
    assert found[:4] == ["dinov2-s14", "dinov2-b14", "dinov2-reg-s14", "dinov2-reg-b14"]
    assert len(found) == 8
    assert all(model.startswith("timm:") for model in found[4:])
    assert len(set(model_search.offered())) == len(model_search.offered()) > 1000
    assert not {f"timm:{entry.timm_name}" for entry in CATALOG.values()} & set(model_search.offered())


def test_what_a_model_costs_is_said_before_it_is_added(zoo):
    assert model_search.cost("scenes-vit-dino") == "4.96 MB, comes with this project."
    assert "needs a network" in model_search.cost("timm:vit_tiny_patch16_384.augreg_in21k_ft_in1k")
    assert model_search.cost("timm:test_vit@random:3").endswith("drawn here: needs no network, knows nothing.")
    at = zoo(*THREE)
    at.selectbox(key="add_model").set_value("scenes-vit-mae").run()
    assert chosen(at) == THREE
    assert any(caption.value == "4.96 MB, comes with this project." for caption in at.caption)
    at.button(key="add_button").click().run()
    assert chosen(at) == (*THREE, "scenes-vit-mae")
    assert at.selectbox(key="add_model").value is None


def test_random_weights_and_their_seed_are_chosen_beside_the_name(zoo):
    at = zoo(*THREE)
    at.selectbox(key="add_model").set_value("dinov2-s14").run()
    at.toggle(key="add_random").set_value(True).run()
    at.number_input(key="add_seed").set_value(7).run()
    at.button(key="add_button").click().run()
    assert chosen(at)[3:] == ("timm:vit_small_patch14_dinov2.lvd142m@random:7",)


def test_add_takes_what_the_toggle_says_when_it_is_pressed(zoo):
    """Whoever is faster than the page presses the button that was drawn before the toggle was."""
    at = zoo(*THREE)
    at.selectbox(key="add_model").set_value("dinov2-s14").run()
    at.toggle(key="add_random").set_value(True)
    at.button(key="add_button").click().run()
    assert chosen(at)[3:] == ("timm:vit_small_patch14_dinov2.lvd142m@random:0",)


def test_taking_out_moving_and_replacing_keep_place_and_colour(zoo):
    at = zoo(*THREE)
    assert carried(at) == ["orange:vit-b16-in1k"]
    opened_card(at, "vit-b16-in1k")
    at.button(key="move--1-vit-b16-in1k").click().run()
    assert chosen(at) == ("vit-b16-in1k", "vit-s16-in1k", "dino-s16")
    assert carried(at) == ["orange:vit-b16-in1k"]
    at.button(key="replace-vit-b16-in1k").click().run()
    at.selectbox(key="add_model").set_value("scenes-resnet").run()
    at.button(key="add_button").click().run()
    assert chosen(at) == ("scenes-resnet", "vit-s16-in1k", "dino-s16")
    at = zoo(*THREE)
    assert at.button(key="remove-0").label == "Remove ViT-S/16 1k"
    at.button(key="remove-0").click().run()
    assert chosen(at) == THREE[1:]
    assert carried(at) == ["orange:vit-b16-in1k"], "it keeps the colour that it was seen in"


def test_a_preset_brings_the_models_own_colours(zoo):
    at = zoo(*THREE)
    at.selectbox(key="preset").set_value("Objectives (ViT-B/16)").run()
    assert chosen(at) == PRESETS["Objectives (ViT-B/16)"]
    assert carried(at) == []


def test_at_six_models_it_says_why_there_is_no_field_and_one_can_still_be_replaced(zoo):
    at = zoo(*PRESETS["Families"])
    assert model_list.FULL in [caption.value for caption in at.caption]
    assert "add_model" not in [box.key for box in at.selectbox]
    opened_card(at, "swin-tiny")
    at.button(key="replace-swin-tiny").click().run()
    at.selectbox(key="add_model").set_value("swin-base").run()
    at.button(key="add_button").click().run()
    assert len(chosen(at)) == models.MOST_MODELS
    assert chosen(at)[2] == "swin-base"


def test_no_sentence_speaks_of_a_command_line(zoo):
    at = zoo("dino-s61")
    assert [toast.value for toast in at.toast if "No model is called" in toast.value]
    assert not [toast.value for toast in at.toast if "python" in toast.value]
