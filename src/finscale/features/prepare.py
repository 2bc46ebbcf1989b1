"""The pipeline's door: raw loaded bars in, canonical bars at the experiment's timescale out, or every fault.

What a reader should know about the bars afterwards is added to ``attrs``: ``notes``, ``warnings``,
``timescale``, and of intraday bars ``bar_interval_s``, the length of one in seconds.
"""

import datetime
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault, FinscaleError, raise_faults, suggest
from finscale.features.bars import bar_faults, canonical_bars, instruments_of, kind_of
from finscale.features.jumps import jump_warning, split_ratios
from finscale.features.resample import resample_bars
from finscale.features.sessions import SessionRule, bar_interval, interval_faults, place_bars
from finscale.features.timescales import TIMESCALES, Timescale

__all__ = ["prepare_bars"]

_EXAMPLE = 'sessions: {bars_per_session: 288, opens_at: "17:00", timezone: America/New_York}'


def prepare_bars(
    bars: pd.DataFrame,
    *,
    name: str,
    timescale: str = "daily",
    start: str | None = None,
    end: str | None = None,
) -> pd.DataFrame:
    """Check the bars, place them in sessions, trim and resample them.

    Parameters
    ----------
    bars : DataFrame
        As loaded. Of its ``attrs`` are read: ``kind``; ``sessions``, a `SessionRule` as a dictionary, which
        intraday bars need; ``calendar``, the exchange whose weeks and months count (XNYS).
    name : str
        How messages call the table.
    timescale : str
        One of `TIMESCALES`: daily bars make all but ``intraday``. A series is taken as it is.
    start, end : str, optional
        First and last session to keep, ISO dates; sessions outside do not enter longer bars.

    Returns
    -------
    DataFrame
        Canonical bars. A volume that is zero throughout is left out, with a note. Daily bars that are
        canonical already come out as they are at ``daily``.

    Raises
    ------
    FinscaleError
        With every fault of the settings and of the bars at once.
    """
    settings = [
        *_timescale_faults(bars, timescale),
        *_date_faults(start, end),
        *_position_faults(bars, start, end),
        *_rule_faults(bars, name),
    ]
    raise_faults([*settings, *bar_faults(bars, name=name)])
    checked = _told(canonical_bars(bars), timescale=timescale)
    if kind_of(checked) == "series":
        return _trimmed(checked, start, end, name)
    if kind_of(checked) == "intraday":
        checked = _with_sessions(checked, name)
    checked = _without_empty_volume(_trimmed(checked, start, end, name))
    checked = _told(checked, warnings=_jump_warnings(checked))
    return _at_timescale(checked, cast(Timescale, timescale), name)


def _timescale_faults(bars: pd.DataFrame, timescale: str) -> Iterator[Fault]:
    kind = kind_of(bars)
    if timescale not in TIMESCALES:
        yield Fault("data.timescale", "be known", timescale, suggest(timescale, TIMESCALES))
    elif kind == "intraday" and timescale != "intraday":
        yield Fault(
            "data.timescale", "be intraday for intraday bars", timescale, "set data.timescale=intraday"
        )
    elif kind == "daily" and timescale == "intraday" and _are_days(bars):
        yield Fault(
            "data.timescale", "be daily or longer for daily bars", timescale, "set data.timescale=daily"
        )
    elif kind == "series" and timescale not in ("daily", "intraday"):
        remedy = "set data.timescale=daily: a series is taken as it is"
        yield Fault("data.timescale", "leave a series its own steps", timescale, remedy)


def _are_days(bars: pd.DataFrame) -> bool:
    times = bars.index.get_level_values(-1)
    return isinstance(times, pd.DatetimeIndex) and bool((times == times.normalize()).all())


def _date_faults(start: str | None, end: str | None) -> Iterator[Fault]:
    given = {"data.start": start, "data.end": end}
    bad = {subject: text for subject, text in given.items() if text is not None and not _is_date(text)}
    for subject, text in bad.items():
        yield Fault(subject, "be a date", text, "write it like 2010-01-31")
    if start and end and not bad and start > end:
        yield Fault("data.end", f"be on or after data.start={start}", end, "swap the two dates")


def _position_faults(bars: pd.DataFrame, start: str | None, end: str | None) -> Iterator[Fault]:
    if bars.index.names[-1] == "position":
        for subject, text in {"data.start": start, "data.end": end}.items():
            if text is not None:
                yield Fault(subject, "be left out of sequences, which have no dates", text, "remove it")


def _is_date(text: str) -> bool:
    try:
        return str(datetime.date.fromisoformat(text)) == text
    except (TypeError, ValueError):
        return False


def _rule_faults(bars: pd.DataFrame, name: str) -> Iterator[FinscaleError]:
    if kind_of(bars) != "intraday":
        return
    if not bars.attrs.get("sessions"):
        yield Fault(
            f"{name}.sessions", "be given for intraday bars", "nothing", f"add {_EXAMPLE} to the source"
        )
        return
    try:
        SessionRule.read(bars.attrs["sessions"], subject=f"{name}.sessions")
    except FinscaleError as error:
        yield error


def _told(
    bars: pd.DataFrame, *, notes: Sequence[str] = (), warnings: Sequence[str] = (), **facts: Any
) -> pd.DataFrame:
    """Return the bars with more said about them; the table handed in is not touched."""
    told = bars.copy(deep=False)
    told.attrs.update(facts)
    for key, added in {"notes": notes, "warnings": warnings}.items():
        told.attrs[key] = [*bars.attrs.get(key, ()), *added]
    return told


def _parts(bars: pd.DataFrame) -> Iterator[tuple[str, slice]]:
    """Yield each instrument and its rows; a single one has no name."""
    if not isinstance(bars.index, pd.MultiIndex):
        yield "", slice(0, len(bars))
        return
    codes = bars.index.codes[0]
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1), len(bars)]
    for instrument, begin, stop in zip(instruments_of(bars), edges[:-1], edges[1:], strict=True):
        yield instrument, slice(int(begin), int(stop))


def _times(bars: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(bars.index.get_level_values(-1))


def _with_sessions(bars: pd.DataFrame, name: str) -> pd.DataFrame:
    rule = SessionRule.read(bars.attrs["sessions"])
    times = _times(bars)
    parts = [(f"{name}.{instrument}" if instrument else name, rows) for instrument, rows in _parts(bars)]
    steps = [np.diff(times[rows].asi8) for _, rows in parts]
    interval = bar_interval(np.concatenate(steps))
    if interval is None:
        raise Fault(name, "have two bars to tell their interval", "1 bar", "give a longer history")
    placed = place_bars(times, rule, interval=interval)
    faults = [
        *rule.faults(interval),
        *(
            fault
            for (part, rows), own in zip(parts, steps, strict=True)
            for fault in (
                *interval_faults(bar_interval(own), interval, name=part),
                *placed.part(rows).faults(times[rows], rule, interval, name=part),
            )
        ),
    ]
    raise_faults(faults)
    told = _told(bars, bar_interval_s=int(interval.total_seconds()))
    return told.assign(session=placed.session, slot=placed.slot)


def _trimmed(bars: pd.DataFrame, start: str | None, end: str | None, name: str) -> pd.DataFrame:
    if start is None and end is None:
        return bars
    days = pd.DatetimeIndex(bars["session"]) if kind_of(bars) == "intraday" else _dates(bars)
    kept = np.ones(len(bars), dtype=np.bool_)
    if start is not None:
        kept &= days >= pd.Timestamp(start)
    if end is not None:
        kept &= days <= pd.Timestamp(end)
    raise_faults(_emptied(bars, days, kept, (start, end), name))
    return bars[kept]


def _dates(bars: pd.DataFrame) -> pd.DatetimeIndex:
    return _times(bars).tz_localize(None).normalize()


def _emptied(
    bars: pd.DataFrame,
    days: pd.DatetimeIndex,
    kept: NDArray[np.bool_],
    asked: tuple[str | None, str | None],
    name: str,
) -> Iterator[Fault]:
    span = " ".join(f"{word} {day}" for word, day in zip(("from", "to"), asked, strict=True) if day)
    for instrument, rows in _parts(bars):
        if not kept[rows].any():
            subject = f"{name}.{instrument}" if instrument else name
            got = f"{days[rows][0].date()} to {days[rows][-1].date()}"
            remedy = "change data.start or data.end" + (", or leave the instrument out" if instrument else "")
            yield Fault(subject, f"have bars {span}", got, remedy)


def _without_empty_volume(bars: pd.DataFrame) -> pd.DataFrame:
    if "volume" not in bars:
        return bars
    volume = bars["volume"].to_numpy()
    empty = [instrument for instrument, rows in _parts(bars) if not volume[rows].any()]
    if not empty:
        return bars
    whose = f" of {', '.join(empty)}" if any(empty) else ""
    note = f"the volume{whose} is zero in every bar: treated as absent"
    return _told(bars.drop(columns="volume"), notes=[note])


def _jump_warnings(bars: pd.DataFrame) -> list[str]:
    times, ratios = _times(bars), split_ratios(bars)
    found = [(name, jump_warning(times[rows], ratios[rows])) for name, rows in _parts(bars)]
    return [f"{name}: {warning}" if name else warning for name, warning in found if warning]


def _at_timescale(bars: pd.DataFrame, timescale: Timescale, name: str) -> pd.DataFrame:
    row = TIMESCALES[timescale]
    if row.period is None and row.n_sessions in (None, 1):
        return bars
    longer, n_dropped = resample_bars(bars, timescale, calendar=bars.attrs.get("calendar") or "XNYS")
    left = set(instruments_of(longer)) if instruments_of(bars) else ({""} if len(longer) else set())
    raise_faults(
        Fault(
            f"{name}.{instrument}" if instrument else name,
            f"have the sessions of a whole {timescale} bar",
            f"{rows.stop - rows.start} sessions",
            "give a longer history, or choose a shorter data.timescale",
        )
        for instrument, rows in _parts(bars)
        if instrument not in left
    )
    count = f"{n_dropped} sessions belong" if n_dropped > 1 else "1 session belongs"
    note = f"{count} to no whole {timescale} bar: left out"
    return _told(longer, notes=[note] if n_dropped else [])
