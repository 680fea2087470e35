"""Token norms against the tokens themselves, and the rule for high norms."""

import numpy as np
import pytest
import torch

from model_zoo.adapter import ModelSpec
from probes.core.capture import Tokens, forward
from probes.token_norm import TokenNorm
from tests.probes.families import inputs, noise, peaked
from tests.probes.test_contract import fold


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "vit_small_patch14_reg4_dinov2",
        "vit_base_patch16_siglip_224",
        "cait_xxs24_224",
        "swin_tiny_patch4_window7_224",
        "resnet10t",
    ],
)
def test_matches_the_tokens(name: str) -> None:
    probe, adapter = TokenNorm(), peaked(name)
    result = probe.compute(fold(probe, adapter, [range(1), range(1, 2)]))
    seen: list[Tokens] = []
    with torch.inference_mode():
        points = probe.taps(adapter.spec)
        forward(adapter, inputs(adapter, noise(4)[:2]), range(2), on_tokens=seen.append, points=points)
    assert result.layer.values.tolist() == list(range(len(seen)))
    for tokens in seen:
        layer = int(tokens.point.split(".")[1])
        height, width = tokens.grid
        for image in range(2):
            vectors = tokens.values[image].numpy()
            lengths = np.sqrt(np.einsum("kc,kc->k", vectors, vectors))
            here = result.norm[image, layer, :height, :width]
            np.testing.assert_allclose(here.values.ravel(), lengths[tokens.prefix :], rtol=1e-6)
            if tokens.prefix:
                np.testing.assert_allclose(result.prefix_norm[image, layer], lengths[: tokens.prefix], rtol=1e-6)
        assert np.isnan(result.norm[:, layer, height:]).all()
        assert (int(result.grid_height[layer]), int(result.grid_width[layer])) == (height, width)
    assert ("prefix_norm" in result) == any(tokens.prefix for tokens in seen)


def test_high_norms_by_the_rule() -> None:
    """Of 2×3 patches one is four times, one 2.9 times the median long; CLS is longer still and is no patch."""
    spec = ModelSpec("toy", (2, 3), 1, (2, 3), ("cls",), (), ("resid_post.0",), 0)
    lengths = torch.tensor([100.0, 1.0, 1.0, 4.0, 1.0, 2.9, 1.0])
    values = torch.stack([lengths, torch.zeros(7)], 1)[None]
    probe = TokenNorm()
    result = probe.compute(probe.update(probe.init(spec), Tokens("resid_post.0", range(1), values, 1, (2, 3))))
    assert result.high.values[0, 0].tolist() == [[False, False, True], [False, False, False]]
    assert float(result.prefix_norm[0, 0, 0]) == 100
    strict = TokenNorm(factor=2.5)
    result = strict.compute(strict.update(strict.init(spec), Tokens("resid_post.0", range(1), values, 1, (2, 3))))
    assert result.high.values[0, 0].tolist() == [[False, False, True], [False, True, False]]


@pytest.mark.parametrize("factor", [1.0, 0.0, float("nan"), float("inf")])
def test_bad_factor(factor: float) -> None:
    with pytest.raises(ValueError, match="above 1"):
        TokenNorm(factor=factor)
