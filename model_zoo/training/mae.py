"""Masked autoencoding: reconstruct most of the image from a few visible patches.

Reference:
    He et al. 2022, "Masked autoencoders are scalable vision learners", arXiv:2111.06377.
"""

from typing import Any

import torch
from timm.layers import build_sincos2d_pos_embed, resample_abs_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from model_zoo.training.objective import Objective


class MaskedAutoencoder(Objective):
    r"""The encoder sees a random quarter of the patches; a small decoder predicts the pixels of the others.

    .. math:: L = \frac1{|M|} \sum_{i \in M} \frac1{3p^2} \lVert \hat x_i - n(x_i) \rVert^2

    where M are the masked patches and n subtracts each patch's own mean and divides by its standard deviation
    (``patch_norm=False`` predicts the pixels as they are, in units of the model's normalised input).

    Args:
        student: a timm VisionTransformer without classifier, made with ``dynamic_img_size=True``.
        normalise: to the range of the student.
        mask_ratio: share of the patches that is hidden.
        decoder_width: of the decoder, which is thrown away after training.
        decoder_depth: its blocks.
        patch_norm: whether targets are normalised patch by patch.
    """

    def __init__(
        self,
        student: Any,
        normalise: nn.Module,
        mask_ratio: float = 0.75,
        decoder_width: int = 96,
        decoder_depth: int = 2,
        patch_norm: bool = True,
    ) -> None:
        super().__init__(student, normalise)
        self.mask_ratio, self.patch_norm = mask_ratio, patch_norm
        self.patch = student.patch_embed.patch_size[0]
        grid_h, grid_w = student.patch_embed.grid_size
        self.grid = (grid_h, grid_w)
        self.bridge = nn.Linear(student.embed_dim, decoder_width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, decoder_width) * 0.02)
        self.positions = nn.Parameter(build_sincos2d_pos_embed([grid_h, grid_w], decoder_width)[None])
        self.decoder = nn.Sequential(*(Block(decoder_width, num_heads=4, qkv_bias=True) for _ in range(decoder_depth)))
        self.norm = nn.LayerNorm(decoder_width)
        self.predict = nn.Linear(decoder_width, self.patch**2 * 3)

    def _targets(self, images: Tensor) -> Tensor:
        """Patches (B, N, 3 p p), row by row."""
        p = self.patch
        patches = nn.functional.unfold(images, kernel_size=p, stride=p).transpose(1, 2)
        if self.patch_norm:
            variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
            patches = (patches - mean) / torch.sqrt(variance + 1e-4)
        return patches

    def forward(self, views: list[Tensor], labels: Tensor, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The mean squared error over the hidden patches; labels are not used."""
        images, model = self.normalise(views[0]), self.student
        tokens = model._pos_embed(model.patch_embed(images))
        prefix, patches = tokens[:, : model.num_prefix_tokens], tokens[:, model.num_prefix_tokens :]
        batch, count, width = patches.shape
        keep = max(1, round(count * (1 - self.mask_ratio)))
        order = torch.rand(batch, count, device=images.device).argsort(dim=1)
        visible = order[:, :keep]
        shown = patches.gather(1, visible[:, :, None].expand(-1, -1, width))
        code = model.norm(model.blocks(model.norm_pre(torch.cat([prefix, shown], dim=1))))

        code = self.bridge(code)
        full = self.mask_token.expand(batch, count, -1).to(code.dtype)
        full = full.scatter(1, visible[:, :, None].expand(-1, -1, code.shape[-1]), code[:, model.num_prefix_tokens :])
        side = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        full = full + resample_abs_pos_embed(self.positions, new_size=side, old_size=self.grid, num_prefix_tokens=0)
        decoded = self.decoder(torch.cat([code[:, : model.num_prefix_tokens], full], dim=1))
        predicted = self.predict(self.norm(decoded[:, model.num_prefix_tokens :])).float()

        error = ((predicted - self._targets(images)) ** 2).mean(-1)
        hidden = torch.ones_like(error).scatter(1, visible, 0.0)
        return (error * hidden).sum() / hidden.sum(), {}
