"""Features of volume. Bars in which nobody traded are ordinary; each function says what it makes of them."""

import numpy as np
import pandas as pd
import talib

from finscale.features.arithmetic import Vector, forward_fill, ratio, window_mean, window_sum, zscore
from finscale.features.indicators import bar_column, typical_price
from finscale.features.scale_free import log_return

__all__ = [
    "adosc",
    "amihud",
    "dollar_volume",
    "log_volume",
    "mfi",
    "obv",
    "volume_ma_ratio",
    "volume_zscore",
    "vwap",
]


def obv(bars: pd.DataFrame) -> Vector:
    """Return on-balance volume, summed from the first bar (Granville 1963)."""
    return talib.OBV(bar_column(bars, column="close"), bar_column(bars, column="volume"))


def adosc(bars: pd.DataFrame, *, fast: int, slow: int) -> Vector:
    """Return the Chaikin oscillator of the accumulation/distribution line."""
    high, low, close, volume = (bar_column(bars, column=name) for name in ("high", "low", "close", "volume"))
    return talib.ADOSC(high, low, close, volume, fastperiod=fast, slowperiod=slow)


def vwap(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the volume-weighted mean of the typical price over ``period`` bars.

    Undefined where no volume was traded in the whole period.
    """
    volume = bar_column(bars, column="volume")
    traded = window_sum(typical_price(bars) * volume, period=period)
    return ratio(traded, window_sum(volume, period=period), otherwise=np.nan)


def mfi(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the money flow index: the share, 0 to 100, that flowed at a rising typical price.

    50 where none flowed at a changing price. (Quong and Soudack 1989; TA-Lib's is 0 wherever less than one
    unit of money flowed, and so depends on the units of the volume.)
    """
    typical = typical_price(bars)
    change = np.diff(typical, prepend=np.nan)
    flow = typical * bar_column(bars, column="volume")
    flow[:1] = np.nan
    up = window_sum(np.where(change < 0, 0.0, flow) * (change != 0), period=period)
    down = window_sum(np.where(change > 0, 0.0, flow) * (change != 0), period=period)
    return 100 * ratio(up, up + down, otherwise=0.5)


def log_volume(bars: pd.DataFrame) -> Vector:
    """Return ln(1 + volume); 0 in a bar without trades."""
    return np.log1p(bar_column(bars, column="volume"))


def dollar_volume(bars: pd.DataFrame) -> Vector:
    """Return close times volume."""
    return bar_column(bars, column="close") * bar_column(bars, column="volume")


def volume_ma_ratio(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the volume over its mean of the last ``period`` bars; 1 where none was traded in them."""
    volume = bar_column(bars, column="volume")
    return ratio(volume, window_mean(volume, period=period), otherwise=1.0)


def volume_zscore(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the volume in standard deviations from its mean of ``period`` bars; 0 where all are equal."""
    return zscore(bar_column(bars, column="volume"), period=period)


def amihud(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the mean of |log return| per million of traded value (Amihud 2002), over the bars with volume.

    Where none of the last ``period`` bars had volume, the last known value stands; undefined before there
    is one.
    """
    money = dollar_volume(bars) / 1e6
    impact = ratio(np.abs(log_return(bars, period=1)), money, otherwise=0.0)
    n_traded = window_sum((money > 0).astype(np.float64), period=period)
    return forward_fill(ratio(window_sum(impact, period=period), n_traded, otherwise=np.nan))
