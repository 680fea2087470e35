"""Parts of different sizes in one array."""

import numpy as np

from probes.core.stacking import stack


def test_parts_lie_at_their_place_and_the_rest_is_filled() -> None:
    parts = {(7, "b"): np.array([[1.0, 2.0]]), (3, "a"): np.array([[3.0], [4.0]])}
    found = stack(parts, ([3, 7], ["a", "b"]), (2, 2))
    assert found.shape == (2, 2, 2, 2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[1, 1], [[1, 2], [np.nan, np.nan]])
    np.testing.assert_array_equal(found[0, 0], [[3, np.nan], [4, np.nan]])
    assert np.isnan(found[0, 1]).all()
    assert np.isnan(found[1, 0]).all()


def test_nothing_is_an_array_of_its_shape() -> None:
    assert stack({}, ([], range(2)), (3,), fill=False, dtype=bool).shape == (0, 2, 3)
