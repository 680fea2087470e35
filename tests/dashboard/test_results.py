import threading

import numpy as np
import pytest
import torch
import xarray as xr

from dashboard.compute import results, work
from dashboard.compute.jobs import Job, Jobs
from dashboard.compute.requests import Failure, Request, Result
from dashboard.compute.results import Results
from dashboard.compute.work import uncropped_size
from dashboard.images import gallery
from model_zoo.reference import ModelError

A = Request(("timm:test_vit@random:0",), ("photo:coffee",), "attention-maps", (("query", "cls"),))
B = Request(("timm:test_vit@random:0",), ("photo:coffee",), "attention-statistics")
OTHER = Request(("timm:test_vit@random:1",), ("photo:coffee",), "attention-maps")


def make(size=10):
    return Result({"m": xr.Dataset({"v": ("x", np.zeros(size))})}, {}, {})


def test_equal_requests_compute_once_and_share_a_pass():
    calls, go = [], threading.Event()

    def compute(group, job):
        calls.append(list(group))
        assert go.wait(5)
        return [make() for _ in group]

    store = Results(Jobs(workers=2), compute)
    first, second = store.fetch([A, B], "one"), store.fetch([B, A], "two")
    assert isinstance(first[A], Job)
    assert first[A] is first[B] is second[A]
    go.set()
    assert first[A].finished.wait(5)
    again = store.fetch([A, B], "three")
    assert all(isinstance(value, Result) for value in again.values())
    assert calls == [[A, B]]


def test_patience_returns_quick_work_at_once():
    store = Results(Jobs(workers=1), lambda group, job: [make() for _ in group])
    assert isinstance(store.fetch([A], "one", patience=5.0)[A], Result)


def test_the_least_recently_used_result_leaves_first():
    made = []

    def compute(group, job):
        made.extend(group)
        return [make(10_000) for _ in group]

    store = Results(Jobs(workers=1), compute, most_bytes=200_000)
    for request in (A, OTHER):
        store.fetch([request], "one", patience=5.0)
    assert store.bytes <= 200_000
    store.fetch([A], "one", patience=5.0)  # A is the younger one now
    store.fetch([B], "one", patience=5.0)
    made.clear()
    for request in (A, B, OTHER):
        assert isinstance(store.fetch([request], "one", patience=5.0)[request], Result)
    assert made == [OTHER]


def test_a_failure_is_remembered_until_it_is_tried_again():
    calls = []

    def compute(group, job):
        calls.append(1)
        raise ModelError("The hub is out of reach: try later.")

    store = Results(Jobs(workers=1, explain=work.explain), compute)
    for _ in range(2):
        found = store.fetch([A], "one", patience=5.0)[A]
        assert isinstance(found, Failure)
        assert found.sentence == "The hub is out of reach: try later."
    assert len(calls) == 1
    store.forget_failures([A])
    store.fetch([A], "one", patience=5.0)
    assert len(calls) == 2


def test_what_is_no_longer_wanted_leaves_the_queue_but_not_for_others():
    go, ran = threading.Event(), []

    def compute(group, job):
        ran.append(group[0])
        assert go.wait(5)
        return [make() for _ in group]

    store = Results(Jobs(workers=1), compute)
    running = store.fetch([OTHER], "one")[OTHER]
    mine, both = store.fetch([A], "one")[A], store.fetch([Request(OTHER.models, ("photo:china",))], "one")
    shared = next(iter(both.values()))
    store.fetch(both, "two")
    store.keep_only([OTHER], "one")
    go.set()
    assert shared.finished.wait(5)
    assert running.finished.wait(5)
    assert (mine.state, shared.state) == ("cancelled", "done")
    assert A not in ran


@pytest.mark.parametrize(
    ("native", "patch", "image", "expected"),
    [
        ((224, 224), 16, (451, 300), (224, 336)),
        ((224, 224), 16, (300, 451), (336, 224)),
        ((518, 518), 14, (100, 100), (518, 518)),
        ((224, 224), 0, (224, 224), (224, 224)),
    ],
)
def test_uncropped_keeps_the_aspect_ratio_on_the_patch_grid(native, patch, image, expected):
    assert uncropped_size(native, patch, image) == expected


def test_a_very_long_image_stays_within_the_token_limit():
    rows, columns = uncropped_size((224, 224), 16, (8000, 200))
    assert rows % 16 == columns % 16 == 0
    assert rows * columns <= work.UNCROPPED_MOST * 224 * 224 * 1.3  # rounding to whole patches
    assert columns > rows


def test_compute_runs_every_probe_of_the_group_in_the_models_own_geometry():
    store = results.store()
    found = store.fetch([A, B], "test", patience=60.0)
    maps, statistics = found[A], found[B]
    assert isinstance(maps, Result)
    assert isinstance(statistics, Result)
    model = A.models[0]
    spec, geometry = maps.specs[model], maps.geometries[model][0]
    attention = maps.datasets[model]["attention"]
    assert attention.sizes["layer"] == len(spec.layers)
    assert (attention.sizes["y"], attention.sizes["x"]) == spec.grid
    assert geometry.image == gallery.load("photo:coffee").size
    assert set(statistics.datasets[model].data_vars) >= {"entropy", "nmi"}


def test_an_unknown_picture_is_a_failure_in_a_sentence():
    gone = Request(A.models, ("upload:0123456789abcdef",))
    found = results.store().fetch([gone], "test", patience=60.0)[gone]
    assert isinstance(found, Failure)
    assert found.sentence == "The uploaded image is no longer held: upload it again."


def test_a_full_queue_is_told_to_who_filled_it_and_never_kept():
    go = threading.Event()

    def compute(group, job):
        assert go.wait(5)
        return [make() for _ in group]

    store = Results(Jobs(workers=1, most_each_browser=1), compute)
    running = store.fetch([OTHER], "here/greedy/1")[OTHER]
    while running.state == "queued":
        pass
    assert isinstance(store.fetch([A], "here/greedy/2")[A], Job)
    refused = Request(A.models, ("photo:china",))
    found = store.fetch([refused], "here/greedy/3")[refused]
    assert isinstance(found, Failure)
    assert "waiting already" in found.sentence
    assert isinstance(store.fetch([refused], "here/modest/1")[refused], Job), "another visitor is not told so"
    go.set()
    assert isinstance(store.fetch([refused], "here/greedy/3", patience=5.0)[refused], Result)


def test_failures_are_bounded_in_bytes():
    tried = []

    def compute(group, job):
        tried.extend(group)
        raise ModelError("No." * 1000)

    store = Results(Jobs(workers=1, explain=work.explain), compute)
    requests = [Request(A.models, tuple(f"scene:{i}" for i in range(2000)), params=(("n", n),)) for n in range(20)]
    for request in requests:
        assert isinstance(store.fetch([request], "one", patience=5.0)[request], Failure)
    assert tried == requests
    store.fetch([requests[-1]], "one", patience=5.0)
    assert tried == requests, "the last failure is remembered"
    store.fetch([requests[0]], "one", patience=5.0)
    assert tried == [*requests, requests[0]], "the first one made room"


def test_the_budget_of_weights_is_the_memory_that_they_lie_in():
    budget = work.zoo_budget()
    if torch.cuda.is_available():
        assert budget == torch.cuda.get_device_properties(0).total_memory // 2
    else:
        assert 1e9 <= budget <= 8e9


def test_the_budget_of_weights_is_a_part_of_what_control_groups_leave(monkeypatch):
    monkeypatch.setattr(work, "resolve_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(work, "machine_bytes", lambda: 6 * 10**9)
    assert work.zoo_budget.__wrapped__() == 1.5e9


def test_on_a_gpu_the_budget_does_not_follow_the_hosts_memory(monkeypatch):
    class Properties:
        total_memory = 141 * 10**9

    monkeypatch.setattr(work, "resolve_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert work.zoo_budget.__wrapped__() == Properties.total_memory // 2
