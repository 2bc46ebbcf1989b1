"""Indicators of price as functions of the bars alone; TA-Lib computes all but what it lacks.

Each takes the canonical bars and returns float64 (n_rows,), NaN while it is undefined.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import talib

from finscale.features.arithmetic import Vector, ratio

__all__ = [
    "Indicator",
    "adx",
    "atr",
    "bar_column",
    "bb_lower",
    "bb_middle",
    "bb_percent_b",
    "bb_upper",
    "bb_width",
    "cci",
    "dema",
    "ema",
    "macd_histogram",
    "macd_line",
    "macd_signal",
    "roc",
    "rsi",
    "sma",
    "stochastic",
    "stochrsi",
    "typical_price",
]

Indicator = Callable[[pd.DataFrame], Vector]


def bar_column(bars: pd.DataFrame, *, column: str) -> Vector:
    """Return a column of the bars as it is."""
    # strided and contiguous memory take different code in numpy's logarithm, and may differ in the last bit
    return np.ascontiguousarray(bars[column].to_numpy(dtype=np.float64))


def typical_price(bars: pd.DataFrame) -> Vector:
    """Return (high + low + close) / 3."""
    high, low, close = (bar_column(bars, column=name) for name in ("high", "low", "close"))
    return (high + low + close) / 3


def sma(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the simple moving average of the close."""
    return talib.SMA(bar_column(bars, column="close"), timeperiod=period)


def ema(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the exponential moving average of the close, begun at the mean of its first ``period``."""
    return talib.EMA(bar_column(bars, column="close"), timeperiod=period)


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


def stochastic(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return %K, where the close lies between the lowest and the highest price, 0 to 100 (Lane 1984).

    50 where the price did not move for ``period`` bars (TA-Lib: 0).
    """
    high, low, close = (bar_column(bars, column=name) for name in ("high", "low", "close"))
    lowest, highest = talib.MIN(low, timeperiod=period), talib.MAX(high, timeperiod=period)
    return 100 * ratio(close - lowest, highest - lowest, otherwise=0.5)


def macd_line(bars: pd.DataFrame, *, fast: int, slow: int) -> Vector:
    """Return EMA(fast) - EMA(slow) of the close (Appel 1979), without its signal line."""
    close = bar_column(bars, column="close")
    line, _, _ = talib.MACD(close, fastperiod=fast, slowperiod=slow, signalperiod=1)
    return line


def macd_signal(bars: pd.DataFrame, *, fast: int, slow: int, signal: int) -> Vector:
    """Return the exponential moving average of the MACD line over ``signal`` bars (Appel 1979)."""
    close = bar_column(bars, column="close")
    return talib.MACD(close, fastperiod=fast, slowperiod=slow, signalperiod=signal)[1]


def macd_histogram(bars: pd.DataFrame, *, fast: int, slow: int, signal: int) -> Vector:
    """Return the MACD line less its signal line (Aspray 1986)."""
    close = bar_column(bars, column="close")
    return talib.MACD(close, fastperiod=fast, slowperiod=slow, signalperiod=signal)[2]


def roc(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the rate of change of the close over ``period`` bars, in percent."""
    return talib.ROC(bar_column(bars, column="close"), timeperiod=period)


def cci(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the commodity channel index of the typical price (Lambert 1980).

    0 where the typical price did not move for ``period`` bars.
    """
    high, low, close = (bar_column(bars, column=name) for name in ("high", "low", "close"))
    return talib.CCI(high, low, close, timeperiod=period)


def atr(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the average true range, in price units (Wilder 1978)."""
    high, low, close = (bar_column(bars, column=name) for name in ("high", "low", "close"))
    return talib.ATR(high, low, close, timeperiod=period)


def adx(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the average directional index, 0 to 100 (Wilder 1978)."""
    high, low, close = (bar_column(bars, column=name) for name in ("high", "low", "close"))
    return talib.ADX(high, low, close, timeperiod=period)


def bb_upper(bars: pd.DataFrame, *, period: int, n_sigma: float) -> Vector:
    """Return the upper Bollinger band, ``n_sigma`` standard deviations above the middle (Bollinger 2001)."""
    return _bands(bars, period, n_sigma)[0]


def bb_middle(bars: pd.DataFrame, *, period: int, n_sigma: float) -> Vector:
    """Return the middle Bollinger band: the mean of the last ``period`` closes (Bollinger 2001)."""
    return _bands(bars, period, n_sigma)[1]


def bb_lower(bars: pd.DataFrame, *, period: int, n_sigma: float) -> Vector:
    """Return the lower Bollinger band, ``n_sigma`` standard deviations below the middle (Bollinger 2001)."""
    return _bands(bars, period, n_sigma)[2]


def bb_width(bars: pd.DataFrame, *, period: int, n_sigma: float) -> Vector:
    """Return the distance between the Bollinger bands, divided by the middle one (Bollinger 2001)."""
    upper, middle, lower = _bands(bars, period, n_sigma)
    return (upper - lower) / middle


def bb_percent_b(bars: pd.DataFrame, *, period: int, n_sigma: float) -> Vector:
    """Return where the close lies in its Bollinger bands, 0 at the lower, 1 at the upper (Bollinger 2001).

    One half where the bands have no width (``period`` equal closes).
    """
    upper, _, lower = _bands(bars, period, n_sigma)
    return ratio(bar_column(bars, column="close") - lower, upper - lower, otherwise=0.5)


def _bands(bars: pd.DataFrame, period: int, n_sigma: float) -> tuple[Vector, Vector, Vector]:
    close = bar_column(bars, column="close")
    return talib.BBANDS(close, timeperiod=period, nbdevup=n_sigma, nbdevdn=n_sigma)
