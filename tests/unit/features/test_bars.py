"""Bars are canonical, or every violation is told at once."""

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.features.bars import validate_bars


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


@pytest.mark.parametrize("case", VIOLATIONS)
def test_each_violation_names_column_rule_count_dates(case: str) -> None:
    spoil, message = VIOLATIONS[case]
    with pytest.raises(FinscaleError) as found:
        validate_bars(spoil(good_bars()), name="x")
    assert message in str(found.value)
    assert "faults:" not in str(found.value), "one violation is one line"


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
