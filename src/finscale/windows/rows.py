"""Where each feature row stands: its bar, instrument, stretch of time and session.

n_rows feature rows. A *segment* is a stretch of one instrument without a gap; nothing crosses its ends.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.features.segments import segment_starts

__all__ = ["Rows", "are_sequences", "has_sessions", "place_rows"]


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of each feature row besides its features.

    Attributes
    ----------
    bars : int64 array (n_rows,)
        Place of the row in the table of bars.
    segments : int64 array (n_rows,)
        Number of its segment; increases along the rows.
    instruments : int32 array (n_rows,)
        Code into ``names``; rows of one instrument stand together.
    dates, sessions : datetime64[ns] array (n_rows,)
        Instant (UTC) or session of the row, and the trading day it belongs to. Of sequences, which share no
        clock: the position, and the sequence, in seconds since 1970.
    slots : int32 array (n_rows,)
        Place in its session; 0 where bars are not intraday.
    context_starts : int64 array (n_rows,)
        First feature row that a context ending here may show.
    names : tuple of str
        Instruments; one empty name where the table is no panel.
    """

    bars: NDArray[np.int64]
    segments: NDArray[np.int64]
    instruments: NDArray[np.int32]
    dates: NDArray[np.datetime64]
    sessions: NDArray[np.datetime64]
    slots: NDArray[np.int32]
    context_starts: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.bars)


def has_sessions(bars: pd.DataFrame) -> bool:
    """Whether the bars say to which session they belong, as intraday bars do."""
    return {"session", "slot"} <= set(bars.columns)


def are_sequences(index: pd.Index) -> bool:
    """Whether rows are items of sequences, which have positions and share no clock."""
    return index.names[-1] == "position"


def place_rows(
    index: pd.Index,
    bars: pd.DataFrame,
    *,
    segments: NDArray[np.int64],
    context_reach: Literal["series", "session"],
) -> Rows:
    """Find the rows of a feature table among its bars, whose ``segments`` are given (n_bars,).

    Raises
    ------
    Fault
        When the rows are not the last bars of each segment, every one of them.
    """
    positions = _positions(index, bars.index, segments)
    instruments, names = _instruments(index)
    dates = _utc(index.get_level_values(-1))
    sessions, slots = dates, np.zeros(len(index), dtype=np.int32)
    if has_sessions(bars):
        sessions = bars["session"].to_numpy(dtype="datetime64[ns]")[positions]
        slots = bars["slot"].to_numpy(dtype=np.int32)[positions]
    starts = segment_starts(segments[positions])
    if are_sequences(index):
        sessions = instruments.astype("datetime64[s]").astype("datetime64[ns]")
    if context_reach == "session":
        starts = np.maximum(starts, _session_starts(sessions))
    return Rows(positions, segments[positions], instruments, dates, sessions, slots, starts, names)


def _positions(index: pd.Index, bars: pd.Index, segments: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the bars; each is followed by the next one, or is the last of its segment."""
    found = bars.get_indexer(index).astype(np.int64)
    ends = np.ones(len(bars), dtype=np.bool_)
    ends[:-1] = segments[1:] != segments[:-1]
    later = np.append(found[1:], len(bars))
    complete = (found >= 0) & (later > found) & ((later == found + 1) | ends[found])
    if len(index) == 0 or not complete.all():
        rule = "cover the last bars of each uninterrupted stretch, each of them"
        raise Fault("features", rule, f"{len(index)} other rows", "compute the features from these bars")
    return found


def _instruments(index: pd.Index) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Codes in the order in which the instruments appear, and their names."""
    if not isinstance(index, pd.MultiIndex):
        return np.zeros(len(index), dtype=np.int32), ("",)
    codes, levels = pd.factorize(index.codes[0])
    if (np.diff(codes) < 0).any():
        rule, remedy = "stand together, instrument by instrument", "sort the bars by instrument"
        raise Fault("rows of a panel", rule, "instruments in turns", remedy)
    return codes.astype(np.int32), tuple(str(name) for name in index.levels[0][levels])


def _utc(times: pd.Index) -> NDArray[np.datetime64]:
    stamps = pd.DatetimeIndex(times)
    naive = stamps if stamps.tz is None else stamps.tz_convert(None)
    return naive.to_numpy(dtype="datetime64[ns]")


def _session_starts(sessions: NDArray[np.datetime64]) -> NDArray[np.int64]:
    begins = np.ones(len(sessions), dtype=np.bool_)
    begins[1:] = sessions[1:] != sessions[:-1]
    return np.maximum.accumulate(np.where(begins, np.arange(len(sessions)), 0))
