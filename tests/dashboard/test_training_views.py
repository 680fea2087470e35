"""Scenes and digits: what their figures hold, and a training that is watched and stopped."""

import numpy as np
import pytest
import torch

from dashboard.compute.jobs import Cancelled, Job
from dashboard.views import digits
from dashboard.views.scenes import shape_bias, sheet
from model_zoo.scenes import Scenes


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    drawn = shape_bias.figure({"a": {"shape bias": 0.2, "accuracy": 0.9, "decisions": 1500}})
    assert list(drawn.data[0].x) == [0.2]
    assert drawn.layout.xaxis.range == (0, 1)
    assert "0: by surface, 1: by shape" in drawn.layout.xaxis.title.text


def test_accuracy_and_loss_share_a_chart_with_round_ticks_of_accuracy():
    looks = [digits.Look(epoch, 2.4 / epoch, 1 - 0.9 / epoch, (3.0,) * 4, np.ones((8, 8, 8, 8))) for epoch in (1, 2)]
    axis = digits.curves(looks).layout.yaxis2
    assert (axis.tickmode, axis.dtick, axis.range) == ("linear", 0.2, (0, 1))
    assert not axis.showgrid, "one grid, the loss's"


def test_two_epochs_on_the_digits_are_looked_into():
    looks: list[digits.Look] = []
    job = Job("training")
    digits.train_digits(looks, job, 2, seed=0)
    assert [look.epoch for look in looks] == [1, 2]
    assert job.fraction == 1
    assert looks[1].loss < looks[0].loss
    assert looks[1].accuracy > 0.15
    assert all(0 < d < 16 * np.sqrt(2) for d in looks[1].distance)
    height, width = looks[1].similarity.shape[:2]
    assert (height, width) == (8, 8)
    assert np.allclose([looks[1].similarity[y, x, y, x] for y in range(8) for x in range(8)], 1, atol=1e-5)
    assert "px" in digits.distances(looks).layout.yaxis.title.text
    assert digits.curves(looks).layout.yaxis2.range == (0, 1)
    assert digits.positions(looks[1]).data[0].zmin == -1


def test_a_stopped_training_ends_at_the_next_report():
    looks: list[digits.Look] = []
    job = Job("training")
    job._cancel.set()
    with pytest.raises(Cancelled):
        digits.train_digits(looks, job, 5, seed=0)
    assert looks == []
