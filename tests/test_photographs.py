"""The outlines of the photographs lie where the objects are."""

import numpy as np
import pytest

from benchmarks.photographs import OUTLINES, mask, masses
from dashboard.images import gallery
from model_zoo.loading import load

ON_AND_OFF = {
    "chelsea": ((170, 110), (420, 200)),
    "astronaut": ((220, 100), (400, 100)),
    "coffee": ((290, 140), (550, 60)),
    "rocket": ((321, 250), (250, 250)),
    "china": ((210, 210), (450, 100)),
    "flower": ((300, 220), (100, 220)),
}


@pytest.mark.parametrize("name", gallery.PHOTOS)
def test_every_photograph_of_the_dashboard_has_its_object_outlined(name):
    inside = np.asarray(mask(name, gallery.size(f"photo:{name}"))) > 0
    (x, y), (u, v) = ON_AND_OFF[name]
    assert inside[y, x]
    assert not inside[v, u]
    assert 0.01 < inside.mean() < 0.9


def test_attention_of_an_untrained_model_lies_on_objects_by_their_area_alone():
    found = masses(load("timm:scenes_vit@random:0", device="cpu"))
    assert found["mass_inside"].shape == (len(OUTLINES), 4)
    assert abs(float(found["mass_inside"].mean() - found["area"].mean())) < 0.05
    assert found["area"].min() < 0.1 < 0.8 < found["area"].max()
