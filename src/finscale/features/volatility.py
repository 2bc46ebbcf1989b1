"""Volatility of the bars, per bar: from closes, from ranges, from both.

r log return of one bar, H L O C the bar. All are standard deviations (roots), not variances.
"""

import numpy as np
import pandas as pd

from finscale.features.arithmetic import Vector, window_mean
from finscale.features.indicators import bar_column
from finscale.features.scale_free import log_range, log_return

__all__ = ["ewma_vol", "garman_klass_vol", "parkinson_vol", "realised_vol"]


def realised_vol(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the root mean square of the last ``period`` log returns (Andersen and Bollerslev 1998)."""
    return np.sqrt(window_mean(log_return(bars, period=1) ** 2, period=period))


def ewma_vol(bars: pd.DataFrame, *, decay: float, min_bars: int) -> Vector:
    """Return the root of the mean of squared log returns whose weights fall by ``decay`` a bar.

    RiskMetrics 1996, with the weights of the returns there are so far summing to one; shown from
    ``min_bars`` returns on.
    """
    squares = pd.Series(log_return(bars, period=1) ** 2)
    return np.sqrt(squares.ewm(alpha=1 - decay, min_periods=min_bars).mean().to_numpy())


def parkinson_vol(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the root of the mean of ln(H / L)^2 / (4 ln 2) over ``period`` bars (Parkinson 1980)."""
    return np.sqrt(window_mean(log_range(bars) ** 2, period=period) / (4 * np.log(2)))


def garman_klass_vol(bars: pd.DataFrame) -> Vector:
    """Return the root of ln(H / L)^2 / 2 - (2 ln 2 - 1) ln(C / O)^2 of each bar (Garman and Klass 1980).

    Never of a negative: no body is longer than its range.
    """
    body = np.log(bar_column(bars, column="close") / bar_column(bars, column="open"))
    return np.sqrt(0.5 * log_range(bars) ** 2 - (2 * np.log(2) - 1) * body**2)
