"""Sessions: the trading day that an intraday bar belongs to, and its slot (position) in that day.

A session opens at the same local wall clock every day, so its opening instant moves in UTC with daylight
saving. It is named by its calendar date; one that opens at noon or later carries the *next* date (a bar of
17:00 New York belongs to tomorrow's session, as on currency and futures markets). A slot counts bar
intervals from the opening instant: real time, so a session in which the clock is put forward has fewer
slots, and a half day simply ends early.
"""

from collections.abc import Iterator
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, suggest
from finscale.features.bars import bad_bars

__all__ = ["SessionRule", "Slots", "bar_interval", "interval_faults", "length_words", "place_bars"]

_DAY = pd.Timedelta(days=1)
_LONGEST = pd.Timedelta(hours=25)  # the day on which the clock is put back


class SessionRule(Record):
    """When sessions open, and how many bars they have at most.

    Attributes
    ----------
    bars_per_session : int
        Slots of a whole session: 78 five-minute bars on NYSE, 276 on CME, 288 around the clock.
    opens_at : str
        Local wall clock, ``HH:MM``. From 12:00 on the session carries the next calendar date.
    timezone : str
        IANA name (``America/New_York``).
    """

    bars_per_session: int = Field(ge=1)
    opens_at: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    timezone: str

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        if timezone not in available_timezones():
            remedy = suggest(timezone, available_timezones())
            near = remedy if remedy.startswith("did") else "write it like America/New_York"
            raise Fault("sessions.timezone", "be an IANA time zone", timezone, near)
        return timezone

    @property
    def opening(self) -> pd.Timedelta:
        """Wall clock of the opening after midnight."""
        return pd.Timedelta(f"{self.opens_at}:00")

    @property
    def carry(self) -> pd.Timedelta:
        """What is added to the date of the opening to name the session."""
        return _DAY if self.opening >= _DAY / 2 else pd.Timedelta(0)

    def opening_instants(self, sessions: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Return the UTC instants at which these sessions open; (n,) naive dates to (n,) UTC.

        An opening that the clock skips happens when it has been put forward; one that the clock shows
        twice, the first time.

        Examples
        --------
        >>> rule = SessionRule(bars_per_session=288, opens_at="17:00", timezone="America/New_York")
        >>> rule.opening_instants(pd.DatetimeIndex(["2020-03-09"]))[0]
        Timestamp('2020-03-08 21:00:00+0000', tz='UTC')
        """
        wall = sessions - self.carry + self.opening
        first = np.ones(len(wall), dtype=np.bool_)
        local = wall.tz_localize(ZoneInfo(self.timezone), ambiguous=first, nonexistent="shift_forward")
        return local.tz_convert("UTC").as_unit("ns")

    def faults(self, interval: pd.Timedelta) -> Iterator[Fault]:
        """Yield a fault when this many bars do not fit a day."""
        if self.bars_per_session * interval > _LONGEST:
            got = f"{self.bars_per_session} bars of {length_words(interval)}"
            remedy = f"set sessions.bars_per_session: {_DAY // interval} or less"
            yield Fault("sessions.bars_per_session", "fit a day", got, remedy)


class Slots(NamedTuple):
    """Where bars stand in their sessions.

    Attributes
    ----------
    session : DatetimeIndex, (n_rows,)
        Naive dates, datetime64[ns].
    slot : int32 array (n_rows,)
        Whole bar intervals since the session opened.
    on_grid : boolean array (n_rows,)
        False where the bar opens between two slots.
    """

    session: pd.DatetimeIndex
    slot: NDArray[np.int32]
    on_grid: NDArray[np.bool_]

    def part(self, rows: slice) -> "Slots":
        """Return the same of some rows."""
        return Slots(self.session[rows], self.slot[rows], self.on_grid[rows])

    def faults(
        self, opened_at: pd.DatetimeIndex, rule: SessionRule, interval: pd.Timedelta, *, name: str
    ) -> Iterator[Fault]:
        """Yield what is wrong with bars off the grid, or after the last slot."""
        off, late = ~self.on_grid, self.slot >= rule.bars_per_session
        opening = f"{rule.opens_at} {rule.timezone}"
        if off.any():
            grid = f"open a whole number of bars of {length_words(interval)} after {opening}"
            remedy = "correct sessions.opens_at or sessions.timezone of the source, or drop these bars"
            yield Fault(f"{name}.opened_at", grid, bad_bars(opened_at, off), remedy)
        if late.any():
            remedy = (
                f"set sessions.bars_per_session: {self.slot.max() + 1}, correct sessions.opens_at or "
                "sessions.timezone, or drop these bars"
            )
            bound = f"open within the {rule.bars_per_session} slots from {opening}"
            yield Fault(f"{name}.opened_at", bound, bad_bars(opened_at, late), remedy)


def bar_interval(steps: NDArray[np.int64]) -> pd.Timedelta | None:
    """Return the most common of the steps between bars, in ns (of several, the shortest); None of none."""
    if not steps.size:
        return None
    lengths, counts = np.unique(steps, return_counts=True)
    return pd.Timedelta(int(lengths[counts.argmax()]), unit="ns")


def interval_faults(own: pd.Timedelta | None, common: pd.Timedelta, *, name: str) -> Iterator[Fault]:
    """Yield a fault for an instrument whose bars are of another length than the panel's."""
    if own is not None and own != common:
        rule = f"have bars of {length_words(common)}, like most of the panel"
        yield Fault(name, rule, f"bars of {length_words(own)}", "give instruments of one bar size")


def length_words(interval: pd.Timedelta) -> str:
    """Say the length of a bar in the largest unit that divides it.

    Examples
    --------
    >>> length_words(pd.Timedelta("5min")), length_words(pd.Timedelta("1h"))
    ('5 minutes', '1 hour')
    """
    seconds = interval.total_seconds()
    units = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
    unit = next((unit for unit, size in units.items() if seconds % size == 0), "second")
    number = seconds / units[unit]
    return f"{number:g} {unit}{'s' if number != 1 else ''}"


def place_bars(opened_at: pd.DatetimeIndex, rule: SessionRule, *, interval: pd.Timedelta) -> Slots:
    """Find session and slot of every bar.

    Parameters
    ----------
    opened_at : DatetimeIndex, (n_rows,)
        UTC instants at which the bars open, in any order.
    interval : Timedelta
        Length of a bar.
    """
    instants = opened_at.as_unit("ns").asi8
    dates = pd.date_range(
        opened_at.min().tz_localize(None).normalize() - 2 * _DAY,
        opened_at.max().tz_localize(None).normalize() + 2 * _DAY,
        unit="ns",
    )
    openings = rule.opening_instants(dates).asi8
    found = np.searchsorted(openings, instants, side="right") - 1
    slot, rest = np.divmod(instants - openings[found], interval.as_unit("ns").value)
    return Slots(dates[found], slot.astype(np.int32), rest == 0)
