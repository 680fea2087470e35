"""What every probe must satisfy; a new probe is covered the moment its file exists."""

import dataclasses
import weakref
from functools import partial

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import probes
from model_zoo.images import ImageSource
from probes.core.base import READS, Probe
from probes.core.capture import Batch, Weights, forward
from tests.probes.families import QUICK, inputs, noise, peaked

NAMES = probes.available()
SMALL = {"loss-landscape": {"steps": 3}, "hessian-spectrum": {"batch": 1, "products": 3}}
"""Parameters of probes whose defaults take minutes."""


def made(name: str) -> Probe:
    return probes.load(name)(**SMALL.get(name, {}))


def fold(probe: Probe, adapter, batches) -> object:
    state = probe.init(adapter.spec)
    if "weights" in probe.reads:
        state = probe.update(state, Weights(adapter))
    for batch in batches:
        state = take(probe, adapter, state, batch)
    return state


def take(probe: Probe, adapter, state, batch: range):
    """One batch by the plainest route: no sharing, all rows of a layer at once."""
    images = noise(4)[batch.start : batch.stop]
    x = inputs(adapter, images)
    box = [state]

    def attention(seen) -> None:
        wanted = probe.queries(adapter.spec, seen.index)
        if wanted is not None:
            box[0] = probe.update(box[0], seen.rows(wanted))

    def tokens(seen) -> None:
        box[0] = probe.update(box[0], seen)

    if probe.reads & {"attention", "tokens"}:
        points = probe.taps(adapter.spec)
        on_attention = attention if "attention" in probe.reads else None
        forward(adapter, x, batch, on_attention=on_attention, on_tokens=tokens, points=points)
    if "batch" in probe.reads:
        labels = [partial(str, "1")] * len(batch)
        box[0] = probe.update(box[0], Batch(adapter, batch, x, images, labels=labels))
    return box[0]


@pytest.mark.parametrize("name", NAMES)
def test_declares_itself(name: str) -> None:
    cls = probes.load(name)
    assert cls.title
    assert cls.reads
    assert cls.reads <= READS
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    for word in ("Returns:", "Note:", "Reference:"):
        assert word in (cls.__doc__ or ""), f"the docstring of {name} lacks {word}"


@pytest.mark.parametrize("name", NAMES)
def test_result_does_not_depend_on_batching_merging_or_order(name: str) -> None:
    probe, adapter = made(name), peaked("vit_tiny_patch16_224")
    if reason := probe.undefined(adapter.spec):
        pytest.fail(f"defaults of {name} must be defined for a plain ViT with a classifier: {reason}")
    whole = probe.compute(fold(probe, adapter, [range(4)]))
    assert all("units" in variable.attrs for variable in whole.data_vars.values()), "every variable has units"
    if probe.reads == {"weights"}:
        return
    streamed = probe.compute(fold(probe, adapter, [range(1), range(1, 4)]))
    parts = [fold(probe, adapter, [batch]) for batch in (range(2), range(2, 4))]
    merged = probe.compute(probe.merge(*parts))
    parts = [fold(probe, adapter, [batch]) for batch in (range(2), range(2, 4))]
    turned = probe.compute(probe.merge(*reversed(parts)))
    for other in (streamed, merged, turned):
        xr.testing.assert_allclose(whole, other, rtol=1e-6, atol=1e-7)
        for variable in whole.data_vars:
            if str(variable).endswith(("_sem", "_sd")):  # small beside what they belong to: no absolute tolerance
                np.testing.assert_allclose(other[variable], whole[variable], rtol=1e-7, err_msg=str(variable))


@pytest.mark.parametrize("name", [name for name in NAMES if probes.load(name).per_image])
def test_a_result_that_is_kept_by_image_does_not_depend_on_the_other_images(name: str) -> None:
    probe, adapter = made(name), peaked("vit_tiny_patch16_224")
    whole = probe.compute(fold(probe, adapter, [range(4)]))
    assert all("image" in variable.dims for variable in whole.data_vars.values())
    for image in (0, 3):
        alone = probe.compute(fold(probe, adapter, [range(image, image + 1)]))
        xr.testing.assert_allclose(whole.isel(image=[image]), alone, rtol=1e-6, atol=1e-7)
        counts = {"n": alone.attrs.get("n"), "class_names": alone.attrs.get("class_names")}  # of all images of a run
        assert {**whole.attrs, **{k: v for k, v in counts.items() if v is not None}} == alone.attrs
        assert set(alone.attrs.get("class_names", ())) <= set(whole.attrs.get("class_names", ()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "family", [*QUICK, "vit_base_patch16_siglip_224", "cait_xxs24_224", "coatnet_0_224", "resnet18"]
)
def test_defined_or_says_why(name: str, family: str) -> None:
    probe, adapter = made(name), peaked(family)
    reason = probe.undefined(adapter.spec)
    if reason is not None:
        assert len(reason) > 20
        assert not reason.endswith(".")
        return
    result = probe.compute(fold(probe, adapter, [range(4)]))
    floats = [v for v in result.data_vars.values() if v.dtype.kind == "f"]
    assert any(np.isfinite(v).any() for v in floats), "a probe that is defined says something"


@pytest.mark.parametrize("name", NAMES)
def test_runs_through_the_runner(name: str) -> None:
    from probes.core.runner import run

    adapter = peaked("vit_tiny_patch16_224")
    adapter.module.float()
    if adapter.decoder is not None:
        adapter.decoder.float()
    images = noise(4)
    sources = [ImageSource(f"image {i}", lambda i=i: images[i], label=partial(str, "1")) for i in range(4)]
    result = run({"a": adapter}, sources, {name: made(name)}, batch_size=3)[name]["a"]
    assert "undefined" not in result.attrs
    if "image" in result.dims:
        assert result.image_name.values.tolist() == [f"image {i}" for i in range(4)]


def test_no_opened_picture_stays() -> None:
    from probes.core.runner import run

    adapter = peaked("vit_tiny_patch16_224")
    adapter.module.float()
    opened: list[weakref.ref] = []
    alive: list[int] = []

    def picture(place: int) -> Image.Image:
        alive.append(sum(reference() is not None for reference in opened))
        original = noise(8)[place]
        opened.append(weakref.ref(original))
        return original

    sources = [ImageSource(f"image {i}", partial(picture, i)) for i in range(8)]
    run({"a": adapter, "b": adapter}, sources, {"token-norm": made("token-norm")}, batch_size=4)
    assert alive == [0] * 8


def test_unknown_probe_names_the_alternatives() -> None:
    with pytest.raises(ValueError, match="attention-maps"):
        probes.load("attention-map")
