"""Which output of a classifier the name of a class means."""

from collections import Counter

import pytest
import timm
import torch
from timm.data import ImageNetInfo

from model_zoo.labels import LabelError, class_names, outputs_of, wordnet_ids


@pytest.fixture(scope="module")
def imagenet() -> tuple[tuple[str, ...], tuple[str, ...]]:
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224", depth=1)
    return class_names(model), wordnet_ids(model)


def test_every_class_of_imagenet_is_known_by_its_id_its_number_and_its_name(imagenet) -> None:
    labels, ids = imagenet
    info = ImageNetInfo("imagenet-1k")
    assert outputs_of(info.label_names(), labels, ids, 1000) == {name: i for i, name in enumerate(info.label_names())}
    assert outputs_of(map(str, range(1000)), labels, ids, 1000) == {str(i): i for i in range(1000)}
    first = [info.index_to_description(i).split(",")[0] for i in range(1000)]
    times = Counter(name.lower() for name in first)
    once = {name.replace(" ", "_").upper(): i for i, name in enumerate(first) if times[name.lower()] == 1}
    assert len(once) == 994
    assert outputs_of(once, labels, ids, 1000) == once
    whole = {info.index_to_description(i): i for i in range(1000) if "," in info.index_to_description(i)}
    assert outputs_of(whole, labels, ids, 1000) == whole
    assert set(outputs_of(["great white shark", "Carcharodon carcharias"], labels, ids, 1000).values()) == {2}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["crane", "tench"], r"'crane' is the name of several classes of the model \(134 and 517\)"),
        (["maillot"], "several classes"),
        (["n01440764", "n99999999"], "1 of the 2 classes are none of the model's: 'n99999999'"),
        (["0", "1000"], "1 of the 2 classes are none of the model's: '1000'.*numbers from 0 to 999"),
        (["cats", "dogs"], "2 of the 2 classes.*WordNet ids such as n01440764.*names such as 'tench'.*--classes FILE"),
        (["n01440764", "goldfish"], "all in one way"),
        (["-1"], "none of the model's"),
        (["²"], "none of the model's"),
    ],
)
def test_what_cannot_be_told_is_refused(imagenet, names, said) -> None:
    with pytest.raises(LabelError, match=said):
        outputs_of(names, *imagenet, 1000)


def test_names_of_ones_own_go_before_numbers() -> None:
    assert outputs_of(["9", "1"], ("1", "9"), (), 2) == {"9": 1, "1": 0}
    assert outputs_of(["0", "1"], (), (), 2) == {"0": 0, "1": 1}
