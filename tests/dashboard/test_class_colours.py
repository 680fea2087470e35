"""The ten class colours under simulated colour blindness, and the letters that stand beside them."""

from itertools import combinations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from dashboard.controls import choices
from dashboard.draw.export import rows_svg
from dashboard.draw.panels import Look, Row
from dashboard.state.selection import Depth
from dashboard.views.logit_lens import answers, class_colours
from dashboard.views.logit_lens import view as logit_lens
from tests.dashboard.test_token_views import lens, model

SEEN = {
    "common": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""Linear RGB as people with each vision see it: Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113."""
LEAST = 15


def lab(colours: np.ndarray, vision: str) -> np.ndarray:
    """CIELAB of sRGB colours (n, 3), 0 to 255, under a vision."""
    share = np.asarray(colours, float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(SEEN[vision]).T, 0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * np.maximum(seen, 1e-9) ** (1 / 2.4) - 0.055)
    return rgb2lab(back[None])[0]


def nearest(colours, vision: str) -> float:
    places = lab(np.array(colours), vision)
    return min(float(deltaE_ciede2000(a, b)) for a, b in combinations(places, 2))


@pytest.mark.parametrize("vision", SEEN)
def test_every_two_of_the_ten_colours_and_the_grey_are_told_apart(vision):
    assert len(class_colours.SHADES) == 10
    assert nearest([*class_colours.SHADES, class_colours.GREY], vision) > LEAST


def test_the_simulation_finds_what_looks_alike():
    red, green = (214, 39, 40), (110, 110, 0)
    assert nearest([red, green], "common") > 30
    assert nearest([red, green], "deuteranopia") < 12
    assert nearest([(34, 136, 51), (138, 109, 59)], "deuteranopia") < LEAST, "a pair of the colours before these"


def test_every_area_of_one_class_bears_its_letter():
    one = answers.at_layer(lens(), choices.LAST)
    shades = class_colours.legend([lens()], ["electric ray"])
    assert class_colours.letters(shades) == {"electric ray": "A", "tench": "B"}
    rgba, _ = class_colours.painted(one, shades)
    fine = class_colours.lettered(rgba, one, shades)
    assert fine.shape == (4 * 48, 6 * 48, 4)
    written = (fine != rgba.repeat(48, 0).repeat(48, 1)).any(-1)
    assert written[: 2 * 48].any()
    assert written[2 * 48 :].any()
    patches = written.reshape(4, 48, 6, 48).any((1, 3))
    assert patches.sum() == 2, "one letter an area, inside its patch"
    others = class_colours.lettered(rgba, one, {"electric ray": shades["electric ray"]})
    assert (others[2 * 48 :] == rgba.repeat(48, 0).repeat(48, 1)[2 * 48 :]).all(), "grey classes have none"


def test_the_legend_with_its_letters_is_on_the_page_and_in_the_file():
    shades = class_colours.legend([lens()], ["electric ray"])
    legend = logit_lens.named(shades)
    assert list(legend) == ["A electric ray", "B tench", "others"]
    assert logit_lens.named({}) == {}
    panel = logit_lens.panel(model("logit-lens", lens()), Depth(3, 3), shades)
    assert panel.grid == (4, 6)
    saved = rows_svg([Row("scene:0", [panel])], scale=None, look=Look(), title="t", caption="**b**", legend=legend)
    assert all(f">{name}</text>" in saved for name in legend)
    assert all(f"fill='{colour}'" in saved for colour in legend.values())
    assert "*" not in saved.partition("<text")[2].rpartition("b</text>")[2]
