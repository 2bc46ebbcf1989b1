"""The canonical table of daily prices: index ``session``; ``open high low close``, maybe ``volume``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray

from finscale.core.errors import Fault, raise_faults

__all__ = ["BAR_COLUMNS", "PRICES", "BarRule", "bars_schema", "validate_bars"]

PRICES = ("open", "high", "low", "close")
BAR_COLUMNS = (*PRICES, "volume")


@dataclass(frozen=True)
class BarRule:
    """One thing every bar must satisfy.

    Attributes
    ----------
    column : str
        What the message is about.
    rule, remedy : str
        As in `Fault`.
    holds : callable
        From the rows, ``session`` a column among them, to a boolean vector (n_rows,).
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


_RULES = (
    BarRule(
        "session",
        "be a date",
        "write dates like 2020-01-31",
        lambda rows: rows["session"].notna().to_numpy(),
        ("session",),
    ),
    BarRule(
        "session",
        "be a day without a time of day",
        "give daily bars, one row per session",
        lambda rows: (
            rows["session"].isna() | (rows["session"] == rows["session"].dt.normalize())
        ).to_numpy(),
        ("session",),
    ),
    BarRule(
        "session",
        "be unique",
        "keep one row per date",
        lambda rows: ~rows["session"].duplicated().to_numpy(),
        ("session",),
    ),
    BarRule(
        "session",
        "be in increasing order",
        "sort the rows by date",
        lambda rows: ~(rows["session"] < rows["session"].cummax()).to_numpy(),
        ("session",),
    ),
    *(_is_finite(column) for column in BAR_COLUMNS),
    *(_is_positive(column) for column in PRICES),
    BarRule(
        "high",
        "be at least open and close",
        "correct or drop these bars",
        lambda rows: ~(rows["high"] < rows[["open", "close"]].max(axis=1)).to_numpy(),
        ("open", "high", "close"),
    ),
    BarRule(
        "low",
        "be at most open and close",
        "correct or drop these bars",
        lambda rows: ~(rows["low"] > rows[["open", "close"]].min(axis=1)).to_numpy(),
        ("open", "low", "close"),
    ),
    BarRule(
        "volume",
        "be at least 0",
        "correct these bars, or leave the column volume out",
        lambda rows: ~(rows["volume"].to_numpy() < 0),
        ("volume",),
    ),
)


def bars_schema(columns: Sequence[str]) -> pa.DataFrameSchema:
    """Return the pandera schema of the rows of a table with these columns; ``volume`` is optional."""
    readable = [rule for rule in _RULES if set(rule.reads) <= set(columns)]
    checks = [pa.Check(_as_series(rule), name=str(_RULES.index(rule)), error=rule.rule) for rule in readable]
    return pa.DataFrameSchema(
        columns={name: pa.Column(nullable=True) for name in ("session", *PRICES)}, checks=checks
    )


def _as_series(rule: BarRule) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda rows: pd.Series(rule.holds(rows), index=rows.index)


def validate_bars(bars: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """Return the table in canonical types, or raise every violation at once.

    Parameters
    ----------
    bars : DataFrame
        Dates in the index; columns beyond the canonical five are left out of the result.
    name : str
        How messages call the table (``sp500``, a file name).

    Returns
    -------
    DataFrame
        Index ``session`` (datetime64[ns]); prices float64; ``volume`` int64, or float64 in a market that
        trades fractions.

    Raises
    ------
    FinscaleError
        One line per broken rule: column, rule, number of bad bars, the first three dates, remedy.
    """
    if not isinstance(bars.index, pd.DatetimeIndex):
        raise Fault(f"{name}.session", "be dates in the index", str(bars.index.dtype), "set the date column")
    if bars.empty:
        raise Fault(name, "have at least one bar", "none", "check the file or the dates asked for")
    table = bars[[column for column in BAR_COLUMNS if column in bars]]
    raise_faults(_not_numbers(table, name))
    try:
        rows = table.reset_index(names="session")
        bars_schema(list(rows.columns)).validate(rows, lazy=True)
    except pa.errors.SchemaErrors as errors:
        raise_faults([_fault(error, table, name) for error in errors.schema_errors])
    return _canonical(table)


def _not_numbers(table: pd.DataFrame, name: str) -> Iterator[Fault]:
    for column, dtype in table.dtypes.items():
        if not pd.api.types.is_numeric_dtype(dtype):
            remedy = "remove text and thousands separators"
            yield Fault(f"{name}.{column}", "hold numbers", f"values of type {dtype}", remedy)


def _fault(error: pa.errors.SchemaError, table: pd.DataFrame, name: str) -> Fault:
    if error.check_output is None:
        missing, found = str(error.failure_cases), ", ".join(table.columns)
        remedy = "name the column in the source's column mapping"
        return Fault(f"{name}.{missing}", "be a column", f"only {found or 'no columns'}", remedy)
    rule = _RULES[int(error.check.name)]
    bad = table.index[~error.check_output.to_numpy(dtype=bool)]
    first = ", ".join(str(stamp).removesuffix(" 00:00:00") for stamp in bad[:3])
    got = f"{len(bad)} bad bar{'s' if len(bad) > 1 else ''} ({first}{', ...' if len(bad) > 3 else ''})"
    return Fault(f"{name}.{rule.column}", rule.rule, got, rule.remedy)


def _canonical(table: pd.DataFrame) -> pd.DataFrame:
    canonical = table.astype(np.float64)
    if "volume" in canonical and (canonical["volume"] % 1 == 0).all():
        canonical = canonical.astype({"volume": np.int64})
    canonical.index = pd.DatetimeIndex(table.index, name="session").tz_localize(None).as_unit("ns")
    return canonical
