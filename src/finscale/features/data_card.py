"""The data card: what the bars are, said once and shown with every result."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from finscale.core.config import Record
from finscale.core.hashing import content_hash
from finscale.features.bars import instruments_of
from finscale.features.sessions import SessionRule, length_words
from finscale.features.timescales import Timescale

__all__ = ["DataCard", "data_card"]

_SHOWN = 5


class DataCard(Record):
    """Origin and identity of a table of bars.

    Attributes
    ----------
    source, symbol : str
        Where the bars came from (``arch``, ``file``) and what they are bars of.
    first_session, last_session : str
        ISO dates; of a panel, over all instruments.
    n_rows, n_sessions : int
        Rows of the table, and different trading days in it.
    content_hash : str
        Of the bars alone.
    adjustments : str
        What was done to prices for splits and dividends.
    timescale : str
        Size of a bar.
    kind : str
        ``series`` where the table has no bars but columns of any numbers.
    instruments : tuple of str
        Of a panel.
    bar_interval_s : int, optional
        Length of an intraday bar in seconds.
    sessions : SessionRule, optional
        How intraday sessions are cut.
    calendar : str, optional
        Exchange whose weeks and months count.
    repairs, notes, warnings : tuple of str
        What was changed in the data; what a reader should know about it; what may be wrong with it.
    simulated : bool
        True when no market made these prices.
    n_labels : dict
        Categorical columns of a series, and how many labels each has.
    sequences : bool
        True when the instruments are sequences without a clock; first and last session are positions then.
    """

    source: str
    symbol: str
    first_session: str
    last_session: str
    n_rows: int
    n_sessions: int
    content_hash: str
    adjustments: str
    timescale: Timescale = "daily"
    kind: Literal["bars", "series"] = "bars"
    instruments: tuple[str, ...] = ()
    bar_interval_s: int | None = None
    sessions: SessionRule | None = None
    calendar: str | None = None
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    simulated: bool = False
    n_labels: dict[str, int] = Field(default_factory=dict)
    sequences: bool = False

    def line(self) -> str:
        """Return the card as one line for a report: what was simulated first, then what may be wrong."""
        label = "SIMULATED " if self.simulated else ""
        warned = "".join(f"WARNING: {warning}; " for warning in self.warnings)
        what = "positions " if self.sequences else ""
        span = f"{what}{self.first_session} to {self.last_session}, {self._size()}"
        repairs = "; ".join(self.repairs) or "nothing repaired"
        facts = [f"prices: {self.adjustments}", repairs, *self.notes, f"hash {self.content_hash}"]
        symbol = self.symbol.removeprefix(label)
        return f"{label}{warned}{symbol} (source {self.source}), {span}; " + "; ".join(facts)

    def _size(self) -> str:
        size = self._bars()
        if not self.instruments:
            return size
        shown = ", ".join(self.instruments[:_SHOWN])
        more = ", ..." if len(self.instruments) > _SHOWN else ""
        what = "sequences" if self.sequences else "instruments"
        return f"{len(self.instruments)} {what} ({shown}{more}), {size}"

    def _bars(self) -> str:
        if self.kind == "series":
            labels = "".join(f", {name} of {n} labels" for name, n in self.n_labels.items())
            return f"{self.n_rows} rows{labels}"
        if self.sessions is not None and self.bar_interval_s is not None:
            length = length_words(pd.Timedelta(seconds=self.bar_interval_s))
            rule = self.sessions
            cut = f"at most {rule.bars_per_session} a session from {rule.opens_at} {rule.timezone}"
            return f"{self.n_rows} bars of {length} in {self.n_sessions} sessions, {cut}"
        if self.timescale != "daily":
            return f"{self.n_rows} {self.timescale} bars"
        return f"{self.n_rows} sessions" if not self.instruments else f"{self.n_rows} daily bars"


def data_card(
    bars: pd.DataFrame,
    *,
    source: str,
    symbol: str,
    adjustments: str,
    timescale: Timescale = "daily",
    kind: Literal["bars", "series"] = "bars",
    bar_interval_s: int | None = None,
    sessions: Mapping[str, Any] | None = None,
    calendar: str | None = None,
    repairs: Sequence[str] = (),
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    simulated: bool = False,
    vocabularies: Mapping[str, Sequence[str | int]] | None = None,
) -> DataCard:
    """Describe prepared bars; the keywords are what the dataset and `prepare_bars` put into ``attrs``."""
    days, sequences = _days(bars), bars.index.names[-1] == "position"
    first, last = _positions(bars) if sequences else (str(days.min().date()), str(days.max().date()))
    return DataCard(
        source=source,
        symbol=symbol,
        first_session=first,
        last_session=last,
        n_rows=len(bars),
        n_sessions=days.nunique(),
        # a panel's index is hashed as columns: as tuples it takes seconds per million bars
        content_hash=content_hash(bars.reset_index() if isinstance(bars.index, pd.MultiIndex) else bars),
        adjustments=adjustments,
        timescale=timescale,
        kind=kind,
        instruments=tuple(instruments_of(bars)),
        bar_interval_s=bar_interval_s,
        sessions=SessionRule.read(sessions) if sessions else None,
        calendar=calendar,
        repairs=tuple(repairs),
        notes=tuple(notes),
        warnings=tuple(warnings),
        simulated=simulated,
        n_labels={name: len(labels) for name, labels in (vocabularies or {}).items()},
        sequences=sequences,
    )


def _positions(bars: pd.DataFrame) -> tuple[str, str]:
    """First and last position of any sequence: seconds of a clock that is none."""
    seconds = pd.DatetimeIndex(bars.index.get_level_values(-1)).as_unit("s").asi8
    return str(seconds.min()), str(seconds.max())


def _days(bars: pd.DataFrame) -> pd.DatetimeIndex:
    """Trading days of the rows; of a series, calendar days."""
    if bars.attrs.get("kind") != "series" and "session" in bars:
        return pd.DatetimeIndex(bars["session"])
    return pd.DatetimeIndex(bars.index.get_level_values(-1)).normalize()
