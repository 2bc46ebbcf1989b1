"""Weekly indicators, shown from the moment their week is complete."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.features.arithmetic import Vector
from finscale.features.indicators import Indicator, bar_column

__all__ = ["on_completed_weeks", "week_numbers"]

_Aggregate = Callable[[Vector, NDArray[np.intp]], Vector]

_AGGREGATES: dict[str, _Aggregate] = {
    "open": lambda values, starts: values[starts],
    "high": np.maximum.reduceat,
    "low": np.minimum.reduceat,
    "close": lambda values, starts: values[np.r_[starts[1:], len(values)] - 1],
    "volume": np.add.reduceat,
}


def week_numbers(bars: pd.DataFrame) -> NDArray[np.int64]:
    """Number the weeks (Monday to Sunday) in which there was a bar, from 0, for each bar; (n_rows,).

    The column ``session`` decides the week where there is one (intraday), else the index.
    """
    times = pd.DatetimeIndex(bars.get("session", bars.index))
    days = times.to_numpy(dtype="datetime64[ns]").astype("datetime64[D]").astype(np.int64)
    weeks = (days + 3) // 7  # 1970-01-01 was a Thursday
    return np.cumsum(np.r_[False, weeks[1:] != weeks[:-1]], dtype=np.int64)


def on_completed_weeks(bars: pd.DataFrame, *, indicator: Indicator) -> Vector:
    """Compute an indicator on weekly bars and show each bar the last week completed before it.

    A week is known from the first bar after it, whichever weekday that is: nothing of the running week is
    seen, and after a holiday the newest finished week is.
    """
    numbers = week_numbers(bars)
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    columns = [name for name in _AGGREGATES if name in bars]
    weekly = pd.DataFrame(
        {name: _AGGREGATES[name](bar_column(bars, column=name), starts) for name in columns}
    )
    known = np.r_[np.nan, indicator(weekly)]
    return known[numbers]
