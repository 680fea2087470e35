"""Masked reconstruction against the definition in float64: patches cut, hidden, put back and compared one by one."""

import math
import shutil

import numpy as np
import pytest
import torch
import xarray as xr

from model_zoo import catalog
from model_zoo.adapter import Adapter
from model_zoo.catalog import DECODER
from model_zoo.images import ImageSource
from model_zoo.loading import load
from model_zoo.mae import Decoder, save_decoder, stays
from model_zoo.reference import ModelError
from probes.core.runner import run
from probes.masked_reconstruction import MaskedReconstruction
from tests.probes.families import Double, double, inputs, noise, peaked

IMAGES = noise(3)
SOURCES = [ImageSource(f"image {i}", lambda image=image: image) for i, image in enumerate(IMAGES)]


def result(adapter: Adapter, **parameters) -> xr.Dataset:
    return run({"m": adapter}, SOURCES, {"p": MaskedReconstruction(**parameters)}, batch_size=2)["p"]["m"]


def cut(image: np.ndarray, rows: int, columns: int, side: int) -> np.ndarray:
    """An image (3, height, width) as patches (row by row, channel, y, x), cut one by one."""
    corners = [(r * side, c * side) for r in range(rows) for c in range(columns)]
    return np.stack([image[:, y : y + side, x : x + side] for y, x in corners])


def predicted(adapter: Adapter, image: torch.Tensor, visible: list[int]) -> np.ndarray:
    """What the decoder says of every patch (patch, channel, y, x), from the paper: timm's blocks, and nothing else."""
    model, decoder = adapter.module, adapter.decoder
    (rows, columns), side = adapter.spec.grid, adapter.spec.patch
    weight, bias = model.patch_embed.proj.weight.flatten(1), model.patch_embed.proj.bias
    patches = torch.from_numpy(cut(image.numpy(), rows, columns, side)).flatten(1)
    cls = model.cls_token[0, 0] + model.pos_embed[0, 0]
    tokens = [weight @ patches[i] + bias + model.pos_embed[0, 1 + i] for i in visible]
    code = torch.stack([cls, *tokens])[None]
    for block in model.blocks:
        code = block(code)
    code = decoder.bridge(model.norm(code))[0]
    full = [code[0]]
    for i in range(rows * columns):
        token = code[1 + visible.index(i)] if i in visible else decoder.mask_token[0, 0]
        full.append(token + decoder.positions[0, i])
    decoded = torch.stack(full)[None]
    for block in decoder.blocks:
        decoded = block(decoded)
    return decoder.predict(decoder.norm(decoded[0, 1:])).unflatten(1, (3, side, side)).numpy()


@pytest.mark.parametrize("patch_norm", [True, False])
@torch.no_grad()
def test_against_the_definition(patch_norm: bool) -> None:
    adapter = double("vit_tiny_patch16_224")
    adapter.decoder.patch_norm = patch_norm
    found = result(adapter, mask_ratio=0.7, seed=3)
    (rows, columns), side = adapter.spec.grid, adapter.spec.patch
    assert (rows, columns) == (4, 6)
    visible = sorted(stays(1, 24, 0.7, torch.Generator().manual_seed(3))[0].tolist())
    assert len(visible) == 7
    mean, std = (np.array(adapter.config[name]) for name in ("mean", "std"))
    for number, image in enumerate(inputs(adapter, IMAGES)):
        guess, errors = predicted(adapter, image, visible), []
        for i, truth in enumerate(cut(image.numpy(), rows, columns, side)):
            r, c = divmod(i, columns)
            values = truth.ravel().tolist()
            middle = math.fsum(values) / len(values) if patch_norm else 0.0
            variance = math.fsum((v - middle) ** 2 for v in values) / (len(values) - 1)
            scale = math.sqrt(variance + 1e-4) if patch_norm else 1.0
            pairs = zip(guess[i].ravel().tolist(), values, strict=True)
            error = math.fsum((g - (v - middle) / scale) ** 2 for g, v in pairs) / len(values)
            said = found.isel(image=number, y=r, x=c)
            assert bool(said.hidden) == (i not in visible)
            if i in visible:
                assert np.isnan(said.error)
            else:
                assert float(said.error) == pytest.approx(error, rel=1e-9)
                errors.append(error)
            window = {"row": slice(r * side, (r + 1) * side), "column": slice(c * side, (c + 1) * side)}
            for name, patch in (("original", truth), ("reconstruction", guess[i] * scale + middle)):
                colours = patch.transpose(1, 2, 0) * std + mean
                np.testing.assert_allclose(found[name].isel(image=number, **window), colours, atol=1e-5)
        assert float(found.loss[number]) == pytest.approx(math.fsum(errors) / len(errors), rel=1e-9)
    assert (found.attrs["hidden_patches"], found.attrs["patches"]) == (17, 24)
    assert ("mean 0 and deviation 1" in found.error.attrs["units"]) == patch_norm


def test_what_is_hidden_changes_nothing_that_is_predicted() -> None:
    """Other pixels in a hidden patch leave its prediction as it was, but for the mean and contrast that are lent."""
    adapter = double("vit_tiny_patch16_224")
    adapter.decoder.patch_norm = False
    first = result(adapter)
    hidden = np.kron(first.hidden[0], np.ones((16, 16))) > 0

    class Scrambled(Double):
        def preprocess(self, image):
            x = super().preprocess(image)
            return torch.where(torch.from_numpy(hidden), torch.flip(x, (1, 2)) * 3 - 1, x)

    other = result(Scrambled(adapter.module, image_size=adapter.image_size, decoder=adapter.decoder))
    assert not np.allclose(other.original, first.original)
    np.testing.assert_array_equal(other.reconstruction, first.reconstruction)


def test_the_mask_is_seeded_the_same_for_all_images_and_its_share_is_kept() -> None:
    adapter = double("vit_tiny_patch16_224")
    one, again, other = (result(adapter, seed=seed).hidden.values for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one == one[0]).all()
    assert (one[0] != other[0]).any()
    assert {int(mask.sum()) for mask in (*one, *other)} == {18}
    assert int(result(adapter, mask_ratio=0.99).hidden[0].sum()) == 23, "one patch stays"


def test_without_a_decoder_it_says_so() -> None:
    spec = peaked("deit_tiny_distilled_patch16_224").spec
    assert MaskedReconstruction().undefined(spec) == (
        "no decoder (decoder.safetensors) lies beside its weights, so nothing fills in the hidden patches"
    )


@pytest.mark.parametrize("parameters", [{"mask_ratio": 0.0}, {"mask_ratio": 1.0}, {"seed": -1}])
def test_parameters_out_of_range_are_refused(parameters) -> None:
    with pytest.raises(ValueError, match="must be"):
        MaskedReconstruction(**parameters)


@pytest.fixture
def zoo_folder(tmp_path, monkeypatch):
    """The shipped masked autoencoder in a folder of its own, without a decoder."""
    key = "scenes-vit-mae"
    shutil.copytree(catalog.CATALOG[key].folder, tmp_path / key, ignore=shutil.ignore_patterns(DECODER))
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    return tmp_path / key


def test_the_decoder_beside_shipped_weights_is_loaded_with_them(zoo_folder) -> None:
    bare = load("scenes-vit-mae", device="cpu")
    assert not bare.spec.reconstructs
    assert MaskedReconstruction().undefined(bare.spec)
    torch.manual_seed(0)
    kept = Decoder(bare.module.embed_dim, bare.spec.patch, bare.spec.grid)
    save_decoder(kept, zoo_folder / DECODER)
    adapter = load("scenes-vit-mae", device="cpu")
    assert adapter.spec.reconstructs
    found = result(adapter)
    assert found.sizes["row"] == adapter.spec.input_size[0]
    assert float(found.loss.mean()) > 0
    larger = load("scenes-vit-mae", device="cpu", image_size=(96, 144))
    assert result(larger).hidden.shape == (3, 12, 18), "its positions are fitted to another grid"


def test_a_damaged_decoder_is_named(zoo_folder) -> None:
    (zoo_folder / DECODER).write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"decoder.safetensors.* of scenes-vit-mae again"):
        load("scenes-vit-mae", device="cpu")
