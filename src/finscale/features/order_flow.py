"""Proxies of order flow and cost from bars alone: no trade, quote or order was seen to compute them."""

import numpy as np
import pandas as pd
from scipy.special import ndtr

from finscale.features.arithmetic import Vector, forward_fill, ratio, window_mean, window_std, window_sum
from finscale.features.indicators import bar_column

__all__ = ["orderflow_imbalance", "spread_proxy", "tick_rule"]


def orderflow_imbalance(bars: pd.DataFrame, *, period: int, sigma_period: int) -> Vector:
    """Return the share, -1 to 1, by which buying exceeded selling in the volume of ``period`` bars.

    Bulk volume classification (Easley, Lopez de Prado and O'Hara 2012): the fraction Phi(dP / sigma) of a
    bar's volume is counted as bought. They take sigma, the standard deviation of the price changes dP, over
    the whole sample; here it is that of the last ``sigma_period``, known at the bar. 0 where nothing was
    traded, and a bar counts half and half where the price did not move in all that time.
    """
    change = np.diff(bar_column(bars, column="close"), prepend=np.nan)
    volume = bar_column(bars, column="volume")
    bought = ndtr(ratio(change, window_std(change, period=sigma_period), otherwise=0.0))
    net = window_sum(volume * (2 * bought - 1), period=period)
    return ratio(net, window_sum(volume, period=period), otherwise=0.0)


def tick_rule(bars: pd.DataFrame) -> Vector:
    """Return the sign of the last price change, 1 or -1 (Lee and Ready 1991); 0 before the first change."""
    sign = np.sign(np.diff(bar_column(bars, column="close"), prepend=np.nan))
    known = np.nan_to_num(forward_fill(np.where(sign == 0, np.nan, sign)))
    known[:1] = np.nan
    return known


def spread_proxy(bars: pd.DataFrame, *, period: int) -> Vector:
    """Return the bid-ask spread as a fraction of the price: the mean of ``period`` two-bar estimates.

    Corwin and Schultz 2012, equations 14 and 18, with their adjustment of the bar's range for a gap after
    the previous close, and negative estimates set to 0.
    """
    high, low = _without_gap(bars)
    before_high, before_low = (_previous(bar_column(bars, column=name)) for name in ("high", "low"))
    beta = np.log(high / low) ** 2 + np.log(before_high / before_low) ** 2
    gamma = np.log(np.maximum(high, before_high) / np.minimum(low, before_low)) ** 2
    alpha = (np.sqrt(beta) - np.sqrt(gamma)) / (np.sqrt(2) - 1)  # (3 - 2 sqrt 2) is (sqrt 2 - 1)^2
    return window_mean(np.maximum(2 * np.tanh(alpha / 2), 0.0), period=period)


def _without_gap(bars: pd.DataFrame) -> tuple[Vector, Vector]:
    """Return high and low, moved to the previous close where the whole bar lies above or below it."""
    high, low = bar_column(bars, column="high"), bar_column(bars, column="low")
    before = _previous(bar_column(bars, column="close"))
    gap = np.maximum(low - before, 0.0) + np.minimum(high - before, 0.0)
    return high - gap, low - gap


def _previous(values: Vector) -> Vector:
    return np.r_[np.nan, values[:-1]]
