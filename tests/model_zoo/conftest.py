"""Weights that are written into checkpoints."""

import pytest
import timm

from tests.model_zoo.states import NAME, State, randomised


@pytest.fixture(scope="module")
def state() -> State:
    """The weights of a small vision transformer with a classifier."""
    return randomised(timm.create_model(NAME)).state_dict()


@pytest.fixture(scope="module")
def vit() -> State:
    return randomised(timm.create_model("vit_tiny_patch16_224", num_classes=21)).state_dict()
