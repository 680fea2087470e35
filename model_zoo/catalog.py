"""Every model the project knows by a short key, and the sets of models worth comparing.

The facts stand here as plain values, so that reading the catalog imports nothing heavy; the tests hold sizes, tokens
and licences against timm's own. Licences are those that the weights are published under.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_zoo.reported import REPORTED, Reported

Features = Literal["cls", "mean"]

WEIGHTS = Path(__file__).parent / "weights"

DECODER = "decoder.safetensors"
"""Name of a masked autoencoder's decoder beside its weights."""


@dataclass(frozen=True)
class CatalogEntry:
    """One model of the catalog.

    Attributes:
        key: Short name for the command line and links.
        title: Name for figures and lists.
        family: Family of the architecture or recipe: ViT, DeiT, DINO, Swin ...
        objective: What the training optimised.
        data: What it was trained on.
        paper: arXiv identifier of the recipe.
        licence: Licence of the weights.
        timm_name: Name that ``timm.create_model`` takes, with its tag.
        weights: ``shipped`` with the project or fetched from the ``hub``.
        parameters: Number of parameters, with the classifier where the weights have one.
        patch: Side of a patch in pixels; 0 for a convolutional network.
        input_size: Height and width of the input that the weights expect, pixels.
        prefix_tokens: CLS, distillation and register tokens before the patches. CaiT's one joins in its last layers.
        groups: Names of the presets that hold the model.
    """

    key: str
    title: str
    family: str
    objective: str
    data: str
    paper: str
    licence: str
    timm_name: str
    weights: Literal["shipped", "hub"]
    parameters: int
    patch: int
    input_size: tuple[int, int]
    prefix_tokens: int
    groups: tuple[str, ...] = ()

    @property
    def features(self) -> Features:
        """Which vector stands for an image: CLS, or the mean of the patches.

        The mean where there is no CLS, and where the training hid patches: no loss reaches the CLS of a masked
        autoencoder, and BEiT and EVA-02 classify by the mean. A shipped model's card says the same of its k-NN.
        """
        masked = self.objective in (MASKED, MASKED_SUPERVISED)
        return "cls" if self.prefix_tokens and not masked else "mean"

    @property
    def reported(self) -> Reported | None:
        """The published accuracy of this checkpoint; None where none is known to be of just these weights."""
        return REPORTED.get(self.timm_name)

    @property
    def folder(self) -> Path:
        """Where a shipped model's weights and card lie."""
        return WEIGHTS / self.key

    def card(self) -> dict[str, Any]:
        """The figures in a shipped model's ``card.json``; empty where there is none."""
        path = self.folder / "card.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def decoder(self) -> Path | None:
        """The weights of a shipped masked autoencoder's decoder; None where there are none."""
        path = self.folder / DECODER
        return path if path.is_file() else None

    def snapshots(self) -> dict[int, Path]:
        """The weights that were kept along a shipped model's training, by step in order; without the final ones."""
        files = self.folder.glob("snapshots/step-*.safetensors")
        steps = {path.stem.removeprefix("step-"): path for path in files}
        return {int(step): path for step, path in sorted(steps.items()) if step.isdecimal()}


PRESETS: dict[str, tuple[str, ...]] = {
    "Four objectives": ("scenes-vit-supervised", "scenes-deit-distilled", "scenes-vit-dino", "scenes-vit-mae"),
    "DINO against supervised": ("scenes-vit-supervised", "scenes-vit-dino"),
    "CNN against ViT": ("scenes-resnet", "scenes-vit-supervised", "scenes-deit-distilled"),
    "CNN, hybrid, ViT": ("scenes-resnet", "scenes-hybrid", "scenes-vit-supervised"),
    "Two seeds of one recipe": ("scenes-vit-supervised", "scenes-vit-supervised-seed1"),
    "DINO against DeiT (ViT-S/16)": ("dino-s16", "deit-s16"),
    "ViT training recipes (S/16)": ("vit-s16-in1k", "vit-s16-in21k", "deit-s16", "deit3-s16", "dino-s16"),
    "Objectives (ViT-B/16)": ("vit-b16-in21k", "dino-b16", "mae-b16", "beit-b16", "clip-b16", "siglip-b16"),
    "With and without registers": ("dinov2-s14", "dinov2-reg-s14", "dinov2-b14", "dinov2-reg-b14"),
    "DINO, DINOv2, DINOv3 (small)": ("dino-s16", "dinov2-s14", "dinov2-reg-s14", "dinov3-s16"),
    "Patches of 16 and of 8 (DINO)": ("dino-s16", "dino-s8", "dino-b16", "dino-b8"),
    "Model size (DeiT)": ("deit-t16", "deit-s16", "deit-b16"),
    "Distillation token (DeiT)": ("deit-s16", "deit-s16-distilled", "deit-b16", "deit-b16-distilled"),
    "Image and text": ("clip-b16", "siglip-b16", "vit-b16-in21k"),
    "Families": ("deit-s16", "cait-xxs24", "swin-tiny", "eva02-s14", "dinov3-s16", "resnet50"),
}

IN1K = "ImageNet-1k"
IN1K_UNLABELLED = "ImageNet-1k without labels"
IN21K = "ImageNet-21k, then ImageNet-1k"
LVD142M = "LVD-142M without labels, through a larger teacher"
LVD1689M = "LVD-1689M without labels, through a 7B teacher"
APACHE, MIT, NON_COMMERCIAL, DINOV3 = "Apache-2.0", "MIT", "CC-BY-NC-4.0", "DINOv3-License"
SUPERVISED = "supervised"
DISTILLED = "supervised with distillation"
SELF_DISTILLED = "self-distillation"
MASKED = "masked image modelling"
CONTRASTIVE = "image-text contrastive"
MASKED_SUPERVISED = "masked image modelling, then supervised"


def _entry(
    key: str,
    title: str,
    family: str,
    training: tuple[str, str, str],
    timm_name: str,
    parameters: int,
    *,
    patch: int = 16,
    size: int = 224,
    prefix: int = 1,
    licence: str = APACHE,
    weights: Literal["shipped", "hub"] = "hub",
) -> CatalogEntry:
    """An entry from its facts; ``training`` is the objective, the data and the paper."""
    objective, data, paper = training
    groups = tuple(name for name, keys in PRESETS.items() if key in keys)
    return CatalogEntry(
        key=key,
        title=title,
        family=family,
        objective=objective,
        data=data,
        paper=paper,
        licence=licence,
        timm_name=timm_name,
        weights=weights,
        parameters=parameters,
        patch=patch,
        input_size=(size, size),
        prefix_tokens=prefix,
        groups=groups,
    )


def _scenes(
    key: str, title: str, family: str, objective: str, paper: str, timm_name: str, parameters: int, prefix: int
) -> CatalogEntry:
    """A shipped model: procedural scenes, 112 px; patches of 8, or cells of 8 in a hybrid's map, where it attends."""
    training = (objective, "procedural scenes", paper)
    patch = 0 if family == "ResNet" else 8
    return _entry(
        key, title, family, training, timm_name, parameters, patch=patch, size=112, prefix=prefix, weights="shipped"
    )


_AUGREG = (SUPERVISED, IN1K, "2106.10270")
_AUGREG21 = (SUPERVISED, IN21K, "2106.10270")
_DEIT = (SUPERVISED, IN1K, "2012.12877")
_DEIT_DISTILLED = (DISTILLED, IN1K, "2012.12877")
_DEIT3 = (SUPERVISED, IN1K, "2204.07118")
_DEIT3_21 = (SUPERVISED, IN21K, "2204.07118")
_DINO = (SELF_DISTILLED, IN1K_UNLABELLED, "2104.14294")
_DINOV2 = (SELF_DISTILLED, LVD142M, "2304.07193")
_REGISTERS = (SELF_DISTILLED, LVD142M, "2309.16588")
_DINOV3 = (SELF_DISTILLED, LVD1689M, "2508.10104")
_MAE = (MASKED, IN1K_UNLABELLED, "2111.06377")
_CLIP = (CONTRASTIVE, "400 million image-text pairs (WIT)", "2103.00020")
_LAION = (CONTRASTIVE, "LAION-2B", "2212.07143")
_SIGLIP = (CONTRASTIVE, "WebLI", "2303.15343")
_SIGLIP2 = (CONTRASTIVE, "WebLI", "2502.14786")
_BEIT = (MASKED_SUPERVISED, IN21K, "2106.08254")
_BEITV2 = (MASKED_SUPERVISED, "ImageNet-1k, ImageNet-21k, then ImageNet-1k", "2208.06366")
_EVA = (MASKED, "ImageNet-21k without labels", "2303.11331")
_EVA_SUPERVISED = (MASKED_SUPERVISED, IN21K, "2303.11331")
_CAIT = (DISTILLED, IN1K, "2103.17239")
_SWIN = (SUPERVISED, IN1K, "2103.14030")
_SWINV2 = (SUPERVISED, IN1K, "2111.09883")
_RESNET = (SUPERVISED, IN1K, "2110.00476")

_ENTRIES = (
    _scenes("scenes-vit-supervised", "ViT, supervised", "ViT", SUPERVISED, "2010.11929", "scenes_vit", 1_241_226, 1),
    _scenes(
        "scenes-deit-distilled",
        "DeiT, distilled",
        "DeiT distilled",
        DISTILLED,
        "2012.12877",
        "scenes_deit_distilled",
        1_242_772,
        2,
    ),
    _scenes("scenes-vit-dino", "ViT, DINO", "DINO", SELF_DISTILLED, "2104.14294", "scenes_vit", 1_239_936, 1),
    _scenes("scenes-vit-mae", "ViT, MAE", "MAE", MASKED, "2111.06377", "scenes_vit", 1_239_936, 1),
    _scenes("scenes-resnet", "ResNet", "ResNet", SUPERVISED, "1512.03385", "scenes_resnet", 1_235_514, 0),
    _scenes("scenes-hybrid", "Hybrid", "CoAtNet", SUPERVISED, "2202.06709", "scenes_hybrid", 388_322, 0),
    _scenes(
        "scenes-vit-supervised-seed1",
        "ViT, supervised, seed 1",
        "ViT",
        SUPERVISED,
        "2010.11929",
        "scenes_vit",
        1_241_226,
        1,
    ),
    _entry("vit-t16-in21k", "ViT-Ti/16 21k", "ViT", _AUGREG21, "vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5_717_416),
    _entry("vit-s16-in1k", "ViT-S/16 1k", "ViT", _AUGREG, "vit_small_patch16_224.augreg_in1k", 22_050_664),
    _entry("vit-s16-in21k", "ViT-S/16 21k", "ViT", _AUGREG21, "vit_small_patch16_224.augreg_in21k_ft_in1k", 22_050_664),
    _entry("vit-b16-in1k", "ViT-B/16 1k", "ViT", _AUGREG, "vit_base_patch16_224.augreg_in1k", 86_567_656),
    _entry("vit-b16-in21k", "ViT-B/16 21k", "ViT", _AUGREG21, "vit_base_patch16_224.augreg_in21k_ft_in1k", 86_567_656),
    _entry(
        "vit-b32-in21k",
        "ViT-B/32 21k",
        "ViT",
        _AUGREG21,
        "vit_base_patch32_224.augreg_in21k_ft_in1k",
        88_224_232,
        patch=32,
    ),
    _entry(
        "vit-l16-in21k", "ViT-L/16 21k", "ViT", _AUGREG21, "vit_large_patch16_224.augreg_in21k_ft_in1k", 304_326_632
    ),
    _entry("deit-t16", "DeiT-Ti/16", "DeiT", _DEIT, "deit_tiny_patch16_224.fb_in1k", 5_717_416),
    _entry("deit-s16", "DeiT-S/16", "DeiT", _DEIT, "deit_small_patch16_224.fb_in1k", 22_050_664),
    _entry("deit-b16", "DeiT-B/16", "DeiT", _DEIT, "deit_base_patch16_224.fb_in1k", 86_567_656),
    _entry(
        "deit-t16-distilled",
        "DeiT-Ti/16 distilled",
        "DeiT distilled",
        _DEIT_DISTILLED,
        "deit_tiny_distilled_patch16_224.fb_in1k",
        5_910_800,
        prefix=2,
    ),
    _entry(
        "deit-s16-distilled",
        "DeiT-S/16 distilled",
        "DeiT distilled",
        _DEIT_DISTILLED,
        "deit_small_distilled_patch16_224.fb_in1k",
        22_436_432,
        prefix=2,
    ),
    _entry(
        "deit-b16-distilled",
        "DeiT-B/16 distilled",
        "DeiT distilled",
        _DEIT_DISTILLED,
        "deit_base_distilled_patch16_224.fb_in1k",
        87_338_192,
        prefix=2,
    ),
    _entry("deit3-s16", "DeiT III-S/16 1k", "DeiT III", _DEIT3, "deit3_small_patch16_224.fb_in1k", 22_059_496),
    _entry("deit3-b16", "DeiT III-B/16 1k", "DeiT III", _DEIT3, "deit3_base_patch16_224.fb_in1k", 86_585_320),
    _entry(
        "deit3-b16-in21k",
        "DeiT III-B/16 21k",
        "DeiT III",
        _DEIT3_21,
        "deit3_base_patch16_224.fb_in22k_ft_in1k",
        86_585_320,
    ),
    _entry("dino-s16", "DINO S/16", "DINO", _DINO, "vit_small_patch16_224.dino", 21_665_664),
    _entry("dino-s8", "DINO S/8", "DINO", _DINO, "vit_small_patch8_224.dino", 21_670_272, patch=8),
    _entry("dino-b16", "DINO B/16", "DINO", _DINO, "vit_base_patch16_224.dino", 85_798_656),
    _entry("dino-b8", "DINO B/8", "DINO", _DINO, "vit_base_patch8_224.dino", 85_807_872, patch=8),
    _entry(
        "dinov2-s14",
        "DINOv2 S/14",
        "DINOv2",
        _DINOV2,
        "vit_small_patch14_dinov2.lvd142m",
        22_056_192,
        patch=14,
        size=518,
    ),
    _entry(
        "dinov2-b14",
        "DINOv2 B/14",
        "DINOv2",
        _DINOV2,
        "vit_base_patch14_dinov2.lvd142m",
        86_579_712,
        patch=14,
        size=518,
    ),
    _entry(
        "dinov2-reg-s14",
        "DINOv2 S/14, registers",
        "DINOv2",
        _REGISTERS,
        "vit_small_patch14_reg4_dinov2.lvd142m",
        22_057_344,
        patch=14,
        size=518,
        prefix=5,
    ),
    _entry(
        "dinov2-reg-b14",
        "DINOv2 B/14, registers",
        "DINOv2",
        _REGISTERS,
        "vit_base_patch14_reg4_dinov2.lvd142m",
        86_582_016,
        patch=14,
        size=518,
        prefix=5,
    ),
    _entry(
        "dinov3-s16",
        "DINOv3 S/16",
        "DINOv3",
        _DINOV3,
        "vit_small_patch16_dinov3.lvd1689m",
        21_586_944,
        size=256,
        prefix=5,
        licence=DINOV3,
    ),
    _entry(
        "dinov3-b16",
        "DINOv3 B/16",
        "DINOv3",
        _DINOV3,
        "vit_base_patch16_dinov3.lvd1689m",
        85_641_216,
        size=256,
        prefix=5,
        licence=DINOV3,
    ),
    _entry("mae-b16", "MAE B/16", "MAE", _MAE, "vit_base_patch16_224.mae", 85_798_656, licence=NON_COMMERCIAL),
    _entry("mae-l16", "MAE L/16", "MAE", _MAE, "vit_large_patch16_224.mae", 303_301_632, licence=NON_COMMERCIAL),
    _entry("clip-b16", "CLIP B/16", "CLIP", _CLIP, "vit_base_patch16_clip_quickgelu_224.openai", 86_193_152),
    _entry("clip-b16-laion", "OpenCLIP B/16", "CLIP", _LAION, "vit_base_patch16_clip_224.laion2b", 86_193_152),
    _entry("siglip-b16", "SigLIP B/16", "SigLIP", _SIGLIP, "vit_base_patch16_siglip_224.webli", 92_884_224, prefix=0),
    _entry(
        "siglip2-b16", "SigLIP 2 B/16", "SigLIP", _SIGLIP2, "vit_base_patch16_siglip_224.v2_webli", 92_884_224, prefix=0
    ),
    _entry("beit-b16", "BEiT B/16", "BEiT", _BEIT, "beit_base_patch16_224.in22k_ft_in22k_in1k", 86_530_984),
    _entry("beitv2-b16", "BEiT v2 B/16", "BEiT", _BEITV2, "beitv2_base_patch16_224.in1k_ft_in22k_in1k", 86_530_984),
    _entry(
        "eva02-s14",
        "EVA-02 S/14",
        "EVA-02",
        _EVA,
        "eva02_small_patch14_224.mim_in22k",
        21_621_120,
        patch=14,
        licence=MIT,
    ),
    _entry(
        "eva02-b14",
        "EVA-02 B/14",
        "EVA-02",
        _EVA,
        "eva02_base_patch14_224.mim_in22k",
        85_758_720,
        patch=14,
        licence=MIT,
    ),
    _entry(
        "eva02-s14-336",
        "EVA-02 S/14, 336 px",
        "EVA-02",
        _EVA_SUPERVISED,
        "eva02_small_patch14_336.mim_in22k_ft_in1k",
        22_129_000,
        patch=14,
        size=336,
        licence=MIT,
    ),
    _entry("cait-xxs24", "CaiT XXS-24", "CaiT", _CAIT, "cait_xxs24_224.fb_dist_in1k", 11_956_264),
    _entry("cait-s24", "CaiT S-24", "CaiT", _CAIT, "cait_s24_224.fb_dist_in1k", 46_916_200),
    _entry(
        "swin-tiny",
        "Swin-T",
        "Swin",
        _SWIN,
        "swin_tiny_patch4_window7_224.ms_in1k",
        28_288_354,
        patch=4,
        prefix=0,
        licence=MIT,
    ),
    _entry(
        "swin-base",
        "Swin-B",
        "Swin",
        _SWIN,
        "swin_base_patch4_window7_224.ms_in1k",
        87_768_224,
        patch=4,
        prefix=0,
        licence=MIT,
    ),
    _entry(
        "swinv2-tiny",
        "Swin V2-T",
        "Swin",
        _SWINV2,
        "swinv2_tiny_window8_256.ms_in1k",
        28_347_154,
        patch=4,
        size=256,
        prefix=0,
        licence=MIT,
    ),
    _entry("resnet50", "ResNet-50", "ResNet", _RESNET, "resnet50.a1_in1k", 25_557_032, patch=0, prefix=0),
)

CATALOG: dict[str, CatalogEntry] = {entry.key: entry for entry in _ENTRIES}
