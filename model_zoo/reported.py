"""Published accuracy of checkpoints, to stand beside what is measured here.

A figure belongs to one checkpoint by timm's full name. It was measured on the 50,000 validation images of ImageNet-1k
at the stated input size: on other images, or at another size, another number is to be expected.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """One published figure.

    Attributes:
        top1, top5: shares from 0 to 1.
        input_size: side of the input it was measured at, pixels.
        source: where it stands.
    """

    top1: float
    top5: float
    input_size: int
    source: str


_SOURCE = "timm's results/results-imagenet.csv (commit 0173a13)"
_PERCENT = {
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k": (75.454, 92.844, 224),
    "vit_small_patch16_224.augreg_in1k": (78.846, 94.288, 224),
    "vit_small_patch16_224.augreg_in21k_ft_in1k": (81.384, 96.136, 224),
    "vit_base_patch16_224.augreg_in1k": (79.154, 94.090, 224),
    "vit_base_patch16_224.augreg_in21k_ft_in1k": (84.532, 97.292, 224),
    "vit_base_patch32_224.augreg_in21k_ft_in1k": (80.716, 95.566, 224),
    "vit_large_patch16_224.augreg_in21k_ft_in1k": (85.834, 97.818, 224),
    "deit_tiny_patch16_224.fb_in1k": (72.172, 91.112, 224),
    "deit_small_patch16_224.fb_in1k": (79.844, 95.044, 224),
    "deit_base_patch16_224.fb_in1k": (81.992, 95.736, 224),
    "deit_tiny_distilled_patch16_224.fb_in1k": (74.500, 91.892, 224),
    "deit_small_distilled_patch16_224.fb_in1k": (81.218, 95.384, 224),
    "deit_base_distilled_patch16_224.fb_in1k": (83.386, 96.488, 224),
    "deit3_small_patch16_224.fb_in1k": (81.370, 95.456, 224),
    "deit3_base_patch16_224.fb_in1k": (83.786, 96.588, 224),
    "deit3_base_patch16_224.fb_in22k_ft_in1k": (85.700, 97.746, 224),
    "beit_base_patch16_224.in22k_ft_in22k_in1k": (85.212, 97.658, 224),
    "beitv2_base_patch16_224.in1k_ft_in22k_in1k": (86.474, 98.052, 224),
    "eva02_small_patch14_336.mim_in22k_ft_in1k": (85.716, 97.632, 336),
    "cait_xxs24_224.fb_dist_in1k": (78.384, 94.316, 224),
    "cait_s24_224.fb_dist_in1k": (83.442, 96.574, 224),
    "swin_tiny_patch4_window7_224.ms_in1k": (81.376, 95.544, 224),
    "swin_base_patch4_window7_224.ms_in1k": (83.606, 96.452, 224),
    "swinv2_tiny_window8_256.ms_in1k": (81.820, 95.994, 256),
    "resnet50.a1_in1k": (81.214, 95.102, 288),
}

REPORTED = {
    name: Reported(round(top1 / 100, 5), round(top5 / 100, 5), size, _SOURCE)
    for name, (top1, top5, size) in _PERCENT.items()
}
"""By timm's full name of the checkpoint. Models without a classifier of ImageNet-1k have no such figure."""
