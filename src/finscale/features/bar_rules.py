"""What every bar must satisfy, one row per rule; `finscale.features.bars` applies them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["BAR_COLUMNS", "PRICES", "BarKind", "BarRule", "bar_rules"]

PRICES = ("open", "high", "low", "close")
BAR_COLUMNS = (*PRICES, "volume")
BarKind = Literal["daily", "intraday", "series"]


@dataclass(frozen=True)
class BarRule:
    """One thing every bar must satisfy.

    Attributes
    ----------
    column : str
        What the message is about; ``time`` stands for the index.
    rule, remedy : str
        As in `Fault`.
    holds : callable
        From the rows, ``instrument`` and ``time`` columns among them, to a boolean vector (n_rows,).
    reads : tuple of str
        Columns without which the rule says nothing. A missing number is the business of one rule only.
    """

    column: str
    rule: str
    remedy: str
    holds: Callable[[pd.DataFrame], NDArray[np.bool_]]
    reads: tuple[str, ...]


def _is_finite(column: str) -> BarRule:
    return BarRule(
        column,
        "be a finite number in every bar",
        "fill or drop the bars with missing numbers",
        lambda rows: np.isfinite(rows[column].to_numpy()),
        (column,),
    )


def _is_positive(column: str) -> BarRule:
    return BarRule(
        column,
        "be above 0",
        "correct or drop these bars",
        lambda rows: ~(rows[column].to_numpy() <= 0),
        (column,),
    )


def _latest_so_far(rows: pd.DataFrame) -> pd.Series:
    return rows.groupby("instrument", sort=False)["time"].cummax()


def _open_close(rows: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return rows["open"].to_numpy(), rows["close"].to_numpy()


def _starts_again(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Where the rows of an instrument begin for the second time."""
    instrument = rows["instrument"]
    begins = instrument != instrument.shift()
    return (begins & instrument.where(begins).duplicated()).to_numpy()


def _before_the_first(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Where vix has had no value yet."""
    known = rows["vix"].notna()
    return ~known.groupby(rows["instrument"], sort=False).cummax().to_numpy()


_TIME_RULES = (
    BarRule(
        "time",
        "be a date",
        "write dates like 2020-01-31",
        lambda rows: rows["time"].notna().to_numpy(),
        ("time",),
    ),
    BarRule(
        "instrument",
        "be named",
        "give every bar the name of its instrument",
        lambda rows: rows["instrument"].notna().to_numpy(),
        ("instrument",),
    ),
    BarRule(
        "instrument",
        "have all its bars together",
        "sort the rows by instrument and time",
        lambda rows: ~_starts_again(rows),
        ("instrument",),
    ),
    BarRule(
        "time",
        "be unique",
        "keep one row per date",
        lambda rows: ~rows.duplicated(["instrument", "time"]).to_numpy(),
        ("time",),
    ),
    BarRule(
        "time",
        "be in increasing order",
        "sort the rows by date",
        lambda rows: ~(rows["time"] < _latest_so_far(rows)).to_numpy(),
        ("time",),
    ),
)

_DAY_RULE = BarRule(
    "time",
    "be a day without a time of day",
    "give daily bars, one row per session; of intraday bars, write timezone: and sessions: in the source",
    lambda rows: (rows["time"].isna() | (rows["time"] == rows["time"].dt.normalize())).to_numpy(),
    ("time",),
)

_PRICE_RULES = (
    *(_is_finite(column) for column in BAR_COLUMNS),
    *(_is_positive(column) for column in PRICES),
    BarRule(
        "high",
        "be at least open and close",
        "correct or drop these bars",
        lambda rows: ~(rows["high"].to_numpy() < np.fmax(*_open_close(rows))),
        ("open", "high", "close"),
    ),
    BarRule(
        "low",
        "be at most open and close",
        "correct or drop these bars",
        lambda rows: ~(rows["low"].to_numpy() > np.fmin(*_open_close(rows))),
        ("open", "low", "close"),
    ),
    BarRule(
        "volume",
        "be at least 0",
        "correct these bars, or leave the column volume out",
        lambda rows: ~(rows["volume"].to_numpy() < 0),
        ("volume",),
    ),
    BarRule(
        "vix",
        "be a finite number from its first value on",
        "fill the missing values, or choose data.start and data.end",
        lambda rows: np.isfinite(rows["vix"].to_numpy()) | _before_the_first(rows),
        ("vix",),
    ),
    _is_positive("vix"),
)


def bar_rules(kind: BarKind, columns: Sequence[str]) -> list[BarRule]:
    """Return the rules that rows of this kind with these columns must satisfy."""
    own = {
        "daily": (_DAY_RULE, *_PRICE_RULES),
        "intraday": _PRICE_RULES,
        "series": tuple(_is_finite(name) for name in columns if name not in ("instrument", "time")),
    }[kind]
    return [rule for rule in (*_TIME_RULES, *own) if set(rule.reads) <= set(columns)]
