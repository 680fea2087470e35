"""Small random models of every family, with attention made peaked so that errors in it cannot hide."""

from typing import Any

import timm
import torch
from PIL import Image
from torch import nn

from model_zoo.adapter import Adapter
from model_zoo.mae import Decoder

# name -> input height and width, none square where the family allows it, and what makes the model small
SMALL = {"depth": 3, "embed_dim": 192, "num_heads": 3}
HYBRID = {"embed_dim": (32, 64), "depths": (1, 4), "block_type": ("C", ("C", "T", "C", "T"))}
HYBRID |= {"stem_width": 16, "head_hidden_size": 0}
FAMILIES: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "vit_tiny_patch16_224": ((64, 96), {"depth": 4}),  # one prefix token
    "deit_tiny_distilled_patch16_224": ((96, 64), {"depth": 3}),  # two
    "deit3_small_patch16_224": ((64, 96), SMALL),
    "vit_small_patch8_224": ((32, 48), SMALL),
    "vit_small_patch14_dinov2": ((56, 84), SMALL),
    "vit_small_patch14_reg4_dinov2": ((84, 56), SMALL),  # five
    "vit_medium_patch16_reg4_gap_256": ((64, 96), SMALL),  # four registers and no CLS
    "vit_small_patch16_dinov3": ((64, 96), SMALL),  # five, rotary
    "vit_base_patch16_siglip_224": ((64, 96), SMALL),  # none, and a pooling query
    "vit_base_patch16_clip_224": ((64, 96), SMALL),
    "beit_base_patch16_224": ((64, 96), SMALL),  # relative position bias
    "eva02_tiny_patch14_224": ((56, 84), {"depth": 3}),  # rotary
    "cait_xxs24_224": ((64, 96), {"depth": 3}),  # talking heads, class attention
    "swin_tiny_patch4_window7_224": ((112, 224), {"depths": (2, 2), "num_heads": (3, 6)}),  # shifted windows
    "swinv2_tiny_window8_256": ((128, 64), {"depths": (2, 2), "num_heads": (3, 6)}),
    "coatnet_0_224": ((64, 96), HYBRID),  # attention between convolutions, a bias of positions, no token but the map's
    "tnt_s_patch16_224": ((224, 224), {"depth": 2}),  # pixels and patches in two streams
}
CONVOLUTIONAL = {"resnet18": (64, 96)}
"""The reference, which takes inputs of any size."""
QUICK = ("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_patch14_reg4_dinov2")


def peaked(
    name: str, size: tuple[int, int] | None = None, *, seed: int = 0, sharpen: float = 6.0, **small: Any
) -> Adapter:
    """A random model in float64 whose query and key projections are scaled up.

    Args:
        name: timm's name.
        size: input height and width; the family's from `FAMILIES` when None. Families of `FAMILIES` are made small.
        seed: of the weights.
        sharpen: factor of the query and of the key projection.
        small: what makes a model small that is not in `FAMILIES`.
    """
    usual, own = FAMILIES.get(name, (None, {}))
    size, small = size or usual or CONVOLUTIONAL.get(name), own | small
    default = timm.get_pretrained_cfg(name, allow_unregistered=False).input_size[1:]
    resized = size is not None and tuple(size) != tuple(default)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made_for = {"img_size": size} if resized and name not in CONVOLUTIONAL else {}
        model = timm.create_model(name, **small, **made_for)
        for module in model.modules():
            _sharpen(module, sharpen)
        decoder = _decoder(model) if name == "vit_tiny_patch16_224" else None
    return Adapter(model.double(), image_size=size if resized else None, decoder=decoder)


def _decoder(model: Any) -> Decoder:
    """A random decoder for a plain ViT, as masked autoencoders have one."""
    decoder = Decoder(model.embed_dim, 16, model.patch_embed.grid_size, width=32)
    for module in decoder.modules():
        _sharpen(module, 6.0)
    return decoder.double().eval().requires_grad_(False)


class Double(Adapter):
    """Inputs in the precision of the random models, for runs through the runner."""

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """The input in float64."""
        return super().preprocess(image).double()


def double(name: str, seed: int = 0) -> Double:
    """A `peaked` model that can be run from pictures."""
    adapter = peaked(name, seed=seed)
    return Double(adapter.module, image_size=adapter.image_size, decoder=adapter.decoder)


def _sharpen(module: nn.Module, factor: float) -> None:
    for child, share in (("qkv", 2 / 3), ("qk", 1.0), ("q", 1.0), ("k", 1.0), ("kv", 1 / 2)):
        linear = getattr(module, child, None)
        if isinstance(linear, nn.Linear):
            rows = round(linear.out_features * share)
            with torch.no_grad():
                linear.weight[:rows].mul_(factor)
    if type(module).__name__ == "Attention2d":  # query, key and value of one head after the other
        query_and_key = module.qkv.weight.detach().unflatten(0, (module.num_heads, 3, -1))[:, :2]
        query_and_key.mul_(factor)


def noise(count: int, size: tuple[int, int] = (120, 90), seed: int = 0) -> list[Image.Image]:
    """Images of smooth random colours, width × height."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    fine = nn.functional.interpolate(coarse, size=size[::-1], mode="bicubic").clamp(0, 1)
    return [Image.fromarray((x.permute(1, 2, 0) * 255).byte().numpy()) for x in fine]


def inputs(adapter: Adapter, images: list[Image.Image]) -> torch.Tensor:
    """The model's inputs in its own precision."""
    return torch.stack([adapter.preprocess(image) for image in images]).to(next(adapter.module.parameters()).dtype)
