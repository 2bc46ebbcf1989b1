"""Volatilities answer to plain recursions and know nothing of other segments."""

import numpy as np
import pandas as pd
import pytest

from finscale.windows.volatilities import bar_returns, volatilities


@pytest.fixture(scope="module")
def cut(sp500: pd.DataFrame) -> pd.DataFrame:
    """Two instruments, the first with a hole of a month."""
    first = sp500.iloc[:300].drop(sp500.index[100:125])
    both = {"first": first, "second": sp500.iloc[50:250]}
    return pd.concat(both, names=["instrument"])


def test_volatilities_answer_to_plain_recursions(sp500: pd.DataFrame) -> None:
    bars = sp500.iloc[:300]
    found, returns = volatilities(bars), np.diff(np.log(bars["close"]))
    variance = returns[0] ** 2
    for r in returns[1:]:
        variance = 0.94 * variance + 0.06 * r**2
    assert found["log_ewma"].iloc[-1] == pytest.approx(0.5 * np.log(variance))
    assert found["rv_5"].iloc[-1] == pytest.approx(np.sqrt((returns[-5:] ** 2).sum()))
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    ranges = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    smooth = ranges[:14].mean()
    for value in ranges[14:]:
        smooth = (13 * smooth + value) / 14
    assert found["atr_14"].iloc[-1] == pytest.approx(smooth / close[-1])


def test_every_segment_begins_anew(cut: pd.DataFrame) -> None:
    found = volatilities(cut)
    pd.testing.assert_index_equal(found.index, cut.index)
    for first, last in ((0, 100), (100, 275), (275, 475)):
        alone = volatilities(cut.iloc[first:last].droplevel("instrument"))
        np.testing.assert_array_equal(found.iloc[first:last], alone)


def test_no_return_crosses_a_segment(cut: pd.DataFrame) -> None:
    returns, excursions = bar_returns(cut, timescale="daily")
    assert np.flatnonzero(np.isnan(returns)).tolist() == [0, 100, 275]
    np.testing.assert_array_equal(np.isnan(returns), np.isnan(excursions))
    close, high = cut["close"].to_numpy(), cut["high"].to_numpy()
    for t in (1, 99, 101, 400):
        assert returns[t] == pytest.approx(np.log(close[t] / close[t - 1]))
        assert excursions[t] == pytest.approx(np.log(high[t] / close[t - 1]))


def test_a_market_that_stands_still_has_finite_volatility(sp500: pd.DataFrame) -> None:
    still = sp500.iloc[:60].assign(open=5.0, high=5.0, low=5.0, close=5.0)
    assert np.isfinite(volatilities(still).iloc[20:].to_numpy()).all()


def test_running_sums_do_not_end_below_zero(sp500: pd.DataFrame) -> None:
    """Days of nearly no move after wild ones; a sum kept by adding and taking away can be negative."""
    for seed in (2, 3, 11, 20):
        rng = np.random.default_rng(seed)
        returns = np.r_[rng.normal(0, 0.1, 40), rng.normal(0, 1e-9, 40) * (rng.random(40) < 0.5)]
        close = 100 * np.exp(returns.cumsum())
        prices = dict.fromkeys(("open", "high", "low", "close"), close)
        wild = pd.DataFrame(prices, index=sp500.index[:80])
        assert volatilities(wild)["rv_5"].iloc[5:].notna().all()


def test_a_segment_of_one_bar_has_none(sp500: pd.DataFrame) -> None:
    assert volatilities(sp500.iloc[:1]).isna().all(axis=None)
