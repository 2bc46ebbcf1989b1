"""Dates and times as somebody else wrote them, read as days or as instants.

A daily table names days: midnight on every row, whatever the offset beside it. Any other time of day makes
the table intraday, and then each row is an instant: a time with an offset is one already, a time without
needs the timezone it was written in.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault, raise_faults
from finscale.datasets.sources.source import BarsError

__all__ = ["WrittenTimes", "in_utc", "read_times"]

_OFFSET = r"(\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(?:Z|UTC|[+-]\d\d:?\d\d)$"
_SHOWN = 3


class WrittenTimes(NamedTuple):
    """A column of times.

    Attributes
    ----------
    local : DatetimeIndex
        As the clock showed them; no timezone.
    instants : DatetimeIndex or None
        In UTC, where the table says the offset.
    """

    local: pd.DatetimeIndex
    instants: pd.DatetimeIndex | None

    @property
    def are_days(self) -> bool:
        """Whether every row is a day and nothing finer."""
        times = self.local.dropna()
        return bool((times == times.normalize()).all())


def read_times(values: pd.Series, *, subject: str) -> WrittenTimes:
    """Read dates, times, or texts of either.

    Raises
    ------
    BarsError
        When a value is neither.
    """
    if pd.api.types.is_numeric_dtype(values):
        values = values.astype("Int64").astype("string")
    try:
        return _read(values)
    except (ValueError, TypeError, pd.errors.OutOfBoundsDatetime) as error:
        reason = str(error).partition(". ")[0]
        raise BarsError(subject, "hold dates", reason, "write 2020-01-31") from None


def _read(values: pd.Series) -> WrittenTimes:
    try:
        times = pd.DatetimeIndex(pd.to_datetime(values))
    except ValueError:
        if pd.api.types.is_string_dtype(values):
            return _of_several_offsets(values.astype("string").str.strip())
        raise
    return WrittenTimes(times.tz_localize(None), None if times.tz is None else times.tz_convert("UTC"))


def _of_several_offsets(texts: pd.Series) -> WrittenTimes:
    """Read texts of summer and winter, which pandas takes only as instants: here days matter as well."""
    bare = texts.str.replace(_OFFSET, r"\1", regex=True)
    local = pd.DatetimeIndex(pd.to_datetime(bare))
    n_offsets, n_times = int((bare != texts).sum()), int(texts.notna().sum())
    if n_offsets not in (0, n_times):
        raise ValueError(f"{n_offsets} of {n_times} rows with an offset from UTC")
    return WrittenTimes(local, pd.DatetimeIndex(pd.to_datetime(texts, utc=True)) if n_offsets else None)


def in_utc(local: pd.DatetimeIndex, *, timezone: str, subject: str) -> pd.DatetimeIndex:
    """Return local times as instants.

    An hour that the clock shows twice (the end of summer time) is told apart by the order of its rows, where
    both passes are there.

    Raises
    ------
    BarsError
        For local times that never were or that could be either of two instants; it names the first.
    """
    passes = _passes(local, timezone)
    shown = local.tz_localize(timezone, ambiguous=passes.is_first, nonexistent="NaT")
    never = local[shown.isna()].dropna()
    raise_faults(_clock_changes(never, local[passes.undecided], timezone=timezone, subject=subject))
    return local.tz_localize(timezone, ambiguous=passes.is_first).tz_convert("UTC")


class _Passes(NamedTuple):
    """Rows, (n_rows,), that are summer time where the clock showed the hour twice; rows that are neither."""

    is_first: NDArray[np.bool_]
    undecided: NDArray[np.bool_]


def _passes(local: pd.DatetimeIndex, timezone: str) -> _Passes:
    """Tell the two passes apart: on each day the rows go back in time once.

    (The ``infer`` of pandas takes neighbouring rows of two years for one day, and the second for a repeat.)
    """
    found = _Passes(np.ones(len(local), dtype=np.bool_), np.zeros(len(local), dtype=np.bool_))
    once = local.tz_localize(timezone, ambiguous="NaT", nonexistent="shift_forward")
    twice = np.flatnonzero(np.asarray(once.isna()) & ~np.asarray(local.isna()))
    days = local[twice].normalize()
    for day in days.unique():
        rows = twice[days == day]
        backwards = np.flatnonzero(np.diff(local[rows].asi8) <= 0)
        if len(backwards) == 1:
            found.is_first[rows[backwards[0] + 1 :]] = False
        else:
            found.undecided[rows] = True
    return found


def _clock_changes(
    never: pd.DatetimeIndex, undecided: pd.DatetimeIndex, *, timezone: str, subject: str
) -> Iterator[Fault]:
    if len(never):
        rule = f"hold times that the clocks of {timezone} showed"
        remedy = "is it another timezone? if so set timezone:, else drop these rows"
        yield BarsError(subject, rule, _shown(never), remedy)
    if len(undecided):
        rule = f"tell apart the hour that the clocks of {timezone} showed twice"
        remedy = (
            "give both passes in order, write the times in UTC or with their offset "
            "(2020-10-25 01:30:00+01:00), or drop these rows"
        )
        yield BarsError(subject, rule, _shown(undecided), remedy)


def _shown(times: pd.DatetimeIndex) -> str:
    first = ", ".join(str(time) for time in times[:_SHOWN])
    tail = ", ..." if len(times) > _SHOWN else ""
    return f"{len(times)} row{'s' if len(times) > 1 else ''} ({first}{tail})"
