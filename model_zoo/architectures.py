"""The networks of the shipped zoo, registered with timm under names of their own.

Importing this module is what registers them; then ``timm.create_model("scenes_vit")`` and
``timm.data.resolve_model_data_config`` work as for any timm model. Nothing here reimplements a network: each entry is
one of timm's classes with its arguments.

The transformers have 196 patches of 8x8 pixels on a 14x14 grid, width 128, depth 6 and 4 heads: the smallest plain
transformer whose attention maps are as fine as those of ViT-B/16 at 224 px.
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.deit import VisionTransformerDistilled
from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitConvCfg, MaxxVitTransformerCfg
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer

from model_zoo.scenes import CLASSES

INPUT_SIZE = 112
PATCH = 8
_TRANSFORMER = {
    "img_size": INPUT_SIZE,
    "patch_size": PATCH,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "weight_init": "jax",
}


def _cfg(**kwargs: Any) -> dict[str, Any]:
    return {
        "num_classes": len(CLASSES),
        "label_names": CLASSES,
        "input_size": (3, INPUT_SIZE, INPUT_SIZE),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "fixed_input_size": True,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "license": "apache-2.0",
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        "scenes_vit": _cfg(),
        "scenes_vit_reg4": _cfg(),
        "scenes_deit_distilled": _cfg(classifier=("head", "head_dist")),
        "digits_vit": _cfg(num_classes=10, label_names=tuple("0123456789"), input_size=(3, 16, 16)),
        "scenes_resnet": _cfg(first_conv="conv1.0", classifier="fc", pool_size=(4, 4), fixed_input_size=False),
        "scenes_hybrid": _cfg(first_conv="stem.conv1", classifier="head.fc", pool_size=(14, 14)),
    }
)


@register_model
def scenes_vit(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Plain vision transformer with a class token; ``num_classes=0`` is the encoder of DINO and MAE."""
    return build_model_with_cfg(VisionTransformer, "scenes_vit", pretrained, **{**_TRANSFORMER, **kwargs})


@register_model
def scenes_vit_reg4(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """The same with four registers behind the class token (Darcet et al. 2024, arXiv:2309.16588)."""
    arguments = {**_TRANSFORMER, "reg_tokens": 4, **kwargs}
    return build_model_with_cfg(VisionTransformer, "scenes_vit_reg4", pretrained, **arguments)


@register_model
def digits_vit(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """The transformer of the recipe ``digits``: 8 × 8 patches of 2 × 2 pixels, width 48, depth 4, 3 heads."""
    arguments = {**_TRANSFORMER, "img_size": 16, "patch_size": 2, "embed_dim": 48, "depth": 4, "num_heads": 3, **kwargs}
    return build_model_with_cfg(VisionTransformer, "digits_vit", pretrained, **arguments)


@register_model
def scenes_deit_distilled(pretrained: bool = False, **kwargs: Any) -> VisionTransformerDistilled:
    """The same transformer with a second prefix token and head that learn from a teacher (DeiT)."""
    arguments = {**_TRANSFORMER, **kwargs}
    return build_model_with_cfg(VisionTransformerDistilled, "scenes_deit_distilled", pretrained, **arguments)


@register_model
def scenes_resnet(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """A ResNet of one basic block a stage, with timm's deep 3x3 stem: the convolutional reference."""
    arguments = {
        "block": BasicBlock,
        "layers": (1, 1, 1, 1),
        "channels": (32, 64, 128, 256),
        "stem_width": 16,
        "stem_type": "deep",
        **kwargs,
    }
    return build_model_with_cfg(ResNet, "scenes_resnet", pretrained, **arguments)


@register_model
def scenes_hybrid(pretrained: bool = False, **kwargs: Any) -> MaxxVit:
    """Convolution first, and attention between convolutions towards the end, as AlterNet (Park and Kim 2022) has it.

    One convolution block at 28 × 28, then five blocks at 14 × 14 on one residual stream, in which from the end
    backwards attention and convolution take turns: C | C C A C A. Of timm's CoAtNet. A convolution block is 1 × 1,
    3 × 3 and 1 × 1 kernels with batch norm, an attention block has 4 heads over all 196 cells and an MLP. There is no
    class token; positions are known by a bias for every difference of rows and of columns.
    """
    cfg = MaxxVitCfg(
        embed_dim=(32, 80),
        depths=(1, 5),
        block_type=("C", ("C", "C", "T", "C", "T")),
        stem_width=16,
        conv_cfg=MaxxVitConvCfg(
            expand_ratio=1,
            group_size=0,
            stride_mode="pool",
            act_layer="relu",
            attn_layer=None,  # type: ignore[arg-type]  # that would be squeeze and excitation, which is global
        ),
        transformer_cfg=MaxxVitTransformerCfg(dim_head=20),
    )
    return build_model_with_cfg(
        MaxxVit, "scenes_hybrid", pretrained, model_cfg=cfg, **{"img_size": INPUT_SIZE, **kwargs}
    )
