"""The data card: what the bars are, said once and shown with every result."""

from collections.abc import Sequence

import pandas as pd

from finscale.core.config import Record
from finscale.core.hashing import content_hash

__all__ = ["DataCard", "data_card"]


class DataCard(Record):
    """Origin and identity of a table of bars.

    Attributes
    ----------
    source, symbol : str
        Where the bars came from (``arch``, ``file``) and what they are bars of.
    first_session, last_session : str
        ISO dates.
    content_hash : str
        Of the bars alone.
    adjustments : str
        What was done to prices for splits and dividends.
    repairs, notes : tuple of str
        What was changed in the data; what a reader should know about it.
    simulated : bool
        True when no market made these prices.
    """

    source: str
    symbol: str
    first_session: str
    last_session: str
    n_rows: int
    content_hash: str
    adjustments: str
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    simulated: bool = False

    def line(self) -> str:
        """Return the card as one line for a report."""
        label = "SIMULATED " if self.simulated else ""
        span = f"{self.first_session} to {self.last_session}, {self.n_rows} sessions"
        repairs = "; ".join(self.repairs) or "nothing repaired"
        facts = [f"prices: {self.adjustments}", repairs, *self.notes, f"hash {self.content_hash}"]
        return f"{label}{self.symbol} (source {self.source}), {span}; " + "; ".join(facts)


def data_card(
    bars: pd.DataFrame,
    *,
    source: str,
    symbol: str,
    adjustments: str,
    repairs: Sequence[str] = (),
    notes: Sequence[str] = (),
    simulated: bool = False,
) -> DataCard:
    """Describe validated bars; the keywords are what the bars dataset puts into ``bars.attrs``."""
    return DataCard(
        source=source,
        symbol=symbol,
        first_session=str(bars.index[0].date()),
        last_session=str(bars.index[-1].date()),
        n_rows=len(bars),
        content_hash=content_hash(bars),
        adjustments=adjustments,
        repairs=tuple(repairs),
        notes=tuple(notes),
        simulated=simulated,
    )
