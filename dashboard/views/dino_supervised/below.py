"""Under the panels: the table of scores, every head's rank, and the curves of deletion and insertion."""

from collections.abc import Mapping

import streamlit as st

from dashboard.compute import asking, results
from dashboard.compute.asking import Ask, Outcome, Params
from dashboard.controls import progress
from dashboard.draw import frame
from dashboard.state.selection import Selection
from dashboard.views.dino_supervised import object_scores, removal_curves
from dashboard.views.dino_supervised.object_scores import Scores
from probes.saliency_score import curve_passes


def draw(scored: Mapping[str, Scores], outcome: Outcome, asked: Selection) -> None:
    """Draw the table, every head's rank, and the curves; what is closed costs nothing.

    Args:
        scored: title to scores.
        outcome: the maps that were scored, of all models.
        asked: the models, and the images that have a mask.
    """
    numbers, ranks, curves = st.tabs(["Table", "Every head", "Deletion and insertion"], key="below", on_change="rerun")
    if numbers.open:
        with numbers:
            rows = object_scores.table(scored)
            shares = {
                name: st.column_config.NumberColumn(format="%.3f") for name in rows.select_dtypes("float").columns
            }
            st.dataframe(rows, hide_index=True, column_config=shares, placeholder="–")
    if ranks.open:
        with ranks:
            drawn = object_scores.ranking(scored, outcome.colours)
            frame.chart(drawn, key="ranks", alt="Mean IoU of every head with the object, ranked")
    if curves.open:
        with curves:
            _curves(scored, outcome, asked)


def _curves(scored: Mapping[str, Scores], outcome: Outcome, asked: Selection) -> None:
    """The curves of what the table shows: each model's best head on the same images; they run when asked for."""
    heads = {model.model: scored[model.title].best for model in outcome.models if model.title in scored}
    wanted = (asked.images, tuple(heads.items()))
    if st.session_state.get("curves_of") != wanted:
        models = [model for model in outcome.models if model.model in heads]
        lasts = progress.duration(removal_curves.seconds(models, len(asked.images), results.store().jobs.workers))
        many = f"{len(models)} {'model' if len(models) == 1 else 'models'}"
        passes = f"{curve_passes(removal_curves.STEPS)} passes of {many} for each of {len(asked.images)} images"
        st.markdown(f"Patches go, or come, in the order of each best head's attention: {passes}, **{lasts}** here.")
        started = {"curves_of": wanted}
        st.button(
            "Compute the curves", key="compute_curves", disabled=bool(outcome.jobs),
            on_click=lambda: st.session_state.update(started),
        )  # fmt: skip
        return
    parameters: Params = {"map": "heads", "steps": removal_curves.STEPS, "fill": "mean", "pool": "card"}
    asks = [Ask("saliency-score", {**parameters, "head": head}, models=(model,)) for model, head in heads.items()]
    found, _ = asking.ask(asks, asked, models=tuple(heads))
    progress.show(found, part="curves")
    ready = found.ready("saliency-score")
    if ready:
        drawn = removal_curves.figure(ready, found.colours)
        frame.chart(drawn, key="curves", alt="Deletion and insertion curves")
        st.markdown(removal_curves.answer(ready))
    frame.states(found, "saliency-score")
