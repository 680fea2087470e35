"""Training live: a small vision transformer learns the digits while one looks into it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import plotly.graph_objects as go
import streamlit as st
import torch
from PIL import Image

from dashboard.compute import asking
from dashboard.compute.jobs import Job, Jobs, QueueFull
from dashboard.controls import progress
from dashboard.controls.sidebar import sidebar
from dashboard.draw import frame, palette
from dashboard.state import models
from dashboard.view import Page

PAGE = Page("Train on digits", section="Experiments", order=70)

MEASURED_ON = 16
HOW = """
A transformer of 4 layers with 3 heads learns scikit-learn's 1,797 handwritten digits (8 × 8 pixels, shown at 16 × 16,
patches of 2 × 2) from random weights, in about a minute. After every epoch it is looked into:

- **Loss and accuracy**: accuracy is on the fifth of the digits that is never trained on.
- **Mean attention distance** of each layer: how many pixels away a patch looks, mean over heads. At the start every
  layer looks everywhere alike; layers part as they learn.
- **Position embeddings**: how similar the embedding of each position is to that of the marked one in the middle. They
  start as noise and come to know their neighbours.
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


@dataclass(frozen=True)
class Look:
    """What one look into the model showed: after ``epoch`` passes over the digits."""

    epoch: float
    loss: float
    accuracy: float
    distance: tuple[float, ...]
    similarity: np.ndarray


@dataclass
class Run:
    """A training and what has been seen of it so far."""

    job: Job
    looks: list[Look] = field(default_factory=list)


@st.cache_resource
def trainings() -> Jobs:
    """One training at a time, in a queue of its own, so that the other pages' computations need not wait for it."""
    return Jobs(workers=1, most_waiting=16)


def train_digits(run: list[Look], job: Job, epochs: int, seed: int) -> None:
    """Train and look into the model after every epoch; runs outside of Streamlit's threads."""
    from model_zoo.adapter import Adapter
    from model_zoo.images import ImageSource
    from model_zoo.training.data import open_source
    from model_zoo.training.loop import train
    from model_zoo.training.recipes import RECIPES
    from probes.attention_distance import AttentionDistance
    from probes.core import runner
    from probes.position_similarity import PositionSimilarity

    config = replace(RECIPES["digits"], seed=seed)
    source = open_source("digits", seed)
    size = config.stages[0].size
    pixels, _ = source.validation(MEASURED_ON, size, 1.0, torch.device("cpu"))
    digits = [Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy()) for image in pixels]
    images = [ImageSource(f"digit {k}", picture.copy) for k, picture in enumerate(digits)]
    an_epoch = 1438 // config.batch_size
    config = replace(config, stages=(replace(config.stages[0], images=epochs * an_epoch * config.batch_size),))
    job.report("training", 0, config.steps)
    for one in train(config, report_every=2, validate_every=an_epoch):
        job.report("training", one.step, config.steps)
        if "val_top1" in one.metrics:
            model = Adapter(copy.deepcopy(one.model), image_size=size)
            probes = {"distance": AttentionDistance(), "positions": PositionSimilarity()}
            seen = runner.run({"m": model}, images, probes, batch_size=MEASURED_ON, dtype="float32")
            distance = seen["distance"]["m"]["distance"].mean("head").values
            run.append(
                Look(
                    epoch=one.step / an_epoch,
                    loss=one.loss,
                    accuracy=one.metrics["val_top1"],
                    distance=tuple(float(value) for value in distance),
                    similarity=seen["positions"]["m"]["similarity"].values,
                )
            )


def curves(looks: Sequence[Look]) -> go.Figure:
    """Loss and accuracy over epochs, on two axes."""
    drawn = go.Figure()
    epochs = [look.epoch for look in looks]
    for name, values, colour, axis in (
        ("training loss", [look.loss for look in looks], models.COLOURS[0], "y"),
        ("accuracy on held-out digits", [look.accuracy for look in looks], models.COLOURS[1], "y2"),
    ):
        drawn.add_scatter(x=epochs, y=values, name=name, yaxis=axis, mode="lines+markers", line={"color": colour})
    drawn.update_xaxes(title="epoch (passes over 1,438 digits)", rangemode="tozero")
    return drawn.update_layout(
        height=300,
        yaxis={"title": "loss (nats)", "rangemode": "tozero"},
        yaxis2={
            "title": "accuracy (0 to 1)",
            "range": [0, 1],
            "tickmode": "linear",  # by itself Plotly puts these ticks beside those of the loss, at 0.419 and the like
            "dtick": 0.2,
            "showgrid": False,
            "overlaying": "y",
            "side": "right",
        },
    )


def distances(looks: Sequence[Look]) -> go.Figure:
    """Mean attention distance of every layer over epochs."""
    drawn = go.Figure()
    for layer in range(len(looks[0].distance)):
        drawn.add_scatter(
            x=[look.epoch for look in looks],
            y=[look.distance[layer] for look in looks],
            name=f"layer {layer + 1}",
            mode="lines+markers",
            line={"color": models.COLOURS[layer % len(models.COLOURS)]},
        )
    drawn.update_xaxes(title="epoch (passes over 1,438 digits)", rangemode="tozero")
    drawn.update_yaxes(title="mean attention distance (px of 16)", rangemode="tozero")
    return drawn.update_layout(height=300)


def positions(look: Look) -> go.Figure:
    """Similarity of every position to one in the middle."""
    height, width = look.similarity.shape[2:]
    row, column = height // 2, width // 2
    drawn = go.Figure()
    drawn.add_heatmap(
        z=look.similarity[:, :, row, column],
        x=list(range(1, width + 1)),
        y=list(range(1, height + 1)),
        zmin=-1,
        zmax=1,
        colorscale=palette.plotly_scale(signed=True),
        colorbar={"title": {"text": "cosine (−1 to 1)", "side": "right"}, "thickness": 12},
        hovertemplate="row %{y}, column %{x}: %{z:.3f}<extra></extra>",
    )
    drawn.add_scatter(x=[column + 1], y=[row + 1], mode="markers", marker={"symbol": "x", "color": "black"})
    drawn.update_xaxes(title="column of patches", constrain="domain")
    drawn.update_yaxes(title="row of patches", autorange="reversed", scaleanchor="x")
    return drawn.update_layout(height=300, showlegend=False)


def page() -> None:
    """Draw the page."""
    sidebar(images=False)
    frame.header("How does attention form while a model learns?")
    run: Run | None = st.session_state.get("digits-run")
    live = run is not None and run.job.live
    with frame.controls():
        epochs = st.slider("Epochs", 5, 40, 15, key="epochs", bind="query-params", disabled=live)
        seed = st.number_input("Seed", 0, 9999, 0, key="seed", bind="query-params", disabled=live, width=120)
        st.button("Start", key="start", type="primary", disabled=live, on_click=_start, args=(epochs, int(seed)))
    if run is None:
        st.info("Start trains a small vision transformer from random weights, here and now, in about a minute.")
    elif live:
        _watch()
    else:
        _show(run)
    frame.footer(frame.Help(HOW, FORMULA, NOT_SHOWN), name="digits")


def _start(epochs: int, seed: int) -> None:
    looks: list[Look] = []
    try:
        job = trainings().submit(
            "Training on the digits", lambda job: train_digits(looks, job, epochs, seed), asking.visitor()
        )
    except QueueFull as error:
        st.toast(str(error))
        return
    st.session_state["digits-run"] = Run(job, looks)


@st.fragment(run_every=1.0)
def _watch() -> None:
    run: Run = st.session_state["digits-run"]
    if not run.job.live:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        place = trainings().place(run.job)
        text = f"place {place} in the queue" if place else progress.describe(run.job, 1)
        st.progress(run.job.fraction or 0.0, text)
        st.button("Stop", key="stop", type="tertiary", on_click=trainings().leave, args=(run.job, asking.visitor()))
    _show(run)


def _show(run: Run) -> None:
    if run.job.state == "failed":
        st.error(run.job.error or "The training failed: start it again.")
    if not run.looks:
        if run.job.state == "cancelled":
            st.info("Stopped before the first epoch was over.")
        return
    looks = tuple(run.looks)
    last = looks[-1]
    left, middle, right = st.columns(3)
    with left:
        frame.chart(curves(looks), key="curves", alt="Loss and accuracy over epochs")
    with middle:
        frame.chart(distances(looks), key="distances", alt="Mean attention distance of every layer over epochs")
    with right:
        frame.chart(positions(last), key="positions", alt="Similarity of position embeddings to one in the middle")
    st.markdown(
        f"After **{palette.number(last.epoch)} epochs** the model reads {palette.number(100 * last.accuracy)}% of 359 "
        f"held-out digits right; its first layer looks {palette.number(last.distance[0])} px far on average and its "
        f"last {palette.number(last.distance[-1])} px (n = {MEASURED_ON} digits, mean over heads)."
    )
