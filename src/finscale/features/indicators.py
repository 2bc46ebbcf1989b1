"""Indicators as functions of the bars alone; TA-Lib computes all but what it lacks.

Each takes the canonical bars and returns float64 (n_rows,), NaN while it is undefined.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import talib
from numpy.typing import NDArray

__all__ = [
    "Indicator",
    "Vector",
    "adosc",
    "adx",
    "atr",
    "bar_column",
    "bb_percent_b",
    "dema",
    "macd_line",
    "obv",
    "on_completed_weeks",
    "rsi",
    "sma",
    "stochrsi",
    "vwap",
    "week_numbers",
]

Vector = NDArray[np.float64]
Indicator = Callable[[pd.DataFrame], Vector]


def bar_column(bars: pd.DataFrame, *, column: str) -> Vector:
    """Return a column of the bars as it is."""
    return bars[column].to_numpy(dtype=np.float64)


def sma(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the simple moving average of the close."""
    return talib.SMA(bar_column(bars, column="close"), timeperiod=period)


def dema(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the double exponential moving average, 2 EMA - EMA(EMA), of the close (Mulloy 1994)."""
    return talib.DEMA(bar_column(bars, column="close"), timeperiod=period)


def rsi(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the relative strength index of the close, 0 to 100 (Wilder 1978)."""
    return talib.RSI(bar_column(bars, column="close"), timeperiod=period)


def stochrsi(bars: pd.DataFrame, *, period: int, window: int) -> Vector:
    """Return %K of the RSI over its last ``window`` values, 0 to 100; 0 where they are all equal."""
    close = bar_column(bars, column="close")
    k_line, _ = talib.STOCHRSI(close, timeperiod=period, fastk_period=window, fastd_period=1)
    return k_line


def macd_line(bars: pd.DataFrame, *, fast: int, slow: int) -> Vector:
    """Return EMA(fast) - EMA(slow) of the close (Appel 1979), without its signal line."""
    close = bar_column(bars, column="close")
    line, _, _ = talib.MACD(close, fastperiod=fast, slowperiod=slow, signalperiod=1)
    return line


def obv(bars: pd.DataFrame) -> Vector:
    """Return on-balance volume, summed from the first bar (Granville 1963)."""
    return talib.OBV(bar_column(bars, column="close"), bar_column(bars, column="volume"))


def adosc(bars: pd.DataFrame, *, fast: int, slow: int) -> Vector:
    """Return the Chaikin oscillator of the accumulation/distribution line."""
    high, low, close, volume = (bar_column(bars, column=name) for name in ("high", "low", "close", "volume"))
    return talib.ADOSC(high, low, close, volume, fastperiod=fast, slowperiod=slow)


def atr(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the average true range, in price units (Wilder 1978)."""
    high, low, close = (bar_column(bars, column=name) for name in ("high", "low", "close"))
    return talib.ATR(high, low, close, timeperiod=period)


def adx(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the average directional index, 0 to 100 (Wilder 1978)."""
    high, low, close = (bar_column(bars, column=name) for name in ("high", "low", "close"))
    return talib.ADX(high, low, close, timeperiod=period)


def bb_percent_b(bars: pd.DataFrame, *, period: int, n_sigma: float) -> Vector:
    """Return where the close lies in its Bollinger bands, 0 at the lower, 1 at the upper (Bollinger 2001).

    One half where the bands have no width (``period`` equal closes).
    """
    close = bar_column(bars, column="close")
    upper, _, lower = talib.BBANDS(close, timeperiod=period, nbdevup=n_sigma, nbdevdn=n_sigma)
    width = upper - lower
    return np.where(width == 0, 0.5, (close - lower) / np.where(width == 0, 1.0, width))


def vwap(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the volume-weighted mean of the typical price (high + low + close) / 3 over ``period`` bars.

    Undefined where no volume was traded in the whole period.
    """
    volume = bars["volume"].astype(np.float64)
    typical = bars[["high", "low", "close"]].sum(axis=1) / 3
    traded = (typical * volume).rolling(period).sum()
    return (traded / volume.rolling(period).sum()).to_numpy()


def week_numbers(sessions: pd.DatetimeIndex) -> NDArray[np.int64]:
    """Number the weeks (Monday to Sunday) in which there was a session, from 0, for each session."""
    weeks = sessions.to_period("W-SUN")
    return np.cumsum(np.r_[False, weeks[1:] != weeks[:-1]]).astype(np.int64)


def on_completed_weeks(bars: pd.DataFrame, *, indicator: Indicator) -> Vector:
    """Compute an indicator on weekly bars and show each session the last week completed before it.

    A week is known from the first session after it, whichever weekday that is: nothing of the running
    week is seen, and after a holiday the newest finished week is.
    """
    numbers = week_numbers(pd.DatetimeIndex(bars.index))
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    weekly = bars.groupby(numbers).agg({column: how[column] for column in bars.columns})
    known = np.r_[np.nan, indicator(weekly)]
    return known[numbers]
