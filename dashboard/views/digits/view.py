"""Training live: a small vision transformer learns the digits while one looks into it."""

import streamlit as st

from dashboard.compute import asking
from dashboard.compute.jobs import QueueFull
from dashboard.controls import progress
from dashboard.controls.sidebar import sidebar
from dashboard.draw import frame, palette
from dashboard.state import link
from dashboard.state.models import MOST_MODELS
from dashboard.state.selection import read_models
from dashboard.view import Page
from dashboard.views.digits import figures
from dashboard.views.digits.runs import MEASURED_ON, Look, Run, runs

PAGE = Page("Train on digits", section="Experiments", order=70)

HOW = """
A transformer of 4 layers with 3 heads learns scikit-learn's 1,797 handwritten digits (8 × 8 pixels, shown at 16 × 16,
patches of 2 × 2) from random weights, in about a minute. After every epoch it is looked into:

- **Loss and accuracy**: accuracy is on the fifth of the digits that is never trained on.
- **Mean attention distance** of each layer: how many pixels away a patch looks, mean over heads. At the start every
  layer looks everywhere alike; layers part as they learn.
- **Position embeddings**: how similar the embedding of each position is to that of the marked one in the middle. They
  start as noise and come to know their neighbours.

The link finds the training again, also after it ended. Stopped or done, its model can be compared on the other pages;
it is held in this server's memory until the server ends or 32 newer ones have come.
"""
FORMULA = r"""
Loss: cross entropy with label smoothing 0.05. Optimiser: Muon, learning rate $3\cdot10^{-3}$ with a cosine, batches of
64\. Attention distance: $d_l = \frac{1}{HQ}\sum_{h,q}\sum_k A_{lhqk}\lVert x_q - x_k\rVert$ over patches, in pixels of
the 16 px input; Dosovitskiy et al. 2021, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929). The command line does
the same: `python -m model_zoo train --recipe digits --out runs/digits`.
"""
NOT_SHOWN = """
- One seed, one run: another seed gives other curves of the same kind.
- Figures are of the running average of the weights, which lags behind the weights at the beginning.
- What a model of 64 patches does on digits need not hold for large models on photographs.
"""


def page() -> None:
    """Draw the page."""
    selection = sidebar(images=False)
    frame.header("How does attention form while a model learns?")
    run = _found()
    live = run is not None and run.job.live
    with frame.controls():
        epochs = st.slider("Epochs", 5, 40, 15, key="epochs", bind="query-params", disabled=live)
        seed = st.number_input("Seed", 0, 9999, 0, key="seed", bind="query-params", disabled=live, width=120)
        st.button("Start", key="start", type="primary", disabled=live, on_click=_start, args=(epochs, int(seed)))
    if run is None:
        st.info("Start trains a small vision transformer from random weights, here and now, in about a minute.")
    elif live:
        _watch(run)
    else:
        _ended(run, selection.models)
        _show(run)
    looks = tuple(run.looks) if run else ()
    frame.footer(
        frame.Help(HOW, FORMULA, NOT_SHOWN),
        name="digits",
        svg=(lambda: figures.document(looks, _said(looks[-1]))) if looks and not live else None,
        csv=(lambda: frame.csv(figures.table(looks))) if looks and not live else None,
        models=[run.model] if run and looks else (),
    )


def _found() -> Run | None:
    """The training of the link, else the one that this browser has going on."""
    linked = link.first("run")
    run = runs().get(linked) if linked else runs().live(asking.visitor())
    if linked and run is None:
        link.note("The training of this link is no longer held on this server: start another one.")
    link.put("run", *([run.identity] if run else []))
    return run


def _start(epochs: int, seed: int) -> None:
    try:
        link.put("run", runs().start(epochs, seed, asking.visitor()).identity)
    except QueueFull as error:
        link.note(str(error))


@st.fragment(run_every=1.0)
def _watch(run: Run) -> None:
    if not run.job.live:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        place = runs().jobs.place(run.job)
        text = f"place {place} in the queue" if place else progress.describe(run.job, 1)
        st.progress(run.job.fraction or 0.0, text)
        if run.of(asking.visitor()):
            st.button("Stop", key="stop", type="tertiary", on_click=runs().stop, args=(run, asking.visitor()))
        else:
            st.caption("Started in another browser.")
    _show(run)


def _ended(run: Run, models: tuple[str, ...]) -> None:
    """How the training ended, and the way of its model to the other pages."""
    if run.job.state == "failed":
        st.error(run.job.error or "The training failed: start it again.")
    if not run.looks:
        if run.job.state == "cancelled":
            st.info("Stopped before the first epoch was over.")
        return
    last = palette.number(run.looks[-1].epoch)
    with st.container(horizontal=True, vertical_alignment="center"):
        if run.job.state == "cancelled":
            st.markdown(f"**Stopped at epoch {last} of {run.epochs}.** What it had learned by then is kept.")
        else:
            st.markdown(f"**{last} epochs are done**, with seed {run.seed}.")
        there, full = run.model in models, len(models) >= MOST_MODELS
        st.button(
            "In the comparison" if there else "Compare this model",
            key="compare",
            disabled=there or full,
            help=f"At most {MOST_MODELS} models are compared at once." if full else None,
            on_click=_compare,
            args=(run, models),
        )


def _compare(run: Run, models: tuple[str, ...]) -> None:
    kept, notes = read_models((*models, run.model))
    link.put("model", *kept)
    for sentence in notes or ("It is in the sidebar: open another page to compare it.",):
        link.note(sentence)


def _show(run: Run) -> None:
    if not run.looks:
        return
    looks = tuple(run.looks)
    last = looks[-1]
    left, middle, right = st.columns(3)
    with left:
        frame.chart(figures.curves(looks), key="curves", alt="Loss and accuracy over epochs")
    with middle:
        alt = "Mean attention distance of every layer over epochs"
        frame.chart(figures.distances(looks), key="distances", alt=alt)
    with right:
        alt = "Similarity of position embeddings to one in the middle"
        frame.chart(figures.positions(last), key="positions", alt=alt)
    st.markdown(_said(last))


def _said(last: Look) -> str:
    """How good the model is and how far it looks."""
    return (
        f"After **{palette.number(last.epoch)} epochs** the model reads {palette.number(100 * last.accuracy)}% of 359 "
        f"held-out digits right; its first layer looks {palette.number(last.distance[0])} px far on average and its "
        f"last {palette.number(last.distance[-1])} px (n = {MEASURED_ON} digits, mean over heads)."
    )
