"""Several instruments under one another: one table of bars, its rows grouped by instrument."""

from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any, Literal

import pandas as pd
from pydantic import Field, field_validator

from finscale.core.errors import Fault, FinscaleError, raise_faults
from finscale.core.hashing import content_hash
from finscale.datasets.sources.bundled import ArchSource
from finscale.datasets.sources.simulated import SimulatedDailySource, SimulatedIntradaySource
from finscale.datasets.sources.source import BarsError, Source, Told
from finscale.datasets.sources.user_file import FileSource
from finscale.datasets.sources.yahoo import YahooSource

__all__ = ["Member", "PanelSource", "stacked"]

Member = ArchSource | FileSource | YahooSource | SimulatedDailySource | SimulatedIntradaySource


class PanelSource(Source):
    """The bars of several sources over the index ``(instrument, session)`` or ``(instrument, opened_at)``.

    Attributes
    ----------
    members : dict
        Name of each instrument to its source, in the order of the table. Histories may be unequal.
    """

    kind: Literal["panel"] = "panel"
    members: dict[str, Member] = Field(min_length=2)

    @field_validator("members")
    @classmethod
    def _of_one_instrument(cls, members: dict[str, Member]) -> dict[str, Member]:
        for name, member in members.items():
            if isinstance(member, FileSource) and member.sequence:
                rule, remedy = "be left out in a panel", "a table of sequences is a panel by itself"
                raise Fault(f"members.{name}.sequence", rule, member.sequence, remedy)
        return members

    def load(self) -> pd.DataFrame:
        """Return the columns that all members have.

        Raises
        ------
        FinscaleError
            With one line for each member that cannot be loaded.
        """
        loaded: dict[str, pd.DataFrame] = {}
        faults: list[Exception] = []
        for name, member in self.members.items():
            try:
                loaded[name] = member.load()
            except FinscaleError as error:
                faults.append(_of_member(name, error))
        raise_faults(faults)
        return stacked(loaded)

    def exists(self) -> bool:
        """Return whether every member is at hand."""
        return all(member.exists() for member in self.members.values())

    def fingerprint(self) -> str:
        """Return the identity of the members, in their order."""
        return content_hash([[name, member.fingerprint()] for name, member in self.members.items()])


def _of_member(name: str, error: FinscaleError) -> FinscaleError:
    if isinstance(error, Fault):
        return BarsError(f"panel member {name}: {error.subject}", error.rule, error.got, error.remedy)
    return FinscaleError(f"panel member {name}: {error}")


def stacked(members: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Join tables of bars into a panel.

    Parameters
    ----------
    members : mapping of str to DataFrame
        All daily or all intraday, on one calendar.

    Raises
    ------
    FinscaleError
        When they differ in what a panel must share.
    """
    raise_faults(_differences(members))
    shared = reduce(pd.Index.intersection, (bars.columns for bars in members.values()))
    first = next(iter(members.values()))
    columns = [column for column in first.columns if column in shared]
    panel = pd.concat({name: bars[columns] for name, bars in members.items()}, names=["instrument"])
    panel.attrs = _joined(members, columns)
    return panel


def _differences(members: Mapping[str, pd.DataFrame]) -> Iterator[Fault]:
    rules: tuple[tuple[str, Callable[[pd.DataFrame], Any], str], ...] = (
        ("kind of table", lambda bars: bars.attrs.get("kind", "bars"), "leave the series out"),
        ("bar size", lambda bars: bars.index.name, "make one panel of the daily bars, one of the others"),
        ("calendar", lambda bars: bars.attrs.get("calendar"), "set calendar: on the members"),
        ("rule of sessions", lambda bars: bars.attrs.get("sessions"), "make a panel of those that agree"),
    )
    for what, look, remedy in rules:
        found = {name: look(bars) for name, bars in members.items()}
        if any(value != next(iter(found.values())) for value in found.values()):
            got = "; ".join(f"{name}: {value}" for name, value in found.items())
            yield BarsError("panel", f"have one {what}", got, remedy)


def _joined(members: Mapping[str, pd.DataFrame], columns: list[str]) -> Told:
    """Return what the data card says of the panel."""
    told = {name: bars.attrs for name, bars in members.items()}
    first = next(iter(told.values()))
    return {
        "source": "panel",
        "symbol": ", ".join(told),
        "adjustments": "; ".join(f"{name}: {attrs['adjustments']}" for name, attrs in told.items()),
        "notes": [*_origins(told), *_dropped(members, columns)],
        "simulated": any(attrs.get("simulated", False) for attrs in told.values()),
        **{key: first[key] for key in ("calendar", "sessions") if key in first},
    }


def _origins(told: Mapping[str, Told]) -> Iterator[str]:
    for name, attrs in told.items():
        yield f"{name}: {attrs['symbol']} (source {attrs['source']})"
        yield from (f"{name}: {note}" for note in attrs.get("notes", []))


def _dropped(members: Mapping[str, pd.DataFrame], columns: list[str]) -> Iterator[str]:
    for name, bars in members.items():
        extra = [column for column in bars.columns if column not in columns]
        if extra:
            yield f"{name}: column {', '.join(extra)} left out, which other members lack"
