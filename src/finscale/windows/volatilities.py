"""Three measures of volatility that every bar knows of itself and of its past; nothing crosses a segment."""

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.features.indicators import atr
from finscale.features.segments import segment_ids
from finscale.windows.targets import EWMA_DECAY

__all__ = ["bar_returns", "volatilities"]

Vector = NDArray[np.float64]

_TINY = 1e-8


def volatilities(bars: pd.DataFrame, *, timescale: str = "daily") -> pd.DataFrame:
    """Return log EWMA, ATR / close and the realised volatility of five bars; NaN until they are defined.

    The EWMA of squared log returns decays by 0.94 a bar (RiskMetrics 1996). Each segment begins anew.
    """
    segments = segment_ids(bars.index, timescale=timescale)
    bounds = [*np.flatnonzero(np.diff(segments, prepend=-1)).tolist(), len(bars)]
    parts = [_of_segment(bars.iloc[first:last]) for first, last in pairwise(bounds)]
    return pd.concat(parts)


def bar_returns(bars: pd.DataFrame, *, timescale: str) -> tuple[Vector, Vector]:
    """Return log(close[t] / close[t-1]) and log(high[t] / close[t-1]), NaN in the first bar of a segment."""
    begins = np.diff(segment_ids(bars.index, timescale=timescale), prepend=-1) > 0
    close, high = (np.log(bars[name].to_numpy(dtype=np.float64)) for name in ("close", "high"))
    before = np.where(begins, np.nan, np.roll(close, 1))
    return close - before, high - before


def _of_segment(bars: pd.DataFrame) -> pd.DataFrame:
    squares = np.log(bars["close"]).diff().pow(2)
    ewma = squares.ewm(alpha=1 - EWMA_DECAY, adjust=False).mean().pow(0.5)
    return pd.DataFrame(
        {
            "log_ewma": np.log(ewma.clip(lower=_TINY)),
            "atr_14": atr(bars, period=14) / bars["close"],
            # a running sum can end a hair below zero
            "rv_5": squares.rolling(5).sum().clip(lower=0).pow(0.5),
        }
    )
