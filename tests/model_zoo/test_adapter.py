"""Preprocessing equals timm's, and its geometry is where the pixels really went."""

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from model_zoo.adapter import Adapter, Geometry


def model(**config: object) -> nn.Module:
    """A stand-in that carries a data configuration; geometry and preprocessing read nothing else."""
    module = timm.create_model("resnet18", num_classes=0)
    module.pretrained_cfg = {**module.pretrained_cfg, **config}
    module.default_cfg = module.pretrained_cfg
    return module


CONFIGS = [
    {"input_size": (3, 224, 224), "crop_pct": 0.875, "crop_mode": "center"},
    {"input_size": (3, 224, 224), "crop_pct": 0.9, "crop_mode": "center"},
    {"input_size": (3, 224, 224), "crop_pct": 1.0, "crop_mode": "center"},
    {"input_size": (3, 192, 160), "crop_pct": 0.95, "crop_mode": "center"},
    {"input_size": (3, 224, 224), "crop_pct": 0.9, "crop_mode": "squash"},
    {"input_size": (3, 224, 224), "crop_pct": 1.0, "crop_mode": "border"},
]


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (640, 640), (150, 100), (1000, 99)])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_geometry(config: dict, size: tuple[int, int]) -> None:
    """Colours that encode position say which original pixel landed at each corner of the input."""
    adapter = Adapter(model(**config, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear"))
    width, height = size
    ramp = np.zeros((height, width, 3), np.float32)
    ramp[..., 0] = (np.arange(width) + 0.5)[None] / width
    ramp[..., 1] = (np.arange(height) + 0.5)[:, None] / height
    # 16-bit precision out of two 8-bit renderings would be needed for exactness; one grey level is 1/255 of the image
    x = adapter.preprocess(Image.fromarray((ramp * 255).round().astype(np.uint8)))
    box, (rows, columns) = adapter.geometry(size).box, adapter.input_size
    assert tuple(x.shape[1:]) == (rows, columns)
    for r, c in [(0.3, 0.3), (0.5, 0.5), (0.7, 0.4)]:
        row, column = int(r * rows), int(c * columns)
        u = (box[0] + (column + 0.5) / columns * (box[2] - box[0])) / width
        v = (box[1] + (row + 0.5) / rows * (box[3] - box[1])) / height
        if 0.02 < u < 0.98 and 0.02 < v < 0.98:
            assert float(x[0, row, column]) == pytest.approx(u, abs=0.012)
            assert float(x[1, row, column]) == pytest.approx(v, abs=0.012)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch16_dinov3"])
def test_default_is_timms_evaluation_transform(name: str) -> None:
    module = timm.create_model(name)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 451, 3), dtype=np.uint8))
    expected = timm.data.create_transform(**timm.data.resolve_model_data_config(module))(image)
    assert torch.equal(Adapter(module).preprocess(image), expected)


def test_whole_image() -> None:
    adapter = Adapter(timm.create_model("vit_tiny_patch16_224", img_size=(160, 240)), image_size=(160, 240))
    assert adapter.spec.grid == (10, 15)
    assert adapter.geometry((900, 600)).box == (0, 0, 900, 600)
    white = adapter.preprocess(Image.new("RGB", (900, 600), "white"))
    mean, std = (torch.tensor(adapter.config[k])[:, None, None] for k in ("mean", "std"))
    torch.testing.assert_close(white, ((1 - mean) / std).expand(3, 160, 240))


@given(
    u=st.floats(0, 1, exclude_max=True),
    v=st.floats(0, 1, exclude_max=True),
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    left=st.floats(-50, 100),
    top=st.floats(-50, 100),
)
def test_a_point_lies_in_its_patch(u: float, v: float, rows: int, columns: int, left: float, top: float) -> None:
    geometry = Geometry((400, 300), (left, top, left + 200, top + 150), (224, 224))
    patch = geometry.patch_at(u, v, (rows, columns))
    x, y = u * 400, v * 300
    if patch is None:
        assert not (left + 1e-6 < x < left + 200 - 1e-6 and top + 1e-6 < y < top + 150 - 1e-6)
        return
    cell = geometry.cell(*patch, (rows, columns))
    assert 0 <= patch[0] < rows
    assert 0 <= patch[1] < columns
    assert cell[0] - 1e-6 <= x <= cell[2] + 1e-6
    assert cell[1] - 1e-6 <= y <= cell[3] + 1e-6


def test_digest_follows_the_weights() -> None:
    one, two = (timm.create_model("resnet18", num_classes=0) for _ in range(2))
    two.load_state_dict(one.state_dict())
    assert Adapter(one).digest == Adapter(two).digest
    with torch.no_grad():
        two.conv1.weight[0, 0, 0, 0] += 1
    assert Adapter(one).digest != Adapter(two).digest
