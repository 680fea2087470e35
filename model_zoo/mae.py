"""What a masked autoencoder is made of beside its encoder: the patches that stay, the decoder, the pixels to predict.

Reference:
    He et al. 2022, "Masked autoencoders are scalable vision learners", arXiv:2111.06377.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from timm.layers import build_sincos2d_pos_embed, resample_abs_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from model_zoo.weight_files import plain_name

VARIANCE_FLOOR = 1e-4
HEADS = 4


def stays(batch: int, count: int, mask_ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Which patches the encoder sees: (batch, K) indices, another random choice for each image.

    Args:
        batch: how many images.
        count: patches of one image.
        mask_ratio: share of them that is hidden; at least one stays.
        generator: of the random numbers, which are drawn on the CPU; torch's own where there is none.
    """
    keep = max(1, round(count * (1 - mask_ratio)))
    return torch.rand(batch, count, generator=generator).argsort(dim=1)[:, :keep]


def encode(model: Any, images: Tensor, visible: Tensor) -> Tensor:
    """The encoder's tokens of the visible patches alone, after its last norm.

    Args:
        model: a timm VisionTransformer.
        images: (B, 3, H, W), normalised as it expects.
        visible: (B, K), as :func:`stays` gives.

    Returns:
        (B, P + K, C): prefix tokens first, patches in the order of ``visible``.
    """
    tokens = model._pos_embed(model.patch_embed(images))
    prefix, patches = tokens[:, : model.num_prefix_tokens], tokens[:, model.num_prefix_tokens :]
    shown = patches.gather(1, visible[:, :, None].expand(-1, -1, patches.shape[-1]))
    code: Tensor = model.norm(model.blocks(model.norm_pre(torch.cat([prefix, shown], dim=1))))
    return code


def pixels(images: Tensor, patch: int) -> Tensor:
    """Images (B, 3, H, W) as patches (B, N, 3 p p), row by row."""
    return F.unfold(images, kernel_size=patch, stride=patch).transpose(1, 2)


def patch_moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, (B, N, 1), by which the pixels to predict are normalised."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, torch.sqrt(variance + VARIANCE_FLOOR)


class Decoder(nn.Module):
    """Predicts the pixels of every patch from the tokens of the visible ones.

    Args:
        embed_dim: width of the encoder.
        patch: side of its patches, pixels.
        grid: rows and columns of patches that the position embeddings are made for.
        width: of the decoder.
        depth: its blocks.
        patch_norm: whether it was trained on pixels normalised patch by patch (:func:`patch_moments`).
    """

    def __init__(
        self,
        embed_dim: int,
        patch: int,
        grid: tuple[int, int],
        width: int = 96,
        depth: int = 2,
        patch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.made: dict[str, Any] = {
            "embed_dim": embed_dim,
            "patch": patch,
            "grid": list(grid),
            "width": width,
            "depth": depth,
            "patch_norm": patch_norm,
        }
        self.grid, self.patch, self.patch_norm = tuple(grid), patch, patch_norm
        self.bridge = nn.Linear(embed_dim, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(build_sincos2d_pos_embed(list(grid), width)[None])
        self.blocks = nn.Sequential(*(Block(width, num_heads=HEADS, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, patch**2 * 3)

    def forward(self, code: Tensor, visible: Tensor, grid: tuple[int, int]) -> Tensor:
        """The predicted pixels of all patches, (B, N, 3 p p), in the units of the training's targets.

        Args:
            code: what :func:`encode` gives, (B, P + K, C).
            visible: (B, K), which patches the last K tokens are.
            grid: rows and columns of patches of the image, N in all.
        """
        code = self.bridge(code)
        prefix = code.shape[1] - visible.shape[1]
        full = self.mask_token.expand(len(code), grid[0] * grid[1], -1).to(code.dtype)
        full = full.scatter(1, visible[:, :, None].expand(-1, -1, code.shape[-1]), code[:, prefix:])
        full = full + resample_abs_pos_embed(
            self.positions, new_size=list(grid), old_size=list(self.grid), num_prefix_tokens=0
        )
        decoded = self.blocks(torch.cat([code[:, :prefix], full], dim=1))
        predicted: Tensor = self.predict(self.norm(decoded[:, prefix:]))
        return predicted


def save_decoder(decoder: Decoder, path: Path) -> None:
    """Writes a decoder as float16 safetensors with what it was made with, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.half().detach().cpu().contiguous() for name, value in decoder.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(state, partial, metadata={"format": "pt", "decoder": json.dumps(decoder.made)})
    partial.replace(path)


def load_decoder(path: Path) -> Decoder:
    """The decoder that :func:`save_decoder` wrote, in float32 and ready to be used.

    Raises:
        ValueError: if the file is not one.
    """
    try:
        with plain_name(path) as name, safe_open(name, framework="pt") as file:
            made = json.loads((file.metadata() or {})["decoder"])
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        decoder = Decoder(**{**made, "grid": tuple(made["grid"])})
        decoder.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} should be the decoder of a masked autoencoder: {error}") from error
    return decoder.eval().requires_grad_(False)
