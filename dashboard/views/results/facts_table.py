"""What a run is of, under its charts: models, settings, versions, and images that could not be read."""

import pandas as pd
import streamlit as st

from dashboard.draw.sentences import literal
from dashboard.runs.run import Run


def draw(run: Run) -> None:
    """Draw the tables of one run; a long list scrolls by itself."""
    facts = run.facts
    with st.expander(f"What {literal(run.name)} is of", key=f"facts-{run.name}"):
        if not facts.models:
            st.caption("This result has no manifest: what it is of is not known.")
            return
        images = f"{len(facts.images):,} images" if len(facts.images) != 1 else "1 image"
        st.markdown(f"{images}. {literal(facts.measured)}.")
        models = [
            {"Label": label, "Model": one.title, "On the command line": one.source, "Input, px": one.size,
             "Type": one.dtype, "SHA-256 of the weights": one.weights}
            for label, one in facts.models.items()
        ]  # fmt: skip
        st.dataframe(pd.DataFrame(models), hide_index=True)
        left, right = st.columns(2)
        with left:
            settings = [*facts.settings.items(), *_parameters(run), *facts.versions.items()]
            st.dataframe(pd.DataFrame(settings, columns=["Setting or package", "Value"]), hide_index=True)
        with right:
            names = pd.DataFrame(facts.images, columns=["Image", "SHA-256"])
            st.dataframe(names.rename_axis("Number").set_axis(range(1, len(names) + 1)), height=260)
        if facts.skipped:
            st.markdown(f"**{len(facts.skipped):,} could not be read** and are left out of all numbers:")
            st.dataframe(pd.DataFrame(facts.skipped, columns=["Image", "Why"]), hide_index=True)


def _parameters(run: Run) -> list[tuple[str, str]]:
    return [
        (title, ", ".join(f"{key} = {value}" for key, value in parameters.items()))
        for title, parameters in run.facts.probes.values()
        if parameters
    ]
