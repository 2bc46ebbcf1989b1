"""Segments: the stretches of a table across which nothing may be computed, predicted or windowed.

A segment ends where the instrument changes or where the step to the next bar is longer than its timescale
allows (`TIMESCALES`): a history that was interrupted for years is two histories.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault, suggest
from finscale.features.timescales import TIMESCALES

__all__ = ["segment_ids", "segment_starts"]


def segment_ids(index: pd.Index, *, timescale: str) -> NDArray[np.int64]:
    """Number the segments of a table 0, 1, ... in the order of its rows.

    Parameters
    ----------
    index : DatetimeIndex or MultiIndex (instrument, time)
        Of a canonical table; (n_rows,).
    timescale : str
        One of `TIMESCALES`.

    Returns
    -------
    array of int64, (n_rows,)

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2020-01-02", "2020-01-03", "2021-01-04"])
    >>> segment_ids(days, timescale="daily")
    array([0, 0, 1])
    """
    if timescale not in TIMESCALES:
        raise Fault("timescale", "be known", timescale, suggest(timescale, TIMESCALES))
    longest = np.timedelta64(TIMESCALES[timescale].max_gap_days, "D")
    times = pd.DatetimeIndex(index.get_level_values(-1)).to_numpy(dtype="datetime64[ns]")
    begins = np.zeros(len(index), dtype=np.bool_)
    begins[1:] = np.diff(times) > longest
    if isinstance(index, pd.MultiIndex):
        codes = index.codes[0]
        begins[1:] |= codes[1:] != codes[:-1]
    return np.cumsum(begins, dtype=np.int64)


def segment_starts(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row the first row of its segment; (n_rows,) to (n_rows,).

    Examples
    --------
    >>> segment_starts(np.array([0, 0, 1, 1, 1]))
    array([0, 0, 2, 2, 2])
    """
    rows = np.arange(len(ids), dtype=np.int64)
    begins = np.ones(len(ids), dtype=np.bool_)
    begins[1:] = ids[1:] != ids[:-1]
    return np.maximum.accumulate(np.where(begins, rows, 0))
