"""A table as somebody else wrote it: its columns found by their obvious names, its cells read as numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from finscale.core.errors import suggest
from finscale.datasets.sources.source import BarsError

__all__ = ["COLUMN_NAMES", "ForeignTable", "read_table"]

_ALIASES = {
    "session": ("session", "date", "timestamp", "time", "datetime", "ts", "opened at"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "volume": ("volume", "vol"),
    "adj_close": ("adj close", "adjclose", "adjusted close"),
}
COLUMN_NAMES = tuple(name for name in _ALIASES if name != "session")

_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": pd.read_csv,
    ".csv.gz": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".pq": pd.read_parquet,
}


@dataclass(frozen=True, eq=False)
class ForeignTable:
    """A table under the name that messages give it.

    Attributes
    ----------
    subject : str
        Path or symbol.
    frame : DataFrame
        Dates in a column.
    """

    subject: str
    frame: pd.DataFrame

    def need(self, names: Sequence[str], *, mapping: Mapping[str, str], hint: str = "") -> dict[str, str]:
        """Return the table's column for each canonical name that it has; ``names`` must be among them."""
        found = {name: self.find(name, mapping.get(name)) for name in COLUMN_NAMES}
        missing = [name for name in names if found[name] is None]
        if missing:
            remedy = f"map it: columns: {{{missing[0]}: <name in the file>}}{hint}"
            raise BarsError(self.subject, f"have the column {', '.join(missing)}", self._listed, remedy)
        return {name: column for name, column in found.items() if column is not None}

    def find(self, name: str, wanted: str | None = None) -> str | None:
        """Return the table's own name of a canonical column, or of the column that was asked for."""
        aliases = _ALIASES[name] if wanted is None else (_plain(wanted),)
        matches = [column for column in self.frame.columns if _plain(column) in aliases]
        if wanted in matches:
            return wanted
        if len(matches) > 1:
            key = "date_column" if name == "session" else f"columns: {{{name}: ...}}"
            raise BarsError(self.subject, f"have one column for {name}", matches, f"choose one with {key}")
        if wanted is not None and not matches:
            remedy = suggest(wanted, list(self.frame.columns))
            raise BarsError(self.subject, f"have the column {wanted}", self._listed, remedy)
        return matches[0] if matches else None

    def column(self, wanted: str) -> pd.Series:
        """Return the column that was asked for by its name."""
        return self.frame[self.find(wanted, wanted)]

    def dates(self, wanted: str | None) -> pd.Series:
        """Return the column of dates."""
        column = self.find("session", wanted)
        if column is None:
            remedy = "name it with date_column: <name in the file>"
            raise BarsError(self.subject, "have a date column", self._listed, remedy)
        return self.frame[column]

    def numbers(self, column: str, *, name: str) -> NDArray[np.float64]:
        """Return a column as float64, (n_rows,); ``name`` is what messages call it."""
        try:
            return pd.to_numeric(self.frame[column]).to_numpy(dtype=np.float64)
        except (ValueError, TypeError) as error:
            remedy = "remove text and thousands separators"
            raise BarsError(f"{self.subject}.{name}", "hold numbers", str(error), remedy) from None

    @property
    def _listed(self) -> str:
        return "the columns " + ", ".join(self.frame.columns)


def read_table(path: Path) -> ForeignTable:
    """Read a CSV or Parquet file whole.

    Raises
    ------
    BarsError
        When it is missing, empty, damaged, or of another format.
    """
    suffix = next((ending for ending in _READERS if path.name.lower().endswith(ending)), None)
    if suffix is None:
        raise BarsError(str(path), f"end in {', '.join(_READERS)}", path.suffix, "convert the file")
    if not path.is_file():
        rule, got = ("be a file", "a directory") if path.is_dir() else ("exist", "no such file")
        raise BarsError(str(path), rule, got, "correct the path of the bars")
    try:
        frame = _READERS[suffix](path)
    except pd.errors.EmptyDataError:
        raise BarsError(str(path), "hold a table", "an empty file", "fetch it again") from None
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        rule = f"be readable {suffix.removeprefix('.')}"
        raise BarsError(str(path), rule, str(error), "open it and compare, or fetch it again") from None
    if frame.empty:
        raise BarsError(str(path), "hold at least one bar", "a header without rows", "fetch it again")
    return ForeignTable(str(path), _flat(frame))


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """One level of column names (downloads put the symbol below each), the dates among the columns."""
    if isinstance(frame.columns, pd.MultiIndex):
        frame = frame.set_axis(frame.columns.get_level_values(0), axis=1)
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    return frame.set_axis([str(column) for column in frame.columns], axis=1)


def _plain(column: str) -> str:
    return " ".join(column.replace("_", " ").lower().split())
