"""Masked autoencoding: reconstruct most of the image from a few visible patches.

Reference:
    He et al. 2022, "Masked autoencoders are scalable vision learners", arXiv:2111.06377.
"""

from typing import Any

import torch
from torch import Tensor, nn

from model_zoo.mae import Decoder, encode, patch_moments, pixels, stays
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
        decoder_width: of the decoder.
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
        self.mask_ratio = mask_ratio
        patch = student.patch_embed.patch_size[0]
        rows, columns = student.patch_embed.grid_size
        self.decoder = Decoder(
            student.embed_dim, patch, (rows, columns), decoder_width, decoder_depth, patch_norm=patch_norm
        )

    def forward(self, views: list[Tensor], labels: Tensor, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The mean squared error over the hidden patches; labels are not used."""
        images, patch = self.normalise(views[0]), self.decoder.patch
        grid = (images.shape[-2] // patch, images.shape[-1] // patch)
        visible = stays(len(images), grid[0] * grid[1], self.mask_ratio).to(images.device)
        predicted = self.decoder(encode(self.student, images, visible), visible, grid).float()

        target = pixels(images, patch)
        if self.decoder.patch_norm:
            mean, deviation = patch_moments(target)
            target = (target - mean) / deviation
        error = ((predicted - target) ** 2).mean(-1)
        hidden = torch.ones_like(error).scatter(1, visible, 0.0)
        return (error * hidden).sum() / hidden.sum(), {}

    def decodes(self) -> Decoder:
        """The decoder, kept beside the encoder to show what it reconstructs."""
        return self.decoder
