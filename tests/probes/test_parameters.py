"""Parameters of probes from their text form, as the command line has them."""

import dataclasses
from typing import get_args, get_type_hints

import pytest

import probes
from probes.core.base import Probe
from probes.core.parameters import UsageError, make_probes

TEXTS = ("1", "0", "-1", "0.5", "nan", "inf", "true", "none", "None", "last", "x", "", "9" * 40, "9" * 5000)
FIELDS = [(name, field) for name in probes.available() for field in dataclasses.fields(probes.load(name))]


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[f"{name}.{field.name}" for name, field in FIELDS])
def test_every_parameter_is_set_from_text_or_refused_in_one_sentence(name: str, field: dataclasses.Field) -> None:
    hint = get_type_hints(probes.load(name))[field.name]
    kinds = get_args(hint) or (hint,)
    made = make_probes([name], [f"{name}.{field.name}={field.default}"])[name]
    assert getattr(made, field.name) == (
        str(field.default) if str in kinds and field.default is not None else field.default
    )
    for text in TEXTS:
        found = made_or_refused(name, f"{name}.{field.name}={text}")
        if isinstance(found, str):
            assert found.startswith(name)
            assert "\n" not in found
        else:
            assert type(getattr(found, field.name)) in kinds


def made_or_refused(name: str, parameter: str) -> Probe | str:
    try:
        return make_probes([name], [parameter])[name]
    except UsageError as error:
        return str(error)


def test_optional_numbers_are_numbers() -> None:
    for text, value in (("1", 1), ("0", 0), ("none", None)):
        made = make_probes(["saliency-score"], [f"saliency-score.head={text}"])["saliency-score"]
        assert getattr(made, "head") == value  # noqa: B009
    with pytest.raises(UsageError, match=r"^saliency-score.head is 'first'; expected a whole number or none\.$"):
        make_probes(["saliency-score"], ["saliency-score.head=first"])


@pytest.mark.parametrize("again", ["cls", "mean"])
def test_a_parameter_is_given_once(again: str) -> None:
    with pytest.raises(UsageError, match=r"^--param attention-maps\.query is given more than once; give it once\.$"):
        make_probes(["attention-maps"], ["attention-maps.query=mean", f"attention-maps.query={again}"])
