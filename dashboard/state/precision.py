"""Which floating-point type the models of a page ran in; said once under its figure, where it is not float32."""

from collections.abc import Iterable, Mapping

import streamlit as st
import xarray as xr

from dashboard.state.models import title

_SEEN = "dtypes"


def remember(found: Iterable[Mapping[str, xr.Dataset]]) -> None:
    """Note the types that results of this run were computed in, model by model."""
    seen: dict[str, set[str]] = st.session_state.setdefault(_SEEN, {})
    for datasets in found:
        for model, dataset in datasets.items():
            if dtype := dataset.attrs.get("dtype"):
                seen.setdefault(model, set()).add(dtype)


def seen() -> Mapping[str, set[str]]:
    """Model to the types noted in this run."""
    noted: dict[str, set[str]] = st.session_state.get(_SEEN, {})
    return noted


def forget() -> None:
    """Call once at the end of a run."""
    st.session_state.pop(_SEEN, None)


def sentence(dtypes: Mapping[str, set[str]]) -> str:
    """What is to be said; empty where all is float32."""
    reduced = sorted({dtype for types in dtypes.values() for dtype in types} - {"float32"})
    if not reduced:
        return ""
    models = [title(model) for model, types in dtypes.items() if types - {"float32"}]
    who = "The models" if len(models) == len(dtypes) else " and ".join(f"**{model}**" for model in models)
    digits = ", which keeps two to three significant digits" if reduced == ["bfloat16"] else ""
    ran = f"{who} ran in {' and '.join(reduced)}{digits}, for speed"
    return f"{ran}; softmax and sums stay in float32 or float64."
