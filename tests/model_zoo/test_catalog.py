import json
import re
from typing import Any

import pytest
import timm
import torch

import model_zoo.architectures  # noqa: F401 (registers the shipped networks)
from model_zoo.catalog import CATALOG, PRESETS, CatalogEntry
from model_zoo.layout import describe
from model_zoo.reported import REPORTED

FAMILIES = {
    "ViT",
    "DeiT",
    "DeiT distilled",
    "DeiT III",
    "DINO",
    "DINOv2",
    "DINOv3",
    "MAE",
    "CLIP",
    "SigLIP",
    "BEiT",
    "EVA-02",
    "CaiT",
    "Swin",
    "ResNet",
}


def built(entry: CatalogEntry) -> Any:
    encoder = entry.weights == "shipped" and entry.objective in ("self-distillation", "masked image modelling")
    with torch.device("meta"):
        return timm.create_model(entry.timm_name, **({"num_classes": 0} if encoder else {}))


@pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)
def test_an_entry_agrees_with_the_model_timm_builds(entry: CatalogEntry) -> None:
    model = built(entry)
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters
    assert describe(model, entry.input_size).patch == entry.patch
    assert model.pretrained_cfg["input_size"][1:] == entry.input_size
    assert getattr(model, "num_prefix_tokens", 0) == entry.prefix_tokens


@pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)
def test_an_entry_names_weights_that_exist_and_their_licence(entry: CatalogEntry) -> None:
    config = timm.get_pretrained_cfg(entry.timm_name)
    assert config.license == entry.licence.lower()
    assert bool(config.hf_hub_id) == (entry.weights == "hub")
    if entry.weights == "hub":
        assert config.tag == entry.timm_name.partition(".")[2], "a hub model names its tag"


@pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)
def test_an_entry_is_complete(entry: CatalogEntry) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", entry.key)
    assert re.fullmatch(r"\d{4}\.\d{4,5}", entry.paper)
    assert all((entry.title, entry.family, entry.objective, entry.data, entry.licence))


def test_titles_tell_the_models_apart() -> None:
    titles = [entry.title for entry in CATALOG.values()]
    assert len(set(titles)) == len(titles)


def test_the_families_are_there_and_the_shipped_models_come_first() -> None:
    assert {entry.family for entry in CATALOG.values()} >= FAMILIES
    origins = [entry.weights for entry in CATALOG.values()]
    assert origins == sorted(origins, key=("shipped", "hub").index)
    assert origins.count("shipped") == 7


def test_presets_hold_two_to_six_known_models() -> None:
    for name, keys in PRESETS.items():
        assert 2 <= len(set(keys)) == len(keys) <= 6, name
        assert all(name in CATALOG[key].groups for key in keys)
    assert list(PRESETS)[:3] == ["Four objectives", "DINO against supervised", "CNN against ViT"]
    assert all(CATALOG[key].weights == "shipped" for name in list(PRESETS)[:3] for key in PRESETS[name])


def test_shipped_models_lie_in_the_checkout_with_their_card() -> None:
    for entry in CATALOG.values():
        if entry.weights == "shipped":
            assert (entry.folder / "model.safetensors").is_file()
            card = json.loads((entry.folder / "card.json").read_text(encoding="utf-8"))
            assert entry.card() == card


@pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)
def test_the_vector_of_an_image_is_the_cards_and_the_classifiers(entry: CatalogEntry) -> None:
    """A card measured its k-NN with it; a classifier reads it, where the weights have one and tokens to choose from."""
    if entry.weights == "shipped":
        assert entry.features == entry.card()["figures"]["features"]
    elif entry.objective not in ("self-distillation", "masked image modelling"):
        pooling = getattr(built(entry), "global_pool", "avg")
        assert entry.features == ("cls" if pooling == "token" else "mean")


def test_masked_autoencoders_stand_by_their_patches_and_dinov3_by_its_class_token() -> None:
    """No loss reaches the class token of MAE; timm would pool the patches of DINOv3, whose paper reads CLS."""
    assert {CATALOG[key].features for key in ("scenes-vit-mae", "mae-b16", "mae-l16", "eva02-s14")} == {"mean"}
    assert CATALOG["dinov3-s16"].features == "cls"


def test_published_accuracy_is_of_classifiers_of_imagenet_1k_in_the_catalog() -> None:
    entries = {entry.timm_name: entry for entry in CATALOG.values()}
    assert set(REPORTED) <= set(entries)
    for name, entry in entries.items():
        config = timm.get_pretrained_cfg(name)
        classifies = entry.weights == "hub" and config.num_classes == 1000
        assert (entry.reported is not None) == classifies, name
        if entry.reported is not None:
            assert entry.reported.input_size == (config.test_input_size or config.input_size)[1], name
            assert 0.7 < entry.reported.top1 < entry.reported.top5 < 1
