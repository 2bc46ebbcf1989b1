"""Bars are canonical, or every violation is told at once."""

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.features.bars import instruments_of, validate_bars


def good_bars(n_rows: int = 12) -> pd.DataFrame:
    index = pd.bdate_range("2020-01-06", periods=n_rows, name="date")
    close = np.linspace(100.0, 110.0, n_rows)
    return pd.DataFrame(
        {"open": close - 1, "high": close + 2, "low": close - 2, "close": close, "volume": 1000}, index=index
    )


def put(column: str, value: float, *rows: int):
    def spoil(bars: pd.DataFrame) -> pd.DataFrame:
        spoiled = bars.astype(float)
        spoiled.iloc[list(rows), spoiled.columns.get_loc(column)] = value
        return spoiled

    return spoil


VIOLATIONS = {
    "missing number": (
        put("open", np.nan, 3),
        "x.open must be a finite number in every bar, got 1 bad bar (2020-01-09)",
    ),
    "infinite number": (put("volume", np.inf, 3), "x.volume must be a finite number in every bar, got 1 bad"),
    "duplicate date": (
        lambda bars: bars.iloc[[0, 1, 1, 2]],
        "x.session must be unique, got 1 bad bar (2020-01-07)",
    ),
    "unsorted dates": (
        lambda bars: bars.iloc[[0, 2, 1, 3]],
        "x.session must be in increasing order, got 1 bad bar (2020-01-07); sort the rows by date",
    ),
    "no date": (
        lambda bars: bars.set_axis([*bars.index[:-1], pd.NaT]),
        "x.session must be a date, got 1 bad bar (NaT)",
    ),
    "time of day": (
        lambda bars: bars.set_axis(bars.index + pd.Timedelta(hours=16)),
        "x.session must be a day without a time of day, got 12 bad bars (2020-01-06 16:00:00, ",
    ),
    "zero price": (put("low", 0.0, 2, 5), "x.low must be above 0, got 2 bad bars (2020-01-08, 2020-01-13)"),
    "high under close": (
        put("high", 50.0, 1, 2, 3, 4),
        "x.high must be at least open and close, got 4 bad bars (2020-01-07, 2020-01-08, 2020-01-09, ...)",
    ),
    "high between open and close": (
        put("high", 102.5, 3),  # opens at 101.7, closes at 102.7
        "x.high must be at least open and close, got 1 bad bar (2020-01-09)",
    ),
    "low between open and close": (
        put("low", 102.5, 3),
        "x.low must be at most open and close, got 1 bad bar (2020-01-09)",
    ),
    "low over open": (put("low", 109.0, 1), "x.low must be at most open and close, got 1 bad bar"),
    "negative volume": (put("volume", -1.0, 0), "x.volume must be at least 0, got 1 bad bar (2020-01-06)"),
    "missing column": (
        lambda bars: bars.drop(columns="low"),
        "x.low must be a column, got only open, high, close, volume",
    ),
    "text": (lambda bars: bars.assign(close=bars["close"].astype(str)), "x.close must hold numbers, got"),
    "no rows": (lambda bars: bars.iloc[:0], "x must have at least one bar, got 'none'"),
    "no dates": (lambda bars: bars.reset_index(drop=True), "x.session must be dates in the index, got"),
}


def told_of(bars: pd.DataFrame) -> str:
    with pytest.raises(FinscaleError) as found:
        validate_bars(bars, name="x")
    return str(found.value)


@pytest.mark.parametrize("case", VIOLATIONS)
def test_each_violation_names_column_rule_count_dates(case: str) -> None:
    spoil, message = VIOLATIONS[case]
    told = told_of(spoil(good_bars()))
    assert message in told
    assert "faults:" not in told, "one violation is one line"


def intraday_bars(n_rows: int = 12) -> pd.DataFrame:
    index = pd.date_range("2020-01-06 14:30", periods=n_rows, freq="5min", tz="UTC", name="opened_at")
    return good_bars(n_rows).set_axis(index)


INTRADAY = {
    "missing number": (
        put("open", np.nan, 3),
        "x.open must be a finite number in every bar, got 1 bad bar (",
    ),
    "duplicate instant": (
        lambda bars: bars.iloc[[0, 1, 1, 2]],
        "x.opened_at must be unique, got 1 bad bar (",
    ),
    "unsorted instants": (
        lambda bars: bars.iloc[[0, 2, 1, 3]],
        "x.opened_at must be in increasing order, got 1 bad bar (2020-01-06 14:35:00); sort the rows",
    ),
    "negative price": (
        put("low", -1.0, 2, 5),
        "x.low must be above 0, got 2 bad bars (2020-01-06 14:40:00, ",
    ),
    "missing column": (lambda bars: bars.drop(columns="low"), "x.low must be a column, got only open, high,"),
    "no rows": (lambda bars: bars.iloc[:0], "x must have at least one bar, got 'none'"),
    "no instants": (
        lambda bars: bars.set_axis(pd.RangeIndex(len(bars), name="opened_at")),
        "x.opened_at must be dates in the index",
    ),
    "no time zone": (
        lambda bars: bars.tz_localize(None),
        "x.opened_at must know its time zone, got times without one; write timezone: in the source",
    ),
}


@pytest.mark.parametrize("case", INTRADAY)
def test_each_violation_of_intraday_bars_is_told(case: str) -> None:
    spoil, message = INTRADAY[case]
    told = told_of(spoil(intraday_bars()))
    assert message in told
    assert "faults:" not in told


def test_times_of_day_without_a_time_zone_name_the_remedy() -> None:
    naive = intraday_bars().tz_localize(None).rename_axis("session")
    assert "write timezone: and sessions: in the source" in told_of(naive)


def panel_of(**members: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(members, names=["instrument", "session"])


PANEL = {
    "missing number": (
        put("open", np.nan, 3),
        "x.BBB.open must be a finite number in every bar, got 1 bad bar",
    ),
    "duplicate date": (
        lambda bars: bars.iloc[[0, 1, 1, 2]],
        "x.BBB.session must be unique, got 1 bad bar (2020-",
    ),
    "unsorted dates": (
        lambda bars: bars.iloc[[0, 2, 1, 3]],
        "x.BBB.session must be in increasing order, got 1 bad bar (2020-01-07)",
    ),
    "negative price": (
        put("low", -1.0, 2, 5),
        "x.BBB.low must be above 0, got 2 bad bars (2020-01-08, 2020-01-13)",
    ),
    "column of one only": (
        lambda bars: bars.drop(columns="volume"),
        "x.BBB.volume must be a finite number in every bar, got 12 bad bars (",
    ),
}


@pytest.mark.parametrize("case", PANEL)
def test_a_violation_names_the_instrument_of_a_panel_that_breaks_the_rule(case: str) -> None:
    spoil, message = PANEL[case]
    told = told_of(panel_of(AAA=good_bars(), BBB=spoil(good_bars()), CCC=good_bars()))
    assert message in told
    assert "AAA" not in told
    assert "CCC" not in told


def test_every_instrument_at_fault_has_its_own_line() -> None:
    told = told_of(panel_of(AAA=put("low", 0.0, 2)(good_bars()), BBB=put("low", 0.0, 1, 2)(good_bars())))
    assert told.startswith("2 faults:")
    assert "x.AAA.low must be above 0, got 1 bad bar (2020-01-08)" in told
    assert "x.BBB.low must be above 0, got 2 bad bars (2020-01-07, 2020-01-08)" in told


def test_a_panel_keeps_the_bars_of_an_instrument_together() -> None:
    panel = panel_of(AAA=good_bars(), BBB=good_bars())
    mixed = panel.iloc[[0, 1, 12, 13, 2, 3]]
    assert "x.AAA.instrument must have all its bars together, got 1 bad bar (2020-01-08)" in told_of(mixed)


def test_a_bar_of_no_instrument_is_told() -> None:
    panel = panel_of(AAA=good_bars())
    times = panel.index.get_level_values("session")
    panel.index = pd.MultiIndex.from_arrays([["AAA"] * 11 + [None], times], names=panel.index.names)
    assert "x.instrument must be named, got 1 bad bar (2020-01-21)" in told_of(panel)


def test_a_panel_keeps_unequal_histories_in_the_order_given() -> None:
    panel = panel_of(ZZZ=good_bars(3), AAA=good_bars(9).iloc[2:])
    found = validate_bars(panel, name="x")
    assert instruments_of(found) == ["ZZZ", "AAA"]
    assert found.index.names == ["instrument", "session"]
    assert len(found) == 10
    np.testing.assert_array_equal(found["close"], panel["close"])


def test_intraday_bars_come_out_in_utc() -> None:
    bars = intraday_bars()
    found = validate_bars(bars.tz_convert("America/New_York"), name="x")
    pd.testing.assert_index_equal(found.index, pd.DatetimeIndex(bars.index).as_unit("ns"), check_names=True)


def series(n_rows: int = 5) -> pd.DataFrame:
    index = pd.date_range("2016-07-01", periods=n_rows, freq="h", name="session")
    table = pd.DataFrame({"oil": np.arange(n_rows), "high": -np.arange(n_rows)}, index=index)
    table.attrs = {"kind": "series"}
    return table


def test_a_series_may_hold_any_numbers_at_any_times() -> None:
    found = validate_bars(series(), name="x")
    assert list(found.columns) == ["oil", "high"]
    assert set(found.dtypes.astype(str)) == {"float64"}
    pd.testing.assert_index_equal(found.index, series().index.as_unit("ns"), exact="equiv")


SERIES = {
    "missing number": (put("oil", np.nan, 3), "x.oil must be a finite number in every bar, got 1 bad bar ("),
    "duplicate time": (lambda table: table.iloc[[0, 1, 1]], "x.time must be unique"),
    "unsorted times": (lambda table: table.iloc[[1, 0]], "x.time must be in increasing order"),
    "text": (lambda table: table.assign(oil="a"), "x.oil must hold numbers"),
}


@pytest.mark.parametrize("case", SERIES)
def test_each_violation_of_a_series_is_told(case: str) -> None:
    spoil, message = SERIES[case]
    assert message in told_of(spoil(series()))


def test_vix_may_be_missing_before_its_first_value_and_not_after() -> None:
    vix = np.linspace(12.0, 20.0, 12)
    late = good_bars().assign(vix=np.where(np.arange(12) < 4, np.nan, vix))
    assert validate_bars(late, name="x")["vix"].isna().sum() == 4
    holed = good_bars().assign(vix=np.where(np.arange(12) == 4, np.nan, vix))
    assert "x.vix must be a finite number from its first value on, got 1 bad bar (2020-01-10)" in told_of(
        holed
    )
    assert "x.vix must be above 0" in told_of(good_bars().assign(vix=0.0))
    panel = panel_of(AAA=good_bars().assign(vix=vix), BBB=late)
    assert validate_bars(panel, name="x")["vix"].isna().sum() == 4


def test_all_violations_are_told_at_once() -> None:
    bars = good_bars().drop(columns="low").iloc[[0, 2, 1, 1, 3, 4, 5]]
    bars = put("open", np.nan, 4)(put("volume", -5.0, 0)(bars))
    with pytest.raises(FinscaleError) as found:
        validate_bars(bars, name="x")
    told = str(found.value)
    assert told.startswith("5 faults:")
    for rule in (
        "low must be a column",
        "unique",
        "increasing order",
        "open must be a finite",
        "volume must be",
    ):
        assert rule in told


def test_result_has_canonical_types_and_the_input_is_untouched() -> None:
    bars = good_bars().astype({"close": np.float32}).assign(dividends=0.0)
    bars.attrs = {"symbol": "x"}
    before = bars.copy(deep=True)
    found = validate_bars(bars, name="x")
    assert found.index.name == "session"
    assert found.index.dtype == "datetime64[ns]"
    assert dict(found.dtypes.astype(str)) == {
        **dict.fromkeys(["open", "high", "low", "close"], "float64"),
        "volume": "int64",
    }
    assert found.attrs == {"symbol": "x"}
    pd.testing.assert_frame_equal(bars, before)


def test_volume_is_optional_and_may_be_fractional() -> None:
    assert "volume" not in validate_bars(good_bars().drop(columns="volume"), name="x")
    fractional = validate_bars(good_bars().assign(volume=0.5), name="x")
    assert fractional["volume"].eq(0.5).all()


def test_bundled_bars_are_valid(sp500: pd.DataFrame) -> None:
    assert len(sp500) == 5031
    assert str(sp500.index[0].date()) == "1999-01-04"
    assert str(sp500.index[-1].date()) == "2018-12-31"
