"""Daily bars to longer ones: counted sessions (2d, 3d, 5d), or periods of an exchange calendar.

A longer bar opens with its first session, closes with its last and is stamped with it: that is when its
values are known. Only whole ones are made. A group of counted sessions is whole when it has all of them; a
week, fortnight or month when no session of the exchange calendar is missing before its first bar (where a
segment begins) or after its last (where one ends). Between the two, what the market or the file left out
only makes a bar of fewer sessions. No bar spans two segments, and the bars of a prefix are a prefix of the
bars. Closures that nobody foresaw are in the calendar: the week of 2001-09-10 ends on the 10th.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.features.exchange import calendar_sessions
from finscale.features.segments import segment_ids, segment_starts
from finscale.features.timescales import TIMESCALES, Timescale, TimescaleRow

__all__ = ["period_bounds", "period_ids", "resample_bars"]

_MONDAY = np.datetime64("1970-01-05", "D")  # the anchor: fortnights do not depend on where a file begins
_WEEKS = {"week": 1, "fortnight": 2}
_HOW = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


def resample_bars(
    bars: pd.DataFrame, timescale: Timescale, *, calendar: str = "XNYS"
) -> tuple[pd.DataFrame, int]:
    """Make the whole bars of a timescale.

    Parameters
    ----------
    bars : DataFrame
        Canonical daily bars, of one instrument or a panel; (n_rows, ...).
    timescale : str
        A timescale of several sessions.
    calendar : str
        Name in exchange_calendars, for weekly, 2wk and monthly.

    Returns
    -------
    bars : DataFrame
        Open first, high max, low min, close last, volume sum, vix last.
    n_dropped : int
        Sessions that belong to no whole bar.

    Raises
    ------
    FinscaleError
        When the calendar is not known, or not for these dates.
    """
    segments = segment_ids(bars.index, timescale=timescale)
    days = bars.index.get_level_values(-1).to_numpy(dtype="datetime64[D]")
    row = TIMESCALES[timescale]
    groups = _groups(segments, days, row)
    whole = (
        _whole_counts(groups, row) if row.period is None else _whole_periods(segments, days, row, calendar)
    )
    return _aggregate(bars[whole], groups[whole]), int((~whole).sum())


def _groups(
    segments: NDArray[np.int64], days: NDArray[np.datetime64], row: TimescaleRow
) -> NDArray[np.int64]:
    """Number the longer bars in the order of the rows, those that are not whole among them."""
    if row.period is not None:
        inner = period_ids(days, row.period)
    else:
        assert row.n_sessions is not None
        inner = (np.arange(len(days)) - segment_starts(segments)) // row.n_sessions
    begins = np.zeros(len(days), dtype=np.bool_)
    begins[1:] = (np.diff(segments) != 0) | (np.diff(inner) != 0)
    return np.cumsum(begins, dtype=np.int64)


def _whole_counts(groups: NDArray[np.int64], row: TimescaleRow) -> NDArray[np.bool_]:
    return np.bincount(groups)[groups] == row.n_sessions


def period_ids(days: NDArray[np.datetime64], period: str) -> NDArray[np.int64]:
    """Number weeks (from Monday), fortnights or months; (n_rows,) dates to (n_rows,).

    Examples
    --------
    >>> period_ids(np.array(["1970-01-11", "1970-01-12"], dtype="datetime64[D]"), "week")
    array([0, 1])
    """
    if period == "month":
        return days.astype("datetime64[M]").astype(np.int64)
    return (days - _MONDAY).astype(np.int64) // (7 * _WEEKS[period])


def period_bounds(
    ids: NDArray[np.int64], period: str
) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
    """Return the first calendar days of periods, and of the periods after them."""
    if period == "month":
        months = ids.astype("datetime64[M]")
        return months.astype("datetime64[D]"), (months + 1).astype("datetime64[D]")
    n_days = 7 * _WEEKS[period]
    begins = _MONDAY + (ids * n_days).astype("timedelta64[D]")
    return begins, begins + np.timedelta64(n_days, "D")


def _whole_periods(
    segments: NDArray[np.int64], days: NDArray[np.datetime64], row: TimescaleRow, calendar: str
) -> NDArray[np.bool_]:
    """Whether the period of each row misses no session at the edge of its segment."""
    assert row.period is not None
    ids = period_ids(days, row.period)
    first = segment_starts(segments)
    last = len(days) - 1 - segment_starts(segments[::-1])[::-1]
    begins, ends = period_bounds(ids, row.period)
    sessions = calendar_sessions(calendar, begins.min(), ends.max())
    early = np.searchsorted(sessions, days[first]) > np.searchsorted(sessions, begins[first])
    late = np.searchsorted(sessions, ends[last]) > np.searchsorted(sessions, days[last], side="right")
    return ~((early & (ids == ids[first])) | (late & (ids == ids[last])))


def _aggregate(bars: pd.DataFrame, groups: NDArray[np.int64]) -> pd.DataFrame:
    grouped = bars.groupby(groups, sort=False)
    columns = [column for column in bars if column in _HOW]
    longer = grouped.agg({column: _HOW[column] for column in columns})
    last = np.flatnonzero(np.diff(groups, append=-1))
    longer.index = bars.index[last]
    if "vix" in bars:
        longer["vix"] = bars["vix"].to_numpy()[last]
    longer.attrs = dict(bars.attrs)
    return longer[list(bars.columns)]
