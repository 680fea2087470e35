"""The forms of a query in a parameter."""

import pytest

from model_zoo.adapter import Geometry
from probes.core.queries import Query, read_query, scaled

WORDS = ("cls", "mean")


def test_forms() -> None:
    assert read_query("mean", WORDS) == Query(word="mean")
    assert read_query("3:17", WORDS) == Query(patch=(3, 17))
    assert read_query("@0.4,0", WORDS) == Query(point=(0.4, 0.0))
    assert read_query(f"@{1 / 3!r},{2 / 3!r}", WORDS) == Query(point=(1 / 3, 2 / 3))
    assert read_query("0.4,0.6", ("center",), input_points=True) == Query(input_point=(0.4, 0.6))


BAD = ["", "CLS", "center", "3", "3:", "-1:2", "12345:0", "@", "@0.4", "@1,0", "@0,1.0", "@0.5,-0.1", "@nan,0",
       "@.5,.5", "@0.4,0.6,0.1", "@0.4:0.6", "0.4,0.6", "@0.99999999999999999999,0.5"]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_query(text: str) -> None:
    with pytest.raises(ValueError, match=r"^query is '.*'; it must be cls, mean, ROW:COL such as 3:7, or @X,Y .*\.$"):
        read_query(text, WORDS)


def test_the_patch_of_a_grid() -> None:
    geometry = Geometry((200, 100), (50.0, 0.0, 150.0, 100.0), (64, 64))  # the middle half of a wide image
    assert read_query("@0.4,0.6", WORDS).patch_of((4, 8), geometry) == (2, 2)  # (80 − 50) / 100 · 8 = 2.4
    assert read_query("@0.2,0.6", WORDS).patch_of((4, 8), geometry) is None
    assert read_query("0.4,0.6", WORDS, input_points=True).patch_of((4, 8)) == (2, 3)
    assert read_query("3:7", WORDS).patch_of((4, 8)) == (3, 7)
    assert read_query("3:8", WORDS).patch_of((4, 8)) is None
    assert read_query("center", ("center",)).patch_of((4, 8)) == (2, 4)
    assert read_query("cls", WORDS).patch_of((4, 8)) is None
    with pytest.raises(ValueError, match="needs the image's geometry"):
        read_query("@0.4,0.6", WORDS).patch_of((4, 8))
    assert scaled((9, 30), (28, 56), (14, 28)) == (4, 15)
