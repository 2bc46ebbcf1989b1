"""Features that do not depend on the price level: returns, places within a bar, distances to averages."""

import numpy as np
import pandas as pd
import talib

from finscale.features.arithmetic import Vector, ratio
from finscale.features.indicators import Indicator, bar_column, ema, sma

__all__ = [
    "close_location",
    "distance_to_ema",
    "distance_to_sma",
    "ema_slope",
    "log_range",
    "log_return",
    "over_close",
]


def log_return(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return ln(close / close ``period`` bars ago)."""
    close = bar_column(bars, column="close")
    return np.log(talib.ROCR(close, timeperiod=period))


def log_range(bars: pd.DataFrame) -> Vector:
    """Return ln(high / low) of the bar."""
    return np.log(bar_column(bars, column="high") / bar_column(bars, column="low"))


def close_location(bars: pd.DataFrame) -> Vector:
    """Return where the close lies in its bar, 0 at the low, 1 at the high; one half in a bar of one price."""
    high, low, close = (bar_column(bars, column=name) for name in ("high", "low", "close"))
    return ratio(close - low, high - low, otherwise=0.5)


def over_close(bars: pd.DataFrame, *, indicator: Indicator) -> Vector:
    """Return an indicator in price units as a fraction of the close."""
    return indicator(bars) / bar_column(bars, column="close")


def distance_to_sma(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the close over its simple moving average, less 1."""
    return bar_column(bars, column="close") / sma(bars, period=period) - 1


def distance_to_ema(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the close over its exponential moving average, less 1."""
    return bar_column(bars, column="close") / ema(bars, period=period) - 1


def ema_slope(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return how far the exponential moving average moved in the last bar, in price units."""
    average = ema(bars, period=period)
    return np.diff(average, prepend=np.nan)
