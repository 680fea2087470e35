"""Scenes and digits: what their figures hold, and a training that is watched and stopped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from dashboard.compute.jobs import Cancelled, Job
from dashboard.state import models
from dashboard.state.visitors import browser
from dashboard.views.digits import figures, runs
from dashboard.views.digits.runs import Look, Run
from dashboard.views.scenes import shape_bias, sheet
from model_zoo import trained
from model_zoo.loading import load
from model_zoo.reference import parse
from model_zoo.scenes import Scenes
from model_zoo.training.data import open_source
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")


def test_a_sheet_shows_the_held_out_scenes_in_order():
    pictures, captions = sheet.grid(18, False, False)
    batch = Scenes(size=sheet.SIDE).batch(range(18, 18 + sheet.SHOWN))
    assert len(pictures) == len(captions) == sheet.SHOWN
    assert np.array_equal(np.asarray(pictures[3]), batch.images[3].permute(1, 2, 0).numpy())
    assert "own surface" in captions[int((batch.labels == batch.surfaces).nonzero()[0])]
    _, conflicts = sheet.grid(18, True, False)
    assert all("surface of a" in caption for caption in conflicts)


def test_masks_leave_the_object_as_it_is():
    plain, _ = sheet.grid(0, False, False)
    dimmed, _ = sheet.grid(0, False, True)
    mask = Scenes(size=sheet.SIDE).batch([0]).masks[0].numpy()
    assert np.array_equal(np.asarray(dimmed[0])[mask], np.asarray(plain[0])[mask])
    assert np.asarray(dimmed[0])[~mask].mean() < np.asarray(plain[0])[~mask].mean()


def test_shape_bias_is_drawn_from_0_to_1_with_its_unit():
    drawn = shape_bias.figure({"ViT, supervised": {"shape bias": 0.2, "accuracy": 0.9, "decisions": 1500}})
    assert list(drawn.data[0].x) == [0.2]
    assert drawn.layout.xaxis.range == (0, 1)
    assert "0: by surface, 1: by shape" in drawn.layout.xaxis.title.text


def test_two_epochs_on_the_digits_are_looked_into():
    run, job = Run("a", 2, 0, "me"), Job("training")
    runs.train_digits(run, job)
    looks = run.looks
    assert [look.epoch for look in looks] == [1, 2]
    assert job.fraction == 1
    assert looks[1].loss < looks[0].loss
    assert looks[1].accuracy > 0.15
    assert all(0 < d < 16 * np.sqrt(2) for d in looks[1].distance)
    height, width = looks[1].similarity.shape[:2]
    assert (height, width) == (8, 8)
    assert np.allclose([looks[1].similarity[y, x, y, x] for y in range(8) for x in range(8)], 1, atol=1e-5)
    assert "px" in figures.distances(looks).layout.yaxis.title.text
    assert figures.curves(looks).layout.yaxis2.range == (0, 1)
    assert figures.positions(looks[1]).data[0].zmin == -1


def test_ticks_are_round():
    looks = [Look(k, 2.31 / k, 0.1 * k, (5.3, 7.7), np.zeros((8, 8, 8, 8))) for k in (1.0, 2.0, 3.0)]
    losses = figures.curves(looks).layout
    assert (losses.xaxis.dtick, losses.yaxis.range, losses.yaxis.dtick, losses.yaxis2.dtick) == (1, (0, 2.5), 0.5, 0.2)
    assert not losses.yaxis2.showgrid, "one grid, the loss's"
    assert figures.curves([replace(looks[0], epoch=31.0)]).layout.xaxis.dtick == 5
    far = figures.distances(looks).layout.yaxis
    assert (far.range, far.dtick) == ((0, 8), 2)


def test_a_stopped_training_ends_at_the_next_report():
    run, job = Run("a", 5, 0, "me"), Job("training")
    job._cancel.set()
    with pytest.raises(Cancelled):
        runs.train_digits(run, job)
    assert run.looks == []


class Stopping(Job):
    """Stopped by its visitor in the third epoch."""

    def report(self, stage, done=0, total=None):
        if total and done > 2.5 * total / 15:
            raise Cancelled
        super().report(stage, done, total)


def test_what_a_stopped_training_learned_is_a_model_of_that_epoch():
    run = Run("stopped", 15, 3, "me")
    with pytest.raises(Cancelled):
        run.train(Stopping("training"))
    assert [look.epoch for look in run.looks] == [1, 2]
    adapter = load(run.model, device="cpu")
    assert (adapter.spec.grid, adapter.spec.input_size, len(adapter.spec.layers)) == ((8, 8), (16, 16), 4)
    assert models.title(run.model) == "Digits seed 3 epoch 2"
    pixels, labels = open_source("digits", 3).validation(359, 16, 1.0, torch.device("cpu"))
    with torch.inference_mode():
        found = adapter.module((pixels - 0.5) / 0.25).argmax(-1)
    assert float((found == labels).float().mean()) == pytest.approx(run.looks[-1].accuracy)
    assert parse(run.model).source == run.model


def app(**linked):
    at = AppTest.from_file(HOME, default_timeout=60)
    for name, value in linked.items():
        at.query_params[name] = value
    return turn_to(at, "digits")


def test_a_reloaded_page_finds_its_training_and_stops_it_and_the_model_is_in_the_sidebar():
    at = app().run()
    at.slider(key="epochs").set_value(40).run()
    at.button(key="start").click().run()
    assert not at.exception
    again = app()  # another tab of the same browser, without the link
    again.session_state["visitor"] = f"{browser(at.session_state['visitor'])}/another"
    again.run()
    assert again.button(key="start").disabled
    (identity,) = at.session_state["chosen"]["run"]
    assert again.session_state["chosen"]["run"] == (identity,)
    run = runs.runs().get(identity)
    while not run.looks:
        assert not run.job.finished.wait(0.2)
    again.button(key="stop").click().run()
    assert run.job.finished.wait(60)
    linked = app(run=identity).run()
    assert not linked.exception
    epoch = round(run.looks[-1].epoch)
    assert any(f"Stopped at epoch {epoch} of 40." in text.value for text in linked.markdown)
    linked.button(key="compare").click().run()
    assert run.model in linked.session_state["chosen"]["model"]
    assert linked.button(key="compare").disabled


def test_links_to_what_is_gone_say_so():
    at = app(run="0123456789ab", model="trained:0123456789ab").run()
    assert not at.exception
    said = " ".join(toast.value for toast in at.toast)
    assert "no longer held on this server: start another one" in said
    assert "trained:0123456789ab is no longer held on this server: train it again" in said


def test_trained_models_are_bounded_in_number_and_size():
    for k in range(trained.MOST + 1):
        trained.keep(f"tiny-{k}", trained.Trained("tiny", "digits_vit", {"a": torch.zeros(2)}))
    assert trained.get("tiny-0") is None
    assert trained.get(f"tiny-{trained.MOST}") is not None
    large = {"a": torch.zeros(trained.MOST_BYTES // 8 + 1)}  # half of all there may be, and a little
    trained.keep("large", trained.Trained("large", "digits_vit", large))
    trained.keep("larger", trained.Trained("larger", "digits_vit", large))
    assert (trained.get("large"), trained.get("larger") is None) == (None, False)
    with pytest.raises(ValueError, match="at most"):
        trained.keep("huge", trained.Trained("huge", "digits_vit", {"a": torch.zeros(trained.MOST_BYTES)}))
