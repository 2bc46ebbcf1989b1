"""Columns of labels, and rows that are items of sequences without a clock.

n_rows rows. A sequence stands where a panel has an instrument; its positions stand where bars have times, as
seconds since 1970, because positions are all that the order of its items is.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault, raise_faults
from finscale.datasets.sources.source import BarsError
from finscale.datasets.sources.table import ForeignTable
from finscale.windows.vocabulary import Label, code_labels, vocabulary_of

__all__ = ["coded_columns", "in_sequences"]

_FARTHEST = 2**33
_CLOCK = "datetime64[s]"


def coded_columns(
    table: ForeignTable, names: Sequence[str]
) -> tuple[dict[str, NDArray[np.int64]], dict[str, list[Label]]]:
    """Return the codes (n_rows,) of each categorical column, and its labels in the order of their codes.

    Raises
    ------
    BarsError
        When a column is missing.
    Fault
        When its rows hold no labels (`finscale.windows.vocabulary.vocabulary_of`).
    """
    codes, vocabularies = {}, {}
    for name in names:
        values, subject = table.column(name), f"{table.subject}.{name}"
        vocabulary = vocabulary_of(values, subject=subject)
        codes[name] = code_labels(values, vocabulary, subject=subject)
        vocabularies[name] = list(vocabulary)
    return codes, vocabularies


def in_sequences(items: pd.DataFrame, table: ForeignTable, *, sequence: str, position: str) -> pd.DataFrame:
    """Return the items under the index (instrument, position), each sequence together.

    Sequences stand in the order of their first rows. A gap in the positions is refused, because a window, and
    a horizon, count items: across a missing one they would mean something else.

    Parameters
    ----------
    items : DataFrame (n_rows,)
        The columns of the table that are taken.
    table : ForeignTable
        The same rows.
    sequence, position : str
        Columns of the table.

    Raises
    ------
    FinscaleError
        When a row names no sequence or no whole position, or positions do not go up by 1.
    """
    ids, steps = table.column(sequence), table.numbers(str(table.column(position).name), name=position)
    raise_faults(_unplaced(table.subject, {sequence: ids.isna()}, {position: steps}))
    codes, names = pd.factorize(ids.astype(str))
    order = np.argsort(codes, kind="stable")
    codes, places = codes[order], steps[order].astype(np.int64)
    raise_faults(_leaps(f"{table.subject}.{position}", codes, places, names))
    level = pd.DatetimeIndex(places.astype(_CLOCK).astype("datetime64[ns]"))
    index = pd.MultiIndex.from_arrays([names[codes], level], names=["instrument", "position"])
    return items.iloc[order].set_axis(index)


def _unplaced(
    subject: str, missing: dict[str, pd.Series], steps: dict[str, NDArray[np.float64]]
) -> Iterator[Fault]:
    for name, rows in missing.items():
        if rows.any():
            yield BarsError(f"{subject}.{name}", "name a sequence in every row", f"{rows.sum()} rows without")
    for name, values in steps.items():
        bad = ~(np.abs(values) < _FARTHEST) | (values % 1 != 0)
        if bad.any():
            got = f"{bad.sum()} rows that do not ({values[bad][0]})"
            yield BarsError(f"{subject}.{name}", "hold whole numbers below 2^33", got, "number the items")


def _leaps(
    subject: str, codes: NDArray[np.int64], places: NDArray[np.int64], names: pd.Index
) -> Iterator[Fault]:
    bad = np.flatnonzero((np.diff(places) != 1) & (np.diff(codes) == 0))
    if len(bad):
        at = bad[0]
        first = f"first in sequence {names[codes[at]]}: from {places[at]} to {places[at + 1]}"
        remedy = (
            "sort the rows by position, keep one row per item, and where items are missing begin a new "
            "sequence, or number them without a gap"
        )
        rule = "go up by 1 from item to item of a sequence"
        yield BarsError(subject, rule, f"{len(bad)} steps that do not ({first})", remedy)
