"""A split that the prices are not adjusted for is warned of; a crash is not."""

from pathlib import Path

import arch.data.nasdaq
import numpy as np
import pandas as pd
import pytest

from finscale.features.bars import PRICES, validate_bars
from finscale.features.jumps import SPLIT_RATIOS, jump_warning, split_ratios

AT = 2000


def spy(test_data: Path) -> pd.DataFrame:
    table = pd.read_csv(test_data / "spy_daily_1999_2020.csv", parse_dates=["date"], index_col="date")
    return validate_bars(table, name="spy")


def split_at(bars: pd.DataFrame, row: int, factor: float) -> pd.DataFrame:
    """Prices as the exchange printed them when a share became 1 / factor shares."""
    prices = bars[list(PRICES)].copy()
    prices.iloc[row:] *= factor
    return bars.assign(**prices)


def test_markets_without_a_split_raise_no_warning(test_data: Path, sp500: pd.DataFrame) -> None:
    """Through the crashes of 2000, 2008 and 2020."""
    nasdaq = validate_bars(arch.data.nasdaq.load().rename(columns=str.lower), name="nasdaq")
    for bars in (spy(test_data), sp500, nasdaq):
        assert not (split_ratios(bars) != "").any()


@pytest.mark.parametrize("ratio", [*SPLIT_RATIOS, "2/1", "3/1", "10/1", "3/2"])
def test_a_planted_split_is_found_where_it_is(test_data: Path, ratio: str) -> None:
    up, down = map(int, ratio.split("/"))
    found = split_ratios(split_at(spy(test_data), AT, up / down))
    assert np.flatnonzero(found != "").tolist() == [AT]
    assert found[AT] == ratio


def test_a_split_in_the_crash_of_2008_is_found(test_data: Path) -> None:
    bars = spy(test_data)
    row = bars.index.get_loc("2008-10-15")
    assert split_ratios(split_at(bars, row, 0.5))[row] == "1/2"


@pytest.mark.parametrize("n_rows", [3, 10])
def test_a_split_is_found_in_a_short_history_too(sp500: pd.DataFrame, n_rows: int) -> None:
    found = split_ratios(split_at(sp500.iloc[:n_rows], 2, 0.5))
    assert found.tolist() == ["", "", "1/2"] + [""] * (n_rows - 3)


def test_a_jump_to_no_simple_ratio_is_no_split(sp500: pd.DataFrame) -> None:
    assert not (split_ratios(split_at(sp500, AT, 0.58)) != "").any()


def test_a_market_that_always_moves_so_far_is_no_split() -> None:
    close = 100 * np.exp(np.cumsum(np.tile([np.log(2), -np.log(2)], 100)))
    index = pd.bdate_range("2020-01-01", periods=200, name="session")
    bars = pd.DataFrame(dict.fromkeys(PRICES, close), index=index)
    assert not (split_ratios(bars) != "").any()


def test_prices_on_two_sides_of_a_gap_or_of_two_instruments_are_not_compared(sp500: pd.DataFrame) -> None:
    halved = split_at(sp500, AT, 0.5)
    gap = pd.concat([halved.iloc[: AT - 20], halved.iloc[AT:]])
    assert not (split_ratios(gap) != "").any()
    members = {"A": halved.iloc[:AT], "B": halved.iloc[AT:]}
    assert not (split_ratios(pd.concat(members, names=["instrument", "session"])) != "").any()


def test_the_warning_names_the_first_three_dates_and_the_ratios(sp500: pd.DataFrame) -> None:
    bars = sp500
    for row, factor in ((500, 0.5), (1000, 1 / 3), (1500, 0.5), (2000, 2.0)):
        bars = split_at(bars, row, factor)
    warning = jump_warning(bars.index, split_ratios(bars))
    first = ", ".join(str(bars.index[row].date()) for row in (500, 1000, 1500))
    assert warning is not None
    assert warning.startswith(f"4 overnight moves ({first}, ...) by about 1/2, 1/3, 2/1: a split")
    assert jump_warning(sp500.index, split_ratios(sp500)) is None
