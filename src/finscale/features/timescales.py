"""Timescales: the size of the bar that a model sees."""

from typing import Literal, NamedTuple

__all__ = ["TIMESCALES", "Timescale", "TimescaleRow"]

Timescale = Literal["daily", "2d", "3d", "5d", "weekly", "2wk", "monthly", "intraday"]


class TimescaleRow(NamedTuple):
    """What a timescale means.

    Attributes
    ----------
    max_gap_days : int
        Calendar days between two bars beyond which the series is cut into segments.
    n_sessions : int or None
        Sessions per bar, where they are counted.
    period : str or None
        ``week``, ``fortnight`` or ``month``, where bars end on the exchange calendar's boundaries.
    """

    max_gap_days: int
    n_sessions: int | None = None
    period: Literal["week", "fortnight", "month"] | None = None


TIMESCALES: dict[Timescale, TimescaleRow] = {
    "daily": TimescaleRow(10, n_sessions=1),
    "2d": TimescaleRow(14, n_sessions=2),
    "3d": TimescaleRow(16, n_sessions=3),
    "5d": TimescaleRow(18, n_sessions=5),
    "weekly": TimescaleRow(20, period="week"),
    "2wk": TimescaleRow(28, period="fortnight"),
    "monthly": TimescaleRow(45, period="month"),
    "intraday": TimescaleRow(10),
}
