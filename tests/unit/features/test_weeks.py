"""Weekly indicators: known from the first bar after their week, whatever holidays there are."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.features.bars import validate_bars
from finscale.features.catalogue import CATALOGUE
from finscale.features.prepare import prepare_bars
from finscale.features.weeks import on_completed_weeks, week_numbers


@pytest.fixture(scope="module")
def daily() -> pd.DataFrame:
    index = pd.bdate_range("2019-01-02", periods=200)
    close = 100 * np.exp(np.random.default_rng(1).normal(0, 0.01, 200).cumsum())
    bars = pd.DataFrame({"open": close, "high": close + 1, "low": close - 1, "close": close}, index=index)
    return validate_bars(bars, name="daily")


def last_close(weekly: pd.DataFrame) -> np.ndarray:
    return weekly["close"].to_numpy()


@settings(max_examples=40, deadline=None)
@given(kept=st.lists(st.booleans(), min_size=200, max_size=200))
def test_weekly_value_is_that_of_the_last_week_before_the_session(
    daily: pd.DataFrame, kept: list[bool]
) -> None:
    """Nothing of the running week, nothing older than the newest finished; Mondays may be holidays."""
    bars = daily[np.array(kept) | (np.arange(200) == 0)]
    found = on_completed_weeks(bars, indicator=last_close)
    for t, session in enumerate(bars.index):
        monday = session - pd.Timedelta(days=session.day_of_week)
        before = bars["close"][bars.index < monday]
        assert np.isnan(found[t]) if before.empty else found[t] == before.iloc[-1]


def test_weekly_bars_sum_up_their_days(daily: pd.DataFrame) -> None:
    bars = daily.assign(volume=1, vix=20.0).iloc[:9]  # Wednesday 2 January to Monday 14 January
    seen = []
    on_completed_weeks(bars, indicator=lambda weekly: seen.append(weekly) or last_close(weekly))
    assert seen[0]["volume"].tolist() == [3, 5, 1]
    assert seen[0]["open"].tolist() == bars["open"].iloc[[0, 3, 8]].tolist()
    assert seen[0]["close"].tolist() == bars["close"].iloc[[2, 7, 8]].tolist()
    assert seen[0]["high"].tolist() == [bars["high"].iloc[a:b].max() for a, b in [(0, 3), (3, 8), (8, 9)]]
    assert seen[0]["low"].tolist() == [bars["low"].iloc[a:b].min() for a, b in [(0, 3), (3, 8), (8, 9)]]


def test_a_market_that_never_closes_ends_its_week_on_sunday() -> None:
    """2024-06-09 was a Sunday."""
    bars = pd.DataFrame({"close": np.arange(4.0)}, index=pd.date_range("2024-06-08", periods=4))
    assert week_numbers(bars).tolist() == [0, 0, 1, 1]


def test_bars_of_a_session_belong_to_its_week_not_to_that_of_their_hour() -> None:
    """Sunday evening already trades for Monday: Friday's week is complete then."""
    opened_at = pd.DatetimeIndex(["2024-06-06 14:00", "2024-06-07 14:00", "2024-06-09 22:30"], tz="UTC")
    days = pd.DatetimeIndex(["2024-06-06", "2024-06-07", "2024-06-10"])
    bars = pd.DataFrame({"close": [1.0, 2.0, 3.0], "session": days}, index=opened_at)
    assert week_numbers(bars).tolist() == [0, 0, 1]
    np.testing.assert_array_equal(on_completed_weeks(bars, indicator=last_close), [np.nan, np.nan, 2.0])


@pytest.mark.parametrize("name", ["rsi_14_weekly", "stochrsi_weekly"])
def test_sessions_of_bars_give_the_weekly_values_of_their_days(name: str, sp500: pd.DataFrame) -> None:
    days = sp500.iloc[:200]
    bars = days.loc[days.index.repeat(3)].assign(session=days.index.repeat(3), slot=np.tile([0, 1, 2], 200))
    bars.index = (bars.index + pd.to_timedelta(15 + bars["slot"].to_numpy(), unit="h")).tz_localize("UTC")
    daily_values, values = (CATALOGUE[name].function(rows) for rows in (days, bars))
    np.testing.assert_array_equal(values, daily_values.repeat(3))
    assert CATALOGUE[name].warm_up(bars) == 3 * CATALOGUE[name].warm_up(days)


@pytest.mark.parametrize("timescale", ["weekly", "2wk", "monthly"])
def test_where_a_bar_is_a_week_or_longer_the_last_week_is_the_bar_before(
    timescale: str, sp500: pd.DataFrame
) -> None:
    bars = prepare_bars(sp500, name="sp500", timescale=timescale)
    found = on_completed_weeks(bars, indicator=last_close)
    np.testing.assert_array_equal(found, np.r_[np.nan, bars["close"].to_numpy()[:-1]])
