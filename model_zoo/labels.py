"""Names of a model's classes."""

from functools import cache

from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn


def class_names(model: nn.Module) -> tuple[str, ...]:
    """What each output of the classifier is called, in order; empty where that is not known.

    Names come from the checkpoint's own configuration where it has them; otherwise from ImageNet's lists in timm, by
    the number of classes (1,000 means ImageNet-1k, and so on), as WordNet's synonyms separated by commas.
    """
    classes = int(getattr(model, "num_classes", 0) or 0)
    own = getattr(model, "pretrained_cfg", {}).get("label_names") or ()
    if classes and len(own) == classes:
        return tuple(own)
    subset = infer_imagenet_subset({"num_classes": classes})
    return _imagenet(subset) if subset else ()


@cache
def _imagenet(subset: str) -> tuple[str, ...]:
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))
