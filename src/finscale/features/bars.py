"""The canonical table of prices: ``open high low close``, maybe ``volume`` and ``vix``, and its times.

Daily bars are indexed by ``session`` (a date), intraday bars by ``opened_at`` (a UTC instant), a panel of
several instruments by ``instrument`` and one of these. A *series* has a time and any columns of numbers.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray

from finscale.core.errors import Fault, raise_faults
from finscale.features.bar_rules import BAR_COLUMNS, PRICES, BarKind, BarRule, bar_rules

__all__ = [
    "BAR_COLUMNS",
    "PRICES",
    "BarKind",
    "bad_bars",
    "bar_faults",
    "bars_schema",
    "canonical_bars",
    "instruments_of",
    "kind_of",
    "validate_bars",
]

_COLUMNS = (*BAR_COLUMNS, "vix")
_TIMES: dict[BarKind, str] = {"daily": "session", "intraday": "opened_at", "series": "time"}


def kind_of(bars: pd.DataFrame) -> BarKind:
    """Return what a loaded table holds: ``attrs["kind"]`` says series, the index's name says intraday."""
    if bars.attrs.get("kind") == "series":
        return "series"
    return "intraday" if bars.index.names[-1] == "opened_at" else "daily"


def instruments_of(bars: pd.DataFrame) -> list[str]:
    """Return the instruments of a panel in the order of its rows; none of a single instrument."""
    if not isinstance(bars.index, pd.MultiIndex):
        return []
    return [str(name) for name in bars.index.get_level_values("instrument").unique()]


def bars_schema(kind: BarKind, columns: Sequence[str]) -> pa.DataFrameSchema:
    """Return the pandera schema of the rows of a table; a check's name is its place in `bar_rules`."""
    needed = ("time",) if kind == "series" else ("time", *PRICES)
    checks = [
        # one failure case is enough: the bad bars are read from the check's output
        pa.Check(_as_series(rule), name=str(place), error=rule.rule, n_failure_cases=1)
        for place, rule in enumerate(bar_rules(kind, columns))
    ]
    return pa.DataFrameSchema({name: pa.Column(nullable=True) for name in needed}, checks=checks)


def _as_series(rule: BarRule) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda rows: pd.Series(rule.holds(rows), index=rows.index)


def validate_bars(bars: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """Return the table in canonical types, or raise every violation at once.

    Parameters
    ----------
    bars : DataFrame
        Times in the index, under an instrument in a panel; columns of bars beyond the canonical ones are
        left out of the result.
    name : str
        How messages call the table (``sp500``, a file name).

    Returns
    -------
    DataFrame
        Index ``session`` (naive) or ``opened_at`` (UTC), of nanoseconds; prices float64; ``volume`` int64,
        or float64 in a market that trades fractions. All columns of a series float64.

    Raises
    ------
    FinscaleError
        One line per broken rule and instrument: column, rule, number of bad bars, the first three times,
        remedy.
    """
    raise_faults(bar_faults(bars, name=name))
    return canonical_bars(bars)


def bar_faults(bars: pd.DataFrame, *, name: str) -> list[Fault]:
    """Return everything that `validate_bars` would raise."""
    kind = kind_of(bars)
    table = bars[_kept(bars)]
    unreadable = [*_not_times(bars, kind, name), *_empty(bars, name), *_not_numbers(table, name)]
    if unreadable:
        return unreadable
    rows = table.reset_index(names=[*_instrument_level(table), "time"])
    if "instrument" not in rows:
        rows = rows.assign(instrument="")
    return list(_violations(rows, kind, name))


def bad_bars(times: pd.DatetimeIndex, bad: NDArray[np.bool_]) -> str:
    """Say how many bars are bad, and the first three of them."""
    found = times[bad]
    first = ", ".join(str(stamp).removesuffix("+00:00").removesuffix(" 00:00:00") for stamp in found[:3])
    return f"{len(found)} bad bar{'s' if len(found) > 1 else ''} ({first}{', ...' if len(found) > 3 else ''})"


def _kept(bars: pd.DataFrame) -> list[str]:
    if kind_of(bars) == "series":
        return [str(column) for column in bars]
    return [column for column in _COLUMNS if column in bars]


def _instrument_level(table: pd.DataFrame) -> list[str]:
    return ["instrument"] if isinstance(table.index, pd.MultiIndex) else []


def _not_times(bars: pd.DataFrame, kind: BarKind, name: str) -> Iterator[Fault]:
    times = bars.index.get_level_values(-1)
    if not isinstance(times, pd.DatetimeIndex):
        remedy = "set the date column"
        yield Fault(f"{name}.{_TIMES[kind]}", "be dates in the index", str(times.dtype), remedy)
    elif kind == "intraday" and times.tz is None:
        remedy = "write timezone: in the source, for instance timezone: America/New_York"
        yield Fault(f"{name}.opened_at", "know its time zone", "times without one", remedy)


def _empty(bars: pd.DataFrame, name: str) -> Iterator[Fault]:
    if bars.empty:
        yield Fault(name, "have at least one bar", "none", "check the file or the dates asked for")


def _not_numbers(table: pd.DataFrame, name: str) -> Iterator[Fault]:
    for column, dtype in table.dtypes.items():
        if not pd.api.types.is_numeric_dtype(dtype):
            remedy = "remove text and thousands separators"
            yield Fault(f"{name}.{column}", "hold numbers", f"values of type {dtype}", remedy)


def _violations(rows: pd.DataFrame, kind: BarKind, name: str) -> Iterator[Fault]:
    try:
        bars_schema(kind, list(rows.columns)).validate(rows, lazy=True)
    except pa.errors.SchemaErrors as errors:
        for error in errors.schema_errors:
            yield from _faults(error, rows, kind, name)


def _faults(error: pa.errors.SchemaError, rows: pd.DataFrame, kind: BarKind, name: str) -> Iterator[Fault]:
    """Yield one fault per instrument that breaks the rule."""
    if error.check_output is None:
        missing = str(error.failure_cases)
        found = ", ".join(str(column) for column in rows if column not in ("instrument", "time"))
        remedy = "name the column in the source's column mapping"
        yield Fault(f"{name}.{missing}", "be a column", f"only {found or 'no columns'}", remedy)
        return
    rule = bar_rules(kind, list(rows.columns))[int(error.check.name)]
    column = _TIMES[kind] if rule.column == "time" else rule.column
    bad = ~error.check_output.to_numpy(dtype=bool)
    times = pd.DatetimeIndex(rows["time"])
    named = rows["instrument"].fillna("")
    for instrument in named[bad].unique():
        subject = ".".join(part for part in (name, str(instrument), column) if part)
        of_instrument = bad & (named == instrument).to_numpy()
        yield Fault(subject, rule.rule, bad_bars(times, of_instrument), rule.remedy)


def canonical_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars without faults in canonical types; see `validate_bars`."""
    kind, table = kind_of(bars), bars[_kept(bars)]
    canonical = table.astype(np.float64)
    if kind != "series" and "volume" in canonical and (canonical["volume"] % 1 == 0).all():
        canonical = canonical.astype({"volume": np.int64})
    canonical.index = _canonical_index(table.index, kind)
    return canonical


def _canonical_index(index: pd.Index, kind: BarKind) -> pd.Index:
    times = pd.DatetimeIndex(index.get_level_values(-1)).as_unit("ns")
    if kind == "daily":
        times = times.tz_localize(None)
    elif times.tz is not None:
        times = times.tz_convert("UTC")
    name = index.names[-1] or "time" if kind == "series" else _TIMES[kind]
    if not isinstance(index, pd.MultiIndex):
        return times.rename(name)
    instruments = index.get_level_values(0).astype(str)
    return pd.MultiIndex.from_arrays([instruments, times], names=["instrument", name])
