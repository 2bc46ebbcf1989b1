"""The trading day: what restarts with it, and what is normal at a time of day."""

import numpy as np
import pandas as pd
import pytest

from finscale.features import intraday


def days(*volumes: list[float]) -> pd.DataFrame:
    """Sessions of bars with these volumes, at prices 1, 2, 3, ..."""
    sessions = pd.bdate_range("2024-01-01", periods=len(volumes))
    rows = [
        (day, slot, v)
        for day, day_volumes in zip(sessions, volumes, strict=True)
        for slot, v in enumerate(day_volumes)
    ]
    bars = pd.DataFrame(rows, columns=["session", "slot", "volume"])
    price = np.arange(1.0, len(bars) + 1)
    return bars.assign(open=price, high=price, low=price, close=price)


def test_the_price_by_volume_restarts_each_session_at_its_first_bar() -> None:
    found = intraday.vwap_session(days([1, 3], [2, 2]))
    np.testing.assert_array_equal(found, [1.0, (1 + 2 * 3) / 4, 3.0, 3.5])


def test_before_the_first_trade_the_price_by_volume_is_the_bar() -> None:
    found = intraday.vwap_session(days([5, 5], [0, 0, 2, 0]))
    np.testing.assert_array_equal(found[2:], [3.0, 4.0, 5.0, 5.0])


def test_a_bar_is_compared_with_its_slot_on_earlier_sessions_alone() -> None:
    bars = days([10, 20], [30, 20], [80, 10])
    np.testing.assert_array_equal(
        intraday.trade_intensity(bars, n_sessions=20), [np.nan, np.nan, 3.0, 1.0, 4.0, 0.5]
    )


def test_the_session_so_far_is_compared_with_what_earlier_ones_had_traded_by_then() -> None:
    bars = days([10, 20], [30, 30], [80, 10])
    np.testing.assert_array_equal(
        intraday.relative_volume(bars, n_sessions=20), [np.nan, np.nan, 3.0, 2.0, 4.0, 2.0]
    )


def test_only_so_many_sessions_count() -> None:
    bars = days([1000], [10], [30], [40])
    assert intraday.trade_intensity(bars, n_sessions=2)[-1] == 2.0


@pytest.mark.parametrize("function", [intraday.trade_intensity, intraday.relative_volume])
def test_a_slot_that_no_earlier_session_reached_is_taken_as_ordinary(function) -> None:
    """After a half day, and where no earlier session had traded by then."""
    assert function(days([5], [5, 7]), n_sessions=20)[-1] == 1.0
    assert function(days([0, 0], [5, 7]), n_sessions=20)[-1] == 1.0


def test_half_days_leave_their_afternoon_to_the_whole_ones() -> None:
    assert intraday.trade_intensity(days([4, 6], [4], [4, 12]), n_sessions=20)[-1] == 2.0
