"""The page of the loss around the weights: scales, surfaces, spectra and sentences as data."""

from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr

from dashboard.draw.figures import loss_planes
from dashboard.views.landscape import spectra, view
from tests.dashboard.test_pages import app, clean
from tests.dashboard.turning import turn_to

COLOURS = {"A": "#0072b2", "B": "#e69f00", "M": "#cc79a7"}


def plane(low: float, high: float, objective: str = "cross-entropy", *, broken: bool = False) -> xr.Dataset:
    loss = np.linspace(low, high, 9).reshape(3, 3)
    if broken:
        loss[0, 0] = np.nan
    axis = np.linspace(-1, 1, 3)
    return xr.Dataset(
        {"loss": (("beta", "alpha"), loss), "finite": (("beta", "alpha"), np.isfinite(loss))},
        {"alpha": axis, "beta": axis},
        {"objective": objective, "centre": float(loss[1, 1]), "n": 32, "seed": 0},
    )


def spectrum(largest: float) -> xr.Dataset:
    values = np.array([[largest, 1.0, -1.0], [largest + 2, 0.5, -0.5]])
    weights = np.array([[0.1, 0.6, 0.3], [0.2, 0.7, 0.1]])
    return xr.Dataset(
        {
            "eigenvalue": (("batch", "rank"), values),
            "weight": (("batch", "rank"), weights),
            "leading": ("batch", values[:, 0]),
        },
        attrs={"objective": "cross-entropy", "n": 16, "weights": 1_200_000, "seed": 0},
    )


def test_one_scale_for_models_with_one_loss():
    all_three = {"A": plane(0.1, 2), "B": plane(0.5, 7), "M": plane(0.2, 1, "reconstruction")}
    found = loss_planes.scales(all_three, log=False)
    assert (found["cross-entropy"].low, found["cross-entropy"].high) == (0, 7)
    assert (found["reconstruction"].low, found["reconstruction"].high) == (0, 1)
    log = loss_planes.scales(all_three, log=True)["cross-entropy"]
    assert (log.low, log.high) == pytest.approx((-1, np.log10(7)))
    for name in ("A", "B"):
        flat = loss_planes.contours(all_three[name], found["cross-entropy"], log=False)
        tall = loss_planes.surface(all_three[name], found["cross-entropy"], log=False)
        assert (flat.data[0].zmin, flat.data[0].zmax) == (tall.data[0].cmin, tall.data[0].cmax) == (0, 7)
        assert tuple(tall.layout.scene.zaxis.range) == (0, 7)
        assert (flat.data[1].x, flat.data[1].y) == ((0,), (0,))
        assert flat.layout.xaxis.title.text == "α (lengths of the weights)"


def test_what_is_not_finite_is_no_number():
    broken = plane(0.1, 2, broken=True)
    scale = loss_planes.scales({"A": broken}, log=False)["cross-entropy"]
    assert np.isnan(loss_planes.contours(broken, scale, log=False).data[0].z[0][0])
    assert "at 1 of 9 points it is not finite (grey)" in loss_planes.reading({"A": broken})
    assert "not finite" not in loss_planes.reading({"A": plane(0.1, 2)})


def test_the_saved_picture_has_a_plane_a_model():
    both = {"A": plane(0.1, 2), "B": plane(0.5, 7, broken=True)}
    svg = loss_planes.document(both, COLOURS, "How rough?", log=False)
    texts = " ".join(ElementTree.fromstring(svg).itertext())
    assert all(text in texts for text in ("How rough?", "α", "β", "cross-entropy, nats", "n = 32 images"))
    assert svg.count("<image") == 3, "a plane a model, and the bar of the colours"


def test_the_density_is_one_whole_and_leading_eigenvalues_are_marked():
    at = np.linspace(-10, 20, 4000)
    assert np.trapezoid(spectra.density(spectrum(9), at, 0.2), at) == pytest.approx(1, abs=1e-6)
    figure = spectra.figure({"A": spectrum(9), "B": spectrum(3)}, COLOURS)
    assert [trace.name for trace in figure.data if trace.mode == "lines"] == ["A", "B"]
    assert list(figure.data[1].x) == [9, 11]
    assert figure.layout.yaxis.type == "log"
    said = spectra.reading({"A": spectrum(9)})
    assert "largest 10 ± 1.41 over 2 mini-batches" in said
    assert "smallest −1; 1.20 million weights" in said


def test_the_page_asks_for_one_of_the_two():
    plane_asked = view.asks(view.Chosen("plane", False, 11, 3))
    assert [(one.probe, dict(one.params)) for one in plane_asked] == [("loss-landscape", {"seed": 3, "steps": 11})]
    assert [one.probe for one in view.asks(view.Chosen("spectrum", False, 21, 3))] == ["hessian-spectrum"]


def test_without_labels_the_page_says_what_to_choose(settle):
    at = settle(turn_to(app(points=["11 × 11"]).run(), "landscape"))
    clean(at)
    told = " ".join(one.value for one in at.info)
    assert "needs labelled images of its classes" in told
    assert not at.get("plotly_chart")
