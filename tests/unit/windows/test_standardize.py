"""Training rows become mean 0 and deviation 1; a feature that never moved stays finite."""

import numpy as np

from finscale.windows.standardize import Standardizer


def test_training_rows_become_standard() -> None:
    rows = np.random.default_rng(0).normal([5.0, -3e9], [2.0, 1e9], (500, 2))
    found = Standardizer.fit(rows).transform(rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0), 1, rtol=1e-6)


def test_a_constant_feature_becomes_zero_and_stays_finite_when_it_moves() -> None:
    for level in (0.0, 0.1, 1e9):
        train = np.full((50, 1), level)
        standardizer = Standardizer.fit(train)
        assert np.abs(standardizer.transform(train)).max() < 1e-9
        assert abs(standardizer.transform(np.array([[level + 2.0]])).item() - 2.0) < 1e-6


def test_a_small_but_real_movement_is_kept() -> None:
    train = 1e6 + np.array([[0.0], [0.001], [0.002]])
    assert Standardizer.fit(train).transform(train)[2, 0] > 1
