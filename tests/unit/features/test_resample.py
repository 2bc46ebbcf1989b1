"""Longer bars hold the sessions they say, only whole ones are made, and nothing reads the future."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.core.errors import FinscaleError
from finscale.features.exchange import calendar_sessions
from finscale.features.resample import period_bounds, period_ids, resample_bars
from finscale.features.timescales import TIMESCALES, Timescale

LONGER: list[Timescale] = ["2d", "3d", "5d", "weekly", "2wk", "monthly"]
CALENDAR = calendar_sessions("XNYS", np.datetime64("1999-01-01"), np.datetime64("2003-01-01"))


def bars_on(sessions: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(sessions))))
    opening = close * np.exp(rng.normal(0, 0.005, len(sessions)))
    return pd.DataFrame(
        {
            "open": opening,
            "high": np.maximum(opening, close) * 1.002,
            "low": np.minimum(opening, close) * 0.998,
            "close": close,
            "volume": rng.integers(1, 1000, len(sessions)),
            "vix": np.where(np.arange(len(sessions)) < 3, np.nan, 20 + close / 50),
        },
        index=pd.DatetimeIndex(sessions.astype("datetime64[ns]"), name="session"),
    )


@st.composite
def some_sessions(draw: st.DrawFn) -> np.ndarray:
    """Sessions of New York from any day to any day, some of them missing, with perhaps a long gap."""
    begin = draw(st.integers(0, 900))
    sessions = CALENDAR[begin : begin + draw(st.integers(1, 90))]
    missing = draw(st.sets(st.integers(0, len(sessions) - 1), max_size=min(5, len(sessions) - 1)))
    sessions = np.delete(sessions, sorted(missing))
    cut = draw(st.integers(0, len(sessions)))
    return np.concatenate(
        [sessions[:cut], sessions[cut:] + np.timedelta64(364, "D") * draw(st.integers(0, 1))]
    )


@given(sessions=some_sessions(), timescale=st.sampled_from(LONGER))
@settings(max_examples=60, deadline=None)
def test_each_bar_is_its_sessions_together(sessions: np.ndarray, timescale: Timescale) -> None:
    bars = bars_on(sessions)
    longer, n_dropped = resample_bars(bars, timescale)
    ends = bars.index.get_indexer(longer.index)
    assert (ends >= 0).all(), "a bar is stamped with a session that it holds"
    used = 0
    for place, end in enumerate(ends):
        own = _members(bars, timescale, end)
        used += len(own)
        bar = longer.iloc[place]
        assert bar["open"] == own["open"].iloc[0]
        assert bar["high"] == own["high"].max()
        assert bar["low"] == own["low"].min()
        assert bar["close"] == own["close"].iloc[-1]
        assert bar["volume"] == own["volume"].sum()
        np.testing.assert_equal(bar["vix"], own["vix"].iloc[-1])
    assert used + n_dropped == len(bars), "no session is in two bars"
    assert list(longer.columns) == list(bars.columns)
    assert longer["volume"].dtype == np.int64


def _members(bars: pd.DataFrame, timescale: Timescale, end: int) -> pd.DataFrame:
    """The sessions of the bar that ends at this row, found the plain way."""
    row = TIMESCALES[timescale]
    if row.n_sessions is not None:
        return bars.iloc[end + 1 - row.n_sessions : end + 1]
    name = [_period(day, timescale) for day in bars.index]
    first = end
    while first > 0 and name[first - 1] == name[end] and _near(bars, first, timescale):
        first -= 1
    return bars.iloc[first : end + 1]


def _near(bars: pd.DataFrame, row: int, timescale: Timescale) -> bool:
    return (bars.index[row] - bars.index[row - 1]).days <= TIMESCALES[timescale].max_gap_days


def _period(day: pd.Timestamp, timescale: Timescale) -> tuple[int, int]:
    if timescale == "monthly":
        return day.year, day.month
    monday = day - pd.Timedelta(days=day.weekday())
    n_weeks = (monday - pd.Timestamp("2024-01-01")).days // 7
    return (0, n_weeks) if timescale == "weekly" else (0, (n_weeks - _FORTNIGHT_OF_2024) // 2)


@cache
def _periods_of_the_exchange(timescale: Timescale) -> list[list[pd.Timestamp]]:
    periods: dict[tuple[int, int], list[pd.Timestamp]] = {}
    for day in pd.DatetimeIndex(CALENDAR):
        periods.setdefault(_period(day, timescale), []).append(day)
    return list(periods.values())


_FORTNIGHT_OF_2024 = ((pd.Timestamp("2024-01-01") - pd.Timestamp("1970-01-05")).days // 7) % 2


@given(sessions=some_sessions(), timescale=st.sampled_from(LONGER), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_bars_of_a_prefix_are_a_prefix_of_the_bars(
    sessions: np.ndarray, timescale: Timescale, data: st.DataObject
) -> None:
    bars = bars_on(sessions)
    n_rows = data.draw(st.integers(1, len(bars)))
    whole, _ = resample_bars(bars, timescale)
    prefix, _ = resample_bars(bars.iloc[:n_rows], timescale)
    pd.testing.assert_frame_equal(prefix, whole.iloc[: len(prefix)])
    assert (prefix.index <= bars.index[n_rows - 1]).all()


@given(begin=st.integers(20, 900), n_sessions=st.integers(1, 80), timescale=st.sampled_from(LONGER[3:]))
@settings(max_examples=30, deadline=None)
def test_a_period_is_made_exactly_when_every_session_of_the_exchange_is_there(
    begin: int, n_sessions: int, timescale: Timescale
) -> None:
    sessions = CALENDAR[begin : begin + n_sessions]
    held = set(pd.DatetimeIndex(sessions))
    expected = [days[-1] for days in _periods_of_the_exchange(timescale) if held.issuperset(days)]
    longer, _ = resample_bars(bars_on(sessions), timescale)
    assert list(longer.index) == expected


def test_a_week_that_a_holiday_ends_or_begins_is_whole_without_it() -> None:
    week_of_labor_day = np.array(
        ["2001-09-04", "2001-09-05", "2001-09-06", "2001-09-07"], dtype="datetime64[D]"
    )
    longer, n_dropped = resample_bars(bars_on(week_of_labor_day), "weekly")
    assert [str(day.date()) for day in longer.index] == ["2001-09-07"]
    assert n_dropped == 0
    week_of_good_friday = np.array(
        ["2001-04-09", "2001-04-10", "2001-04-11", "2001-04-12"], dtype="datetime64[D]"
    )
    assert len(resample_bars(bars_on(week_of_good_friday), "weekly")[0]) == 1
    assert len(resample_bars(bars_on(week_of_good_friday[:3]), "weekly")[0]) == 0


def test_another_exchange_has_other_weeks() -> None:
    """Labor Day is a session in London: the week is then not whole without it."""
    week = np.array(["2001-09-04", "2001-09-05", "2001-09-06", "2001-09-07"], dtype="datetime64[D]")
    assert len(resample_bars(bars_on(week), "weekly", calendar="XNYS")[0]) == 1
    assert len(resample_bars(bars_on(week), "weekly", calendar="XLON")[0]) == 0


def test_a_week_whose_last_session_is_missing_is_known_to_be_over_by_the_next() -> None:
    monday_to_thursday = CALENDAR[
        np.isin(CALENDAR, np.arange("2001-02-05", "2001-02-09", dtype="datetime64[D]"))
    ]
    next_monday = np.array(["2001-02-12"], dtype="datetime64[D]")
    assert resample_bars(bars_on(monday_to_thursday), "weekly")[0].empty
    longer, _ = resample_bars(bars_on(np.concatenate([monday_to_thursday, next_monday])), "weekly")
    assert [str(day.date()) for day in longer.index] == ["2001-02-08"]


@pytest.mark.parametrize("begin", range(12))
def test_fortnights_do_not_depend_on_where_the_file_begins(begin: int) -> None:
    sessions = CALENDAR[300:400]
    whole, _ = resample_bars(bars_on(sessions), "2wk")
    later, _ = resample_bars(bars_on(sessions).iloc[begin:], "2wk")
    pd.testing.assert_frame_equal(later, whole.iloc[-len(later) :])


@pytest.mark.parametrize("timescale", LONGER)
def test_an_instrument_of_a_panel_is_resampled_as_if_alone(timescale: Timescale) -> None:
    members = {"ZZZ": bars_on(CALENDAR[:101], seed=1), "AAA": bars_on(CALENDAR[37:200], seed=2)}
    panel, n_dropped = resample_bars(pd.concat(members, names=["instrument", "session"]), timescale)
    alone = {name: resample_bars(bars, timescale) for name, bars in members.items()}
    expected = pd.concat({name: bars for name, (bars, _) in alone.items()}, names=["instrument", "session"])
    pd.testing.assert_frame_equal(panel, expected)
    assert n_dropped == sum(dropped for _, dropped in alone.values())


@pytest.mark.parametrize("timescale", LONGER)
def test_two_instruments_of_one_period_are_two_bars(timescale: Timescale) -> None:
    bars = bars_on(CALENDAR[20:150])
    longer, _ = resample_bars(bars, timescale)
    one = _members(bars, timescale, bars.index.get_loc(longer.index[0]))
    panel, n_dropped = resample_bars(
        pd.concat({"A": one, "B": one}, names=["instrument", "session"]), timescale
    )
    assert list(panel.index.get_level_values("instrument")) == ["A", "B"]
    assert n_dropped == 0


@pytest.mark.parametrize("timescale", LONGER)
def test_no_bar_spans_a_long_gap(timescale: Timescale) -> None:
    before, after = CALENDAR[:63], CALENDAR[400:470]
    both, _ = resample_bars(bars_on(np.concatenate([before, after])), timescale)
    assert {*resample_bars(bars_on(before), timescale)[0].index} | {
        *resample_bars(bars_on(after), timescale)[0].index
    } == {*both.index}


@given(days=st.lists(st.integers(-4000, 20000), min_size=1, max_size=20))
def test_every_day_lies_in_the_bounds_of_its_period(days: list[int]) -> None:
    dates = np.array(days).astype("datetime64[D]")
    for period in ("week", "fortnight", "month"):
        begins, ends = period_bounds(period_ids(dates, period), period)
        assert ((begins <= dates) & (dates < ends)).all()
        assert (period_ids(ends, period) == period_ids(dates, period) + 1).all()
        if period != "month":
            assert (pd.DatetimeIndex(begins).day_of_week == 0).all()


def test_a_calendar_that_is_unknown_or_too_young_is_refused() -> None:
    with pytest.raises(FinscaleError, match=r"calendar must be an exchange .* got 'XNYZ'; did you mean"):
        resample_bars(bars_on(CALENDAR[:9]), "weekly", calendar="XNYZ")
    old = bars_on(np.arange("1950-01-02", "1950-01-20", dtype="datetime64[D]"))
    with pytest.raises(FinscaleError, match=r"calendar must cover 1950-01-02 to .*; choose another calendar"):
        resample_bars(old, "weekly", calendar="XKRX")
    with pytest.raises(FinscaleError, match=r"calendar must be an exchange .* got 'bourse'; try XNYS, XLON"):
        resample_bars(old, "weekly", calendar="bourse")
