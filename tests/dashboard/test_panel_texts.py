"""What a panel says to those who do not see it."""

import numpy as np
import pytest

from dashboard.draw import panels
from dashboard.draw.panels import Look, Panel, Scale
from model_zoo.adapter import Geometry

VALUES = np.array([[0.1, 0.2], [0.3, 0.4]])
WHOLE = Geometry((600, 400), (0, 0, 600, 400), (224, 224))


@pytest.mark.parametrize(
    ("panel", "said"),
    [
        (
            Panel("ViT, DINO", "#000000", "layer 6 of 6 · head 2", WHOLE, VALUES),
            "Map of ViT, DINO over Coffee: layer 6 of 6 · head 2",
        ),
        (Panel("ViT, DINO", "#000000", "", WHOLE, VALUES), "Map of ViT, DINO over Coffee"),
        (Panel("ResNet", "#000000", message="It has no attention."), "ResNet: It has no attention."),
        (Panel("ResNet", "#000000", message="computing …", waiting=True), "ResNet: computing …"),
    ],
)
def test_a_panel_says_its_model_and_image_and_which_layer_and_head_it_is(panel, said):
    drawn = panels.described(panel, "photo:coffee", Scale(0, 1, "attention weight"), Look())
    assert drawn["alt"] == said
