"""Exchange calendars by name: the days on which bars may lie. Loaded only when one is asked for."""

from functools import lru_cache
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator

from finscale.core.errors import Fault, suggest

__all__ = ["CalendarName", "calendar_sessions", "sessions_from"]

_MOST_CLOSED = 1.6  # calendar days per session, holidays included
_LONGEST_CLOSURE_DAYS = 30


def _known(name: str) -> str:
    import exchange_calendars

    known = exchange_calendars.get_calendar_names()
    if name not in known:
        near = suggest(name, known)
        remedy = near if near.startswith("did") else "try XNYS, XLON, XTKS, XETR or 24/7"
        raise Fault("calendar", "be an exchange of exchange_calendars", name, remedy)
    return name


CalendarName = Annotated[str, AfterValidator(_known)]
"""A calendar of the package exchange_calendars: ``XNYS``, ``XLON``, ``24/7``."""


def sessions_from(start: str, n_sessions: int, *, calendar: str) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Return the first sessions of an exchange from a day on, and those among them that close early.

    Examples
    --------
    >>> sessions_from("2024-07-03", 2, calendar="XNYS")[0].strftime("%a %d").tolist()
    ['Wed 03', 'Fri 05']
    """
    import exchange_calendars

    first = pd.Timestamp(start)
    last = first + pd.Timedelta(days=round(n_sessions * _MOST_CLOSED) + _LONGEST_CLOSURE_DAYS)
    found = exchange_calendars.get_calendar(calendar, start=first, end=last)
    days = found.sessions[:n_sessions].rename("session").as_unit("ns")
    return days, days[days.isin(found.early_closes)]


@lru_cache(maxsize=16)
def calendar_sessions(name: str, begin: np.datetime64, end: np.datetime64) -> NDArray[np.datetime64]:
    """Return the sessions of an exchange from ``begin`` to before ``end``, as datetime64[D].

    Raises
    ------
    FinscaleError
        When the exchange is not known, or its holidays not for these years.
    """
    import exchange_calendars

    _known(name)
    try:
        found = exchange_calendars.get_calendar(name, start=begin, end=end - 1)
    except ValueError as error:
        remedy = "choose another calendar, or data.start and data.end inside its years"
        raise Fault("calendar", f"cover {begin} to {end}", str(error), remedy) from None
    return found.sessions.to_numpy(dtype="datetime64[D]")
