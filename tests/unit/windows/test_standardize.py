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


def test_many_rows_are_standardised_as_few_are() -> None:
    rows = np.random.default_rng(1).normal(3.0, 2.0, (140_000, 2))
    standardizer = Standardizer.fit(rows[:1000])
    whole = ((rows - standardizer.mean) / standardizer.std).astype(np.float32)
    np.testing.assert_array_equal(standardizer.transform(rows), whole)
    assert standardizer.transform(rows[:0]).shape == (0, 2)


def test_bounded_features_are_shown_from_minus_one_to_one_whatever_was_trained_on() -> None:
    rows = np.array([[70.0, 1.0], [71.0, 3.0], [72.0, 2.0]])
    found = Standardizer.fit(rows, bounds={0: (0.0, 100.0)})
    np.testing.assert_allclose(found.transform(np.array([[0.0, 2.0], [100.0, 2.0]])), [[-1, 0], [1, 0]])
