"""Calibrated intervals cover what they name on exchangeable rows, and never cross."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from finscale.core.errors import Fault
from finscale.metrics.conformal import conformal_offsets, in_order, level_pairs
from finscale.metrics.probabilistic import coverage, pinball_loss

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
PERCENTS = (50, 80, 90)


def forecasts(n: int, *, spread: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard normal outcomes, and quantiles of another deviation."""
    y = np.random.default_rng(seed).standard_normal(n)
    return y, np.tile(spread * norm.ppf(LEVELS), (n, 1))


def test_the_ends_of_an_interval_are_levels_that_sum_to_one_from_the_widest_in() -> None:
    assert level_pairs(LEVELS) == ((0, 6), (1, 5), (2, 4))
    assert level_pairs((0.1, 0.5, 0.8)) == ()


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.5])
def test_intervals_cover_what_they_name_on_rows_of_the_same_law(spread: float) -> None:
    y, q = forecasts(4000, spread=spread)
    fresh, said = forecasts(4000, spread=spread, seed=1)
    moved = in_order(said + conformal_offsets(y, q, LEVELS))
    for percent in PERCENTS:
        assert coverage(fresh, moved, LEVELS, percent=percent) == pytest.approx(percent / 100, abs=0.03)
    if spread != 1.0:
        assert pinball_loss(fresh, moved, LEVELS) < pinball_loss(fresh, said, LEVELS)


def test_coverage_is_at_least_what_is_named_on_average_over_small_calibration_sets() -> None:
    found = []
    for seed in range(400):
        y, q = forecasts(20, spread=0.5, seed=seed)
        fresh, said = forecasts(50, spread=0.5, seed=seed + 10_000)
        moved = in_order(said + conformal_offsets(y, q, LEVELS))
        found.append([coverage(fresh, moved, LEVELS, percent=percent) for percent in PERCENTS])
    # of 20 rows the rank is rounded up: 11, 17 and 19 of 21
    assert np.mean(found, axis=0) == pytest.approx([11 / 21, 17 / 21, 19 / 21], abs=0.02)


def test_both_ends_move_alike_and_a_level_without_a_partner_stays() -> None:
    y, q = forecasts(100, spread=0.5)
    offsets = conformal_offsets(y, q, LEVELS)
    assert offsets == pytest.approx(-offsets[::-1])
    assert offsets[3] == 0
    assert (offsets[4:] > 0).all()
    assert (conformal_offsets(y, q[:, :3], LEVELS[:3]) == 0).all()


def test_an_offset_is_the_named_order_statistic_of_the_misses() -> None:
    y = np.arange(1.0, 20.0)
    offsets = conformal_offsets(y, np.zeros((19, 2)), (0.1, 0.9))
    # ceil(20 * 0.8) = 16th smallest miss
    assert offsets.tolist() == [-16.0, 16.0]


def test_too_few_rows_for_the_widest_interval_are_refused() -> None:
    y, q = forecasts(8, spread=1.0)
    with pytest.raises(Fault, match="calibration rows must be 9 rows at least, got 8"):
        conformal_offsets(y, q, LEVELS)
    assert np.isfinite(conformal_offsets(*forecasts(9, spread=1.0), LEVELS)).all()


@settings(max_examples=200, deadline=None)
@given(n_levels=st.integers(1, 8), seed=st.integers(0, 999))
def test_quantiles_put_in_order_do_not_cross_and_only_move_outwards(n_levels: int, seed: int) -> None:
    q = np.random.default_rng(seed).standard_normal((5, 2, n_levels))
    ordered, middle = in_order(q), n_levels // 2
    assert (np.diff(ordered, axis=-1) >= 0).all()
    assert (ordered[..., :middle] <= q[..., :middle]).all()
    assert (ordered[..., middle:] >= q[..., middle:]).all()
    rising = np.sort(q, axis=-1)
    np.testing.assert_array_equal(in_order(rising), rising)
