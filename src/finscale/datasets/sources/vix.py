"""The VIX beside daily bars: on each session the latest close of the index that was known.

Both are values at the end of a day. (The VIX is computed for 15 minutes longer than stocks trade.)
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault, raise_faults
from finscale.datasets.sources.source import BarsError

__all__ = ["TOLERANCE", "join_vix"]

TOLERANCE = pd.Timedelta(days=7)
"""The longest that a close stands for the days after it."""


def join_vix(bars: pd.DataFrame, vix: pd.DataFrame) -> pd.DataFrame:
    """Return the bars with a column ``vix``; bars that come too long after its last value are cut.

    Parameters
    ----------
    bars : DataFrame
        Daily bars, of one instrument or a panel.
    vix : DataFrame
        Daily bars of the index, or its one column of closes.

    Returns
    -------
    DataFrame
        NaN before the first value. ``attrs["notes"]`` says how many bars have none and how many were cut.

    Raises
    ------
    FinscaleError
        For intraday bars, and for a VIX without order, without overlap, or with a hole beyond `TOLERANCE`.
    """
    raise_faults(_not_daily(bars, vix))
    closes = _closes(vix)
    days = pd.DatetimeIndex(bars.index.get_level_values(-1))
    values = closes.reindex(days, method="ffill", tolerance=TOLERANCE).to_numpy()
    is_late = days > closes.index[-1] + TOLERANCE
    is_early = days < closes.index[0]
    is_lost = pd.isna(values) & ~is_late & ~is_early & days.notna()
    raise_faults(_gaps(days, is_lost, covers=bool((~pd.isna(values)).any()), closes=closes))
    joined = bars.assign(vix=values)[~is_late]
    notes = [*bars.attrs.get("notes", []), *_notes(vix, closes, is_early, is_late)]
    joined.attrs = {**bars.attrs, "notes": notes}
    return joined


def _not_daily(bars: pd.DataFrame, vix: pd.DataFrame) -> Iterator[Fault]:
    if isinstance(vix.index, pd.MultiIndex):
        yield BarsError("vix", "be one instrument", "a panel", "give the source of one of its members")
    for name, table in (("bars with a vix", bars), ("vix", vix)):
        times = pd.DatetimeIndex(table.index.get_level_values(-1)).dropna()
        if (times != times.normalize()).any():
            yield BarsError(name, "be daily", "intraday bars", "remove vix: from the catalog entry")


def _closes(vix: pd.DataFrame) -> pd.Series:
    column = "close" if "close" in vix else vix.columns[0]
    if "close" not in vix and len(vix.columns) > 1:
        got = "the columns " + ", ".join(vix.columns)
        raise BarsError("vix", "have a close, or one column", got, "name it: channels: [<column>]")
    closes = vix[column].dropna()
    if closes.empty or not (closes.index.is_unique and closes.index.is_monotonic_increasing):
        got = "no values" if closes.empty else "dates out of order or twice"
        raise BarsError("vix", "have one value per date, in order", got, "sort the file, one row per date")
    return closes


def _gaps(
    days: pd.DatetimeIndex, is_lost: NDArray[np.bool_], *, covers: bool, closes: pd.Series
) -> Iterator[Fault]:
    if not covers:
        got = f"{closes.index[0].date()} to {closes.index[-1].date()}"
        yield BarsError("vix", "share days with the bars", got, "give a VIX of the same years")
    elif is_lost.any():
        first = ", ".join(str(day.date()) for day in days[is_lost][:3])
        rule = f"have a value in the {TOLERANCE.days} days before each bar, once it has begun"
        got = f"none for {is_lost.sum()} bars ({first})"
        yield BarsError("vix", rule, got, "fill the hole in the VIX, or begin after it")


def _notes(
    vix: pd.DataFrame, closes: pd.Series, is_early: NDArray[np.bool_], is_late: NDArray[np.bool_]
) -> Iterator[str]:
    span = f"{closes.index[0].date()} to {closes.index[-1].date()}"
    yield f"vix: {vix.attrs['symbol']} (source {vix.attrs['source']}), {span}"
    yield from (f"vix: {note}" for note in vix.attrs.get("notes", []))
    if is_early.any():
        yield f"{is_early.sum()} bars before the first VIX have none"
    if is_late.any():
        yield f"{is_late.sum()} bars after the last VIX were cut"
