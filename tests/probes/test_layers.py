"""The forms of a layer in a parameter, and what they mean in models of any depth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.core.layers import check_layer, check_layers, layer_index, layer_indices, layer_point, no_layer
from tests.probes.families import peaked


@pytest.mark.parametrize(
    ("layer", "twelve", "four", "one"),
    [
        ("0", 0, 0, 0),
        ("1", 1, 1, 1),
        ("last", 11, 3, 0),
        ("0.0", 0, 0, 0),
        ("0.25", 3, 1, 0),  # 2.75 and 0.75
        ("0.5", 6, 2, 0),  # 5.5 and 1.5: a half goes to the even one
        ("1.0", 11, 3, 0),
    ],
)
def test_a_layer_in_models_of_twelve_four_and_one(layer: str, twelve: int, four: int, one: int) -> None:
    check_layer(layer)
    assert [layer_index(layer, count) for count in (12, 4, 1)] == [twelve, four, one]


@given(st.integers(2, 200), st.data())
def test_a_relative_depth_with_all_its_digits_is_the_layer_again(count: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, count - 1))
    text = repr(index / (count - 1))
    check_layer(text)
    assert layer_index(text, count) == index


def test_several() -> None:
    assert layer_indices("all", 3, 1) == [0, 1, 2, 3]
    assert layer_indices("3,0,0.0,0.5", 4) == [0, 2, 3]
    assert layer_indices("0.99,last", 3, 1) == [2, 3], "a relative depth runs over the blocks, last is what is beyond"


@pytest.mark.parametrize("layer", ["", "-1", "1.5", "1.0001", "0.", ".5", "1e-3", "nan", "0,5", "Last", "00.5", "٣"])
def test_what_is_no_layer(layer: str) -> None:
    with pytest.raises(ValueError, match=r"^first is '.*'; it must be last or an index, 0 or more, .* 0\.0 to 1\.0"):
        check_layer(layer, "first")


@pytest.mark.parametrize("layers", ["", "0,", "all,1", "1-3", "0.5,2.0", "-1"])
def test_what_are_no_layers(layers: str) -> None:
    with pytest.raises(ValueError, match=r"^layers is '.*'; it must be all, last or indices .* 0\.0 to 1\.0"):
        check_layers(layers)


def test_tokens_of_a_layer() -> None:
    spec = peaked("vit_tiny_patch16_224").spec  # four blocks and a norm
    found = {layer: layer_point(spec, layer) for layer in ("0", "0.5", "0.99", "3", "1.0", "last", "4")}
    assert found == {
        "0": "resid_post.0",
        "0.5": "resid_post.2",
        "0.99": "resid_post.3",
        "3": "resid_post.3",
        "1.0": "norm",
        "last": "norm",
        "4": "",
    }
    assert no_layer(spec, "4") == "this model has the blocks 0 to 3: there is no block 4"
    assert layer_point(peaked("resnet50").spec, "1.0") == layer_point(peaked("resnet50").spec, "15") == "resid_post.15"
    assert "not known" in (no_layer(peaked("tnt_s_patch16_224").spec, "0.5") or "")
