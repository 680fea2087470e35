from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_zoo.catalog import CATALOG
from model_zoo.reference import ModelError, parse, parse_all


def test_a_catalog_key_names_its_timm_model() -> None:
    reference = parse("dino-s16")
    assert (reference.label, reference.key, reference.weights) == ("dino-s16", "dino-s16", "hub")
    assert reference.timm_name == "vit_small_patch16_224.dino"


def test_a_label_goes_in_front() -> None:
    assert parse("A (2)=scenes-vit-dino").label == "A (2)"
    assert parse("b=timm:vit_tiny_patch16_224@random:7").label == "b"


def test_a_timm_name_means_its_hub_weights() -> None:
    reference = parse("timm:vit_small_patch8_224.dino")
    assert (reference.key, reference.weights, reference.timm_name) == (None, "hub", "vit_small_patch8_224.dino")


def test_random_weights_carry_their_seed() -> None:
    reference = parse("timm:vit_small_patch16_224@random:12")
    assert (reference.weights, reference.seed, reference.label) == ("random", 12, "vit_small_patch16_224-random-12")


def test_a_file_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my=weights.pth").touch()
    monkeypatch.chdir(tmp_path)
    reference = parse("timm:test_vit@my=weights.pth")
    assert (reference.weights, reference.path) == ("file", tmp_path / "my=weights.pth")
    assert reference.label == "test_vit-my-weights"


@pytest.mark.parametrize(
    "text",
    [*CATALOG, "timm:vit_small_patch8_224.dino", "timm:test_vit@random:3", "timm:scenes_vit@random:0"],
)
def test_a_source_reads_back_as_the_same_model(text: str) -> None:
    reference = parse(f"x={text}")
    assert reference.source == text
    assert parse(f"x={reference.source}") == reference


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "catalog key or timm:NAME"),
        ("dino-s61", "nearest: dino-s16"),
        ("timm:", "not a timm model name"),
        ("timm:../../etc/passwd", "not a timm model name"),
        ("timm:hf_hub:someone/something", "not a timm model name"),
        ("timm:vit_smal", "nearest: vit_small"),
        ("timm:vit_small_patch16_224.other", "its tags are augreg_in1k"),
        ("timm:scenes_vit", "no published weights"),
        ("trained:0123456789ab", "no longer held on this server: train it again"),
        ("trained:", "no longer held on this server"),
        ("timm:test_vit@random", "from 0 to"),
        ("timm:test_vit@random:-1", "from 0 to"),
        ("timm:test_vit@random:1e3", "from 0 to"),
        (f"timm:test_vit@random:{2**63}", "from 0 to"),
        ("timm:test_vit@", "Expected a checkpoint file"),
        ("timm:test_vit@/no/such/file.pth", "does not exist"),
        ("timm:test_vit@/", "is not a file"),
        ("timm:test_vit@a\0b.pth", "not a usable path"),
        (f"timm:test_vit@{__file__}", "is none of .safetensors"),
        ("a/b=dino-s16", "cannot be a label"),
        ("=dino-s16", "cannot be a label"),
    ],
)
def test_what_names_no_model_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ModelError) as refusal:
        parse(text)
    message = str(refusal.value)
    assert said in message
    assert "\n" not in message


def test_a_link_cannot_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises(ModelError, match="file cannot be named here"):
        parse(f"timm:test_vit@{tmp_path}/weights.pth", allow_files=False)
    assert parse("timm:test_vit@random:1", allow_files=False).seed == 1


def test_two_models_need_two_labels() -> None:
    with pytest.raises(ModelError, match="2 models are labelled 'a'"):
        parse_all(["a=dino-s16", "a=dino-s8"])
    assert [reference.label for reference in parse_all(["dino-s16", "b=dino-s16"])] == ["dino-s16", "b"]
    assert parse_all([]) == ()


@given(st.text(max_size=60) | st.text(alphabet="timm:vit@random0=./-_", max_size=40).map("timm:test_vit".__add__))
def test_any_text_is_a_model_or_an_error(text: str) -> None:
    said = ""
    try:
        said = parse(text, allow_files=False).source
        assert parse(said).source == said
    except ModelError as error:
        said = str(error)
    assert said
    assert "\n" not in said


def test_a_snapshot_is_named_by_its_step_and_read_from_the_models_own_folder() -> None:
    known = CATALOG["scenes-vit-dino"].snapshots()
    step, path = list(known.items())[1]
    reference = parse(f"early=scenes-vit-dino@step-{step:05d}", allow_files=False)
    assert (reference.label, reference.key, reference.step, reference.path) == ("early", "scenes-vit-dino", step, path)
    assert reference.weights == "shipped"
    assert parse(reference.source).source == reference.source == f"scenes-vit-dino@step-{step:05d}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scenes-vit-dino@step-99999", "its snapshots are step-00000"),
        ("scenes-vit-dino@../../scenes-vit-mae/model", "has no snapshot"),
        ("scenes-vit-dino@", "has no snapshot"),
        ("scenes-vit-dino@/etc/passwd", "has no snapshot"),
        ("dino-s16@step-00000", "has no snapshots of its training"),
    ],
)
def test_only_the_shipped_snapshots_have_names(text: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        parse(text, allow_files=False)
