"""Features of the VIX, the market's price of the coming month's volatility (Whaley 2009).

Read from the column ``vix``, in its index points; undefined before its first value. Periods count bars, which
are days on daily bars.
"""

import numpy as np
import pandas as pd
import talib

from finscale.features.arithmetic import Vector, zscore
from finscale.features.indicators import bar_column

__all__ = ["REGIME_BOUNDS", "vix_change", "vix_percentile", "vix_regime", "vix_sma", "vix_zscore"]

REGIME_BOUNDS = (15.0, 25.0)


def vix_sma(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the simple moving average of the VIX."""
    return talib.SMA(bar_column(bars, column="vix"), timeperiod=period)


def vix_percentile(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the share, above 0 to 1, of the last ``period`` values that are not above today's."""
    ranks = bars["vix"].rolling(period).rank(method="max", pct=True)
    return ranks.to_numpy(dtype=np.float64)


def vix_zscore(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the VIX in standard deviations from its mean of ``period`` bars; 0 where all are equal."""
    return zscore(bar_column(bars, column="vix"), period=period)


def vix_regime(bars: pd.DataFrame) -> Vector:
    """Return 0 while the VIX is below 15, 1 below 25, 2 from there on."""
    vix = bar_column(bars, column="vix")
    return np.where(np.isnan(vix), np.nan, np.digitize(vix, REGIME_BOUNDS))


def vix_change(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return how many index points the VIX rose over ``period`` bars."""
    return talib.MOM(bar_column(bars, column="vix"), timeperiod=period)
