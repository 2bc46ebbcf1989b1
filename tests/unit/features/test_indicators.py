"""Each indicator answers to an independent calculation."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import ta
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.features import indicators
from finscale.features.bars import validate_bars
from finscale.features.catalogue import CATALOGUE

SETTLED = 300


def ema(values: np.ndarray, period: int) -> np.ndarray:
    """The recursion seeded with the mean of the first ``period`` defined values."""
    result = np.full(len(values), np.nan)
    first = int(np.flatnonzero(~np.isnan(values))[0])
    seed = first + period - 1
    result[seed] = values[first : seed + 1].mean()
    for t in range(seed + 1, len(values)):
        result[t] = result[t - 1] + 2 / (period + 1) * (values[t] - result[t - 1])
    return result


def dema(bars: pd.DataFrame, period: int) -> np.ndarray:
    once = ema(bars["close"].to_numpy(), period)
    return 2 * once - ema(once, period)


def stochrsi(bars: pd.DataFrame) -> pd.Series:
    rsi = ta.momentum.RSIIndicator(bars["close"], window=14).rsi()
    low, high = rsi.rolling(5).min(), rsi.rolling(5).max()
    return 100 * (rsi - low) / (high - low)


def macd(bars: pd.DataFrame) -> pd.Series:
    close = bars["close"]
    return close.ewm(span=12, adjust=False).mean() - close.ewm(span=26, adjust=False).mean()


def obv(bars: pd.DataFrame) -> np.ndarray:
    total, close, volume = (
        [float(bars["volume"].iloc[0])],
        bars["close"].to_numpy(),
        bars["volume"].to_numpy(),
    )
    for t in range(1, len(bars)):
        total.append(total[-1] + np.sign(close[t] - close[t - 1]) * volume[t])
    return np.array(total)


def adosc(bars: pd.DataFrame) -> pd.Series:
    place = (2 * bars["close"] - bars["low"] - bars["high"]) / (bars["high"] - bars["low"])
    line = (place * bars["volume"]).cumsum()
    return line.ewm(span=3, adjust=False).mean() - line.ewm(span=10, adjust=False).mean()


def vwap(bars: pd.DataFrame) -> np.ndarray:
    typical = (bars["high"] + bars["low"] + bars["close"]).to_numpy() / 3
    volume = bars["volume"].to_numpy(dtype=float)
    rows = range(19, len(bars))
    return np.r_[
        np.full(19, np.nan),
        [np.average(typical[t - 19 : t + 1], weights=volume[t - 19 : t + 1]) for t in rows],
    ]


ORACLES: dict[str, Callable[[pd.DataFrame], object]] = {
    **{f"sma_{n}": lambda b, n=n: b["close"].rolling(n).mean() for n in (12, 50, 100, 200)},
    **{f"dema_{n}": lambda b, n=n: dema(b, n) for n in (9, 10, 20, 25, 90)},
    "rsi_14": lambda b: ta.momentum.RSIIndicator(b["close"], window=14).rsi(),
    "stochrsi": stochrsi,
    "macd_line": macd,
    "obv": obv,
    "adosc": adosc,
    "atr_14": lambda b: ta.volatility.AverageTrueRange(b["high"], b["low"], b["close"]).average_true_range(),
    "adx_14": lambda b: ta.trend.ADXIndicator(b["high"], b["low"], b["close"]).adx(),
    "bb_percent_b": lambda b: ta.volatility.BollingerBands(b["close"], 20, 2).bollinger_pband(),
    "vwap_20": vwap,
}


@pytest.mark.parametrize("name", ORACLES)
def test_indicator_agrees_with_an_independent_calculation(name: str, sp500: pd.DataFrame) -> None:
    bars = sp500.iloc[:1500]
    ours = CATALOGUE[name].function(bars)[SETTLED:]
    oracle = np.asarray(ORACLES[name](bars), dtype=float)[SETTLED:]
    np.testing.assert_allclose(ours, oracle, rtol=1e-7, atol=1e-7 * np.abs(oracle).mean())


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume"])
def test_bar_features_are_the_bar(name: str, sp500: pd.DataFrame) -> None:
    np.testing.assert_array_equal(CATALOGUE[name].function(sp500), sp500[name])


def test_equal_closes_lie_in_the_middle_of_their_bands(sp500: pd.DataFrame) -> None:
    flat = sp500.iloc[:80].astype(float)
    flat.iloc[30:] = 1234.56
    assert indicators.bb_percent_b(flat, period=20, n_sigma=2.0)[49:].tolist() == [0.5] * 31


@pytest.fixture(scope="module")
def daily() -> pd.DataFrame:
    index = pd.bdate_range("2019-01-02", periods=200)
    close = 100 * np.exp(np.random.default_rng(1).normal(0, 0.01, 200).cumsum())
    bars = pd.DataFrame({"open": close, "high": close + 1, "low": close - 1, "close": close}, index=index)
    return validate_bars(bars, name="daily")


@settings(max_examples=40, deadline=None)
@given(kept=st.lists(st.booleans(), min_size=200, max_size=200))
def test_weekly_value_is_that_of_the_last_week_before_the_session(
    daily: pd.DataFrame, kept: list[bool]
) -> None:
    """Whatever holidays there are: nothing of the running week, nothing older than the newest finished."""
    bars = daily[np.array(kept) | (np.arange(200) == 0)]
    found = indicators.on_completed_weeks(bars, indicator=lambda weekly: weekly["close"].to_numpy())
    for t, session in enumerate(bars.index):
        monday = session - pd.Timedelta(days=session.weekday())
        before = bars["close"][bars.index < monday]
        assert np.isnan(found[t]) if before.empty else found[t] == before.iloc[-1]


def test_weekly_bars_sum_up_their_days(daily: pd.DataFrame) -> None:
    bars = daily.assign(volume=1).iloc[:9]  # Wednesday 2 January to Monday 14 January
    seen = []
    indicators.on_completed_weeks(
        bars, indicator=lambda weekly: seen.append(weekly) or weekly["close"].to_numpy()
    )
    assert seen[0]["volume"].tolist() == [3, 5, 1]
    assert seen[0]["open"].tolist() == bars["open"].iloc[[0, 3, 8]].tolist()
    assert seen[0]["close"].tolist() == bars["close"].iloc[[2, 7, 8]].tolist()
    assert seen[0]["high"].tolist() == [bars["high"].iloc[a:b].max() for a, b in [(0, 3), (3, 8), (8, 9)]]
    assert seen[0]["low"].tolist() == [bars["low"].iloc[a:b].min() for a, b in [(0, 3), (3, 8), (8, 9)]]


def test_weekly_rsi_is_the_rsi_of_weekly_closes(sp500: pd.DataFrame) -> None:
    ours = CATALOGUE["rsi_14_weekly"].function(sp500)
    weekly = ta.momentum.RSIIndicator(sp500["close"].resample("W-SUN").last().dropna(), window=14).rsi()
    for t in range(SETTLED * 5, len(sp500), 97):
        monday = sp500.index[t] - pd.Timedelta(days=sp500.index[t].weekday())
        assert ours[t] == pytest.approx(weekly[weekly.index < monday].iloc[-1], rel=1e-7)
