"""Bars, any series, or sequences, in the user's own CSV or Parquet file."""

import hashlib
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import AfterValidator, Field, field_validator, model_validator

from finscale.core.errors import Fault, raise_faults, suggest
from finscale.core.hashing import content_hash
from finscale.datasets.sources.sequences import coded_columns, in_sequences
from finscale.datasets.sources.source import BarsError, Source, Told
from finscale.datasets.sources.table import COLUMN_NAMES, ForeignTable, read_table
from finscale.datasets.sources.times import WrittenTimes, in_utc, read_times
from finscale.features.bars import BAR_COLUMNS, PRICES
from finscale.features.exchange import CalendarName
from finscale.features.sessions import SessionRule

__all__ = ["FileSource", "adjusted"]

_SESSIONS = "{bars_per_session: 78, opens_at: '09:30', timezone: America/New_York}"


def _as_timezone(name: str) -> str:
    if name not in (known := zoneinfo.available_timezones()):
        raise Fault("timezone", "be a name of the IANA database", name, suggest(name, known | {"UTC"}))
    return name


class FileSource(Source):
    """A ``.csv``, ``.csv.gz``, ``.parquet`` or ``.pq`` file.

    Attributes
    ----------
    path : str
        Where it lies.
    columns : dict
        Canonical name (``close``, ``adj_close``) to the file's name, where that is not obvious. Names
        are compared without regard to case, spaces and underscores.
    date_column : str, optional
        The file's name of the column of dates or times, where that is not obvious.
    adjust : str
        ``none`` takes the prices as they are. ``split_dividend`` multiplies open, high, low and close by
        adjusted close / close. The volume stays as it is in the file either way: where the file counts
        the shares of each day, it jumps at a split.
    timezone : str, optional
        Of the times in an intraday file that carry no UTC offset.
    sessions : SessionRule, optional
        How an intraday file is cut into trading days; needed there.
    calendar : str
        The exchange calendar on which weeks and months are counted.
    channels : tuple of str
        Columns of a table that holds no bars: a series, of which these are taken as they are.
    categories : tuple of str
        Columns of a series that hold labels, which become codes counted from 0.
    sequence, position : str, optional
        Columns of a series that is made of sequences without a clock: whose item a row is, and which one.
    """

    kind: Literal["file"] = "file"
    path: str
    columns: dict[str, str] = Field(default_factory=dict)
    date_column: str | None = None
    adjust: Literal["none", "split_dividend"] = "none"
    timezone: Annotated[str, AfterValidator(_as_timezone)] | None = None
    sessions: SessionRule | None = None
    calendar: CalendarName = "XNYS"
    channels: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    sequence: str | None = None
    position: str | None = None

    @field_validator("columns")
    @classmethod
    def _canonical_keys(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            if name not in COLUMN_NAMES:
                raise Fault(f"columns.{name}", "be a canonical column", name, suggest(name, COLUMN_NAMES))
        return columns

    @model_validator(mode="after")
    def _a_series_is_taken_as_it_is(self) -> "FileSource":
        raise_faults([*self._unread(), *self._half_a_sequence()])
        return self

    def _unread(self) -> Iterator[Fault]:
        unused = self.model_fields_set & {"columns", "adjust", "timezone", "sessions", "calendar"}
        subject = "channels" if self.channels else "categories"
        if self._taken and unused:
            rule = "stand without " + ", ".join(sorted(unused))
            got = list(getattr(self, subject))
            yield Fault(subject, rule, got, "remove them: a series has no bars to read")
        if len(set(self._taken)) < len(self._taken):
            yield Fault("categories", "name other columns than channels, each once", list(self.categories))

    def _half_a_sequence(self) -> Iterator[Fault]:
        given = {name: getattr(self, name) for name in ("sequence", "position")}
        if None in given.values() and any(given.values()):
            yield Fault("sequence and position", "be given together", str(given), "name both columns")
        elif self.sequence and not self._taken:
            remedy = "name the columns of an item in channels, categories or both"
            yield Fault("sequence", "stand beside channels or categories", self.sequence, remedy)
        elif self.sequence and self.date_column:
            remedy = "remove one of them: the items of a sequence have positions, not dates"
            yield Fault("date_column", "be left out beside sequence", self.date_column, remedy)

    @property
    def _taken(self) -> tuple[str, ...]:
        """The columns of a series; none where the file holds bars."""
        return (*self.channels, *self.categories)

    def load(self) -> pd.DataFrame:
        """Return the canonical columns that the file has, or the columns asked for."""
        table = read_table(Path(self.path))
        return self._series(table) if self._taken else self._bars(table)

    def exists(self) -> bool:
        """Return whether there is a file of that name."""
        return Path(self.path).is_file()

    def fingerprint(self) -> str:
        """Return the identity of the source and of the file's content."""
        content = hashlib.sha256(Path(self.path).read_bytes()).hexdigest() if self.exists() else ""
        return content_hash(self, content)

    def _times(self, table: ForeignTable) -> WrittenTimes:
        dates = table.dates(self.date_column)
        return read_times(dates, subject=f"{self.path}.{dates.name}")

    def _series(self, table: ForeignTable) -> pd.DataFrame:
        found = {name: table.find(name, name) for name in self.channels}
        numbers = {name: table.numbers(str(column), name=name) for name, column in found.items()}
        codes, vocabularies = coded_columns(table, self.categories)
        series = pd.DataFrame({**numbers, **codes})
        if self.sequence and self.position:
            series = in_sequences(series, table, sequence=self.sequence, position=self.position)
        else:
            times = self._times(table)
            series.index = (times.local if times.instants is None else times.instants).rename("session")
        series.attrs = {**self._origin, "adjustments": "as in the file", "kind": "series"}
        if vocabularies:
            series.attrs["vocabularies"] = vocabularies
        return series

    def _bars(self, table: ForeignTable) -> pd.DataFrame:
        adjusts = self.adjust == "split_dividend"
        needed, hint = ((*PRICES, "adj_close"), ", or set adjust: none") if adjusts else (PRICES, "")
        found = table.need(needed, mapping=self.columns, hint=hint)
        raw = pd.DataFrame({name: table.numbers(column, name=name) for name, column in found.items()})
        raw.index = self._index(self._times(table))
        bars = adjusted(raw) if adjusts else raw
        bars = bars[[name for name in BAR_COLUMNS if name in bars]]
        bars.attrs = {**self._origin, "adjustments": self._adjustments(raw), "calendar": self.calendar}
        if self.sessions is not None:
            bars.attrs["sessions"] = self.sessions.model_dump(mode="json")
        return bars

    def _index(self, times: WrittenTimes) -> pd.DatetimeIndex:
        raise_faults(self._misplaced(times))
        if times.are_days:
            return times.local.rename("session")
        if times.instants is not None:
            return times.instants.rename("opened_at")
        return in_utc(times.local, timezone=str(self.timezone), subject=self.path).rename("opened_at")

    def _misplaced(self, times: WrittenTimes) -> Iterator[Fault]:
        """What conf says of sessions and timezones that this file has no use for, or leaves open."""
        if times.are_days:
            for name in ("timezone", "sessions"):
                if getattr(self, name) is not None:
                    rule, remedy = f"be read without {name}", f"remove {name}, or give the times of the bars"
                    yield BarsError(self.path, rule, "days without a time of day", remedy)
            return
        first = next(time for time in times.local.dropna() if time != time.normalize())
        if self.sessions is None:
            remedy = f"add sessions: {_SESSIONS}; if the bars are daily, drop the time of day"
            yield BarsError(self.path, "come with its sessions", f"intraday times ({first})", remedy)
        if times.instants is None and self.timezone is None:
            rule, got = "come with its timezone", f"times without an offset ({first})"
            yield BarsError(self.path, rule, got, "add timezone: UTC, or whatever the file's clock showed")
        if times.instants is not None and self.timezone is not None:
            rule, got = "be read without timezone", f"times that carry their offset from UTC ({first})"
            yield BarsError(self.path, rule, got, "remove timezone")

    def _adjustments(self, raw: pd.DataFrame) -> str:
        if self.adjust == "split_dividend":
            return "splits and dividends, by the file's adjusted close; volume as in the file"
        return "as in the file; its adjusted close is not used" if "adj_close" in raw else "as in the file"

    @property
    def _origin(self) -> Told:
        return {"source": self.kind, "symbol": Path(self.path).name}


def adjusted(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars whose prices are scaled by ``adj_close / close``; the volume is left alone."""
    factor = bars["adj_close"] / bars["close"]
    return bars.assign(**{name: bars[name] * factor for name in PRICES})
