"""What a run in bfloat16 may change, and that every result says what it was computed in."""

from typing import Any

import pytest
import timm
import torch
import xarray as xr

import probes
from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from probes.attention_relevance import AttentionRelevance
from probes.attention_sanity import AttentionSanity
from probes.core.relevance import METHODS
from probes.core.runner import run
from probes.saliency_score import SaliencyScore
from tests.probes.families import noise

NAMES = probes.available()
OTHER = ImageSource("other", lambda: noise(1, seed=9)[0])
SOURCES = [ImageSource(str(i), lambda i=i: noise(4)[i]) for i in range(4)]


@pytest.fixture(scope="module")
def model() -> Adapter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Adapter(timm.create_model("vit_tiny_patch16_224", depth=2, img_size=64), image_size=64)


def result(model: Adapter, probe: Any, dtype: str, count: int = 2) -> xr.Dataset:
    return run({"m": model}, SOURCES[:count], {"p": probe}, dtype=dtype)["p"]["m"]


@pytest.mark.parametrize(
    "probe",
    [
        *(AttentionRelevance(method=method, steps=4) for method in METHODS if method == "integrated-gradients"),
        *(AttentionRelevance(method=method) for method in METHODS if method != "integrated-gradients"),
        AttentionRelevance(target="similarity", of=OTHER),
        AttentionSanity(map="chefer"),
        SaliencyScore(map="chefer", steps=0),
    ],
    ids=lambda probe: f"{type(probe).__name__}-{getattr(probe, 'method', '') or probe.map}-{probe.target}",
)
def test_gradients_are_float32_in_a_run_of_bfloat16(model: Adapter, probe: Any) -> None:
    low, high = result(model, probe, "bfloat16"), result(model, probe, "float32")
    assert low.attrs["dtype"] == "float32"
    xr.testing.assert_identical(low, high)


@pytest.mark.parametrize("name", NAMES)
def test_every_result_says_its_type(model: Adapter, name: str) -> None:
    """Where it says bfloat16 something differs from float32, and where it says float32 nothing does."""
    probe = probes.load(name)(**({"steps": 2} if name == "saliency-score" else {}))
    low, high = result(model, probe, "bfloat16", 4), result(model, probe, "float32", 4)
    assert high.attrs.pop("dtype") == "float32"
    assert low.attrs.pop("dtype") == ("float32" if low.identical(high) else "bfloat16")
