"""Arithmetic that keeps its digits: window sums that remember nothing older, ratios defined at zero.

A running total subtracts what leaves the window, and so carries the rounding of every bar it ever saw; after
a crash or a huge volume the quiet bars drown in it. Here each window is added up from its own rows, which
also makes every value the same, to the bit, on a prefix of the bars.
"""

import numpy as np
import pandas as pd
import talib
from numpy.typing import NDArray

__all__ = ["Vector", "forward_fill", "ratio", "window_mean", "window_std", "window_sum", "zscore"]

Vector = NDArray[np.float64]


def window_sum(values: Vector, *, period: int) -> Vector:
    """Return the sum of the last ``period`` values at each row, NaN before there are so many; (n_rows,).

    Sums over 1, 2, 4, ... rows are doubled, and those that make up ``period`` in binary are added.

    Examples
    --------
    >>> window_sum(np.array([1.0, 2.0, 3.0, 4.0]), period=3)
    array([nan, nan,  6.,  9.])
    """
    result = np.full(len(values), np.nan)
    if len(values) < period:
        return result
    total, n_added = np.zeros(len(values) + 1), 0
    sums, width = values, 1  # sums[i] adds values[i : i + width]
    while n_added < period:
        if period & width:
            total = total[: len(values) - n_added - width + 1] + sums[n_added:]
            n_added += width
        if n_added < period:
            sums, width = sums[:-width] + sums[width:], 2 * width
    result[period - 1 :] = total
    return result


def window_mean(values: Vector, *, period: int) -> Vector:
    """Return the mean of the last ``period`` values; (n_rows,)."""
    return window_sum(values, period=period) / period


def window_std(values: Vector, *, period: int) -> Vector:
    """Return the standard deviation of the last ``period`` values (divided by ``period``); (n_rows,).

    TA-Lib's keeps what a running sum of squares loses: exactly 0 where all are equal, all digits for quiet
    prices far from 0 and after a shock. ``period`` is at least 2.
    """
    return talib.STDDEV(values, timeperiod=period)


def zscore(values: Vector, *, period: int) -> Vector:
    """Return how many standard deviations a value lies above the mean of the last ``period``; (n_rows,).

    The value itself is one of them; 0 where all are equal.
    """
    above = values - window_mean(values, period=period)
    return ratio(above, window_std(values, period=period), otherwise=0.0)


def ratio(above: Vector, below: Vector, *, otherwise: float) -> Vector:
    """Return ``above / below``, and ``otherwise`` where ``below`` is 0 and ``above`` is a number; (n_rows,).

    Examples
    --------
    >>> ratio(np.array([1.0, 0.0, np.nan]), np.array([2.0, 0.0, 0.0]), otherwise=1.0)
    array([0.5, 1. , nan])
    """
    undefined = (below == 0) & ~np.isnan(above)
    return np.where(undefined, otherwise, above / np.where(below == 0, np.nan, below))


def forward_fill(values: Vector) -> Vector:
    """Return the last value that was a number; (n_rows,)."""
    return np.asarray(pd.Series(values).ffill(), dtype=np.float64)
