"""Window sums remember nothing older, and ratios are defined at zero."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from finscale.features.arithmetic import forward_fill, ratio, window_mean, window_std, window_sum, zscore

SERIES = hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(-1e6, 1e6))


@settings(max_examples=60, deadline=None)
@given(values=SERIES, period=st.integers(1, 40))
def test_windows_are_added_up_row_by_row(values: np.ndarray, period: int) -> None:
    windows = [values[t - period + 1 : t + 1] for t in range(period - 1, len(values))]
    early = [np.nan] * min(period - 1, len(values))
    for ours, summary in [(window_sum, np.sum), (window_mean, np.mean)]:
        written = np.array([*early, *(summary(window) for window in windows)])
        np.testing.assert_allclose(ours(values, period=period), written, rtol=1e-9, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(values=SERIES, period=st.integers(1, 40), shock=st.floats(1e10, 1e18))
def test_a_shock_leaves_no_trace_once_it_has_left_the_window(
    values: np.ndarray, period: int, shock: float
) -> None:
    shocked = np.r_[shock, np.nan, np.zeros(period - 1), values]
    for ours in (window_sum, window_mean):
        after = ours(shocked, period=period)[period + 1 :]
        np.testing.assert_array_equal(
            after, ours(np.r_[np.zeros(period - 1), values], period=period)[period - 1 :]
        )


@pytest.mark.parametrize("price", [1.38681, 0.1, 1234.56, 1e7 / 3])
def test_equal_values_have_no_spread_at_all(price: float) -> None:
    still = np.full(50, price)
    assert set(window_std(still, period=20)[19:]) == {0.0}
    assert set(zscore(still, period=20)[19:]) == {0.0}


@pytest.mark.parametrize("level", [1.0, 1e4])
@pytest.mark.parametrize("shock", [1.0, 3.0, 1e6])
def test_the_spread_of_quiet_prices_keeps_its_digits(level: float, shock: float) -> None:
    """Ticks of 1e-6 of the price: a sum of squares leaves four digits of them, and none after the shock."""
    prices = level * np.exp(1e-6 * np.random.default_rng(0).normal(size=2000).cumsum())
    prices[:100] *= shock
    windows = np.lib.stride_tricks.sliding_window_view(prices, 20)[120:]
    found = window_std(prices, period=20)[139:]
    np.testing.assert_allclose(found, windows.std(axis=1), rtol=1e-7)
    scores = (windows[:, -1] - windows.mean(axis=1)) / windows.std(axis=1)
    np.testing.assert_allclose(zscore(prices, period=20)[139:], scores, rtol=1e-7, atol=1e-7)


def test_a_ratio_of_nothing_is_what_was_asked_for_but_the_unknown_stays_unknown() -> None:
    above, below = np.array([3.0, 3.0, 0.0, np.nan, 1.0]), np.array([2.0, 0.0, 0.0, 0.0, np.nan])
    np.testing.assert_array_equal(ratio(above, below, otherwise=0.5), [1.5, 0.5, 0.5, np.nan, np.nan])


def test_forward_fill_knows_nothing_before_the_first_value() -> None:
    filled = forward_fill(np.array([np.nan, 1.0, np.nan, 2.0, np.nan]))
    np.testing.assert_array_equal(filled, [np.nan, 1.0, 1.0, 2.0, 2.0])
