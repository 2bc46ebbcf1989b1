"""Features that know the trading day: what restarts each session, and what compares times of day.

Read from the columns ``session`` (the trading day of the bar) and ``slot`` (its place in it).
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.features.arithmetic import Vector, ratio
from finscale.features.indicators import bar_column, typical_price

__all__ = ["relative_volume", "session_numbers", "trade_intensity", "vwap_distance", "vwap_session"]


def session_numbers(bars: pd.DataFrame) -> NDArray[np.int64]:
    """Number the sessions of the bars 0, 1, ... in the order of the rows; (n_rows,)."""
    sessions = bars["session"].to_numpy()
    return np.cumsum(np.r_[False, sessions[1:] != sessions[:-1]], dtype=np.int64)


def vwap_session(bars: pd.DataFrame) -> Vector:
    """Return the volume-weighted mean of the typical price since the session began.

    The typical price of the bar itself until something is traded (Berkowitz, Logue and Noser 1988).
    """
    typical, volume = typical_price(bars), bar_column(bars, column="volume")
    traded, total = (_so_far(bars, values) for values in (typical * volume, volume))
    return np.where(total == 0, typical, ratio(traded, total, otherwise=np.nan))


def vwap_distance(bars: pd.DataFrame) -> Vector:
    """Return the close over the session's volume-weighted mean price, less 1."""
    return bar_column(bars, column="close") / vwap_session(bars) - 1


def relative_volume(bars: pd.DataFrame, *, n_sessions: int) -> Vector:
    """Return the session's volume so far over what earlier sessions had traded by the same slot.

    The mean is of the last ``n_sessions`` before this one, or of as many as there are; 1 where they say
    nothing of the slot (none was so long, or none had traded by then). Undefined in the first session.
    """
    return _against_time_of_day(bars, _so_far(bars, bar_column(bars, column="volume")), n_sessions)


def trade_intensity(bars: pd.DataFrame, *, n_sessions: int) -> Vector:
    """Return the bar's volume over its mean at the same slot of earlier sessions.

    A proxy for the arrival of trades (Engle and Russell 1998), with the day's pattern taken out (Andersen
    and Bollerslev 1997). The mean, and where it is silent, as in `relative_volume`.
    """
    return _against_time_of_day(bars, bar_column(bars, column="volume"), n_sessions)


def _so_far(bars: pd.DataFrame, values: Vector) -> Vector:
    return np.asarray(pd.Series(values).groupby(session_numbers(bars)).cumsum(), dtype=np.float64)


def _against_time_of_day(bars: pd.DataFrame, values: Vector, n_sessions: int) -> Vector:
    numbers, slots = session_numbers(bars), bars["slot"].to_numpy(dtype=np.int64)
    days = np.full((numbers[-1] + 1, slots.max() + 1), np.nan)
    days[numbers, slots] = values
    earlier = pd.DataFrame(days).rolling(n_sessions, min_periods=1).mean().shift(1).to_numpy()
    usual = np.nan_to_num(earlier[numbers, slots])
    return np.where(numbers == 0, np.nan, ratio(values, usual, otherwise=1.0))
