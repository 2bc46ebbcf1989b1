"""Daily bars from where they are kept: bundled in a package, or in the user's own file.

Loading gives the canonical columns as they were found, neither sorted nor checked: that is the first
node's business, which then sees every fault at once.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pyarrow
from kedro.io import AbstractDataset, DatasetError
from pydantic import Field, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, suggest
from finscale.core.hashing import content_hash
from finscale.datasets.atomic import TablePreview
from finscale.features.bars import BAR_COLUMNS, PRICES

__all__ = ["ArchSource", "BarsDataset", "BarsError", "FileSource"]

_ALIASES = {
    "session": ("session", "date", "timestamp", "time", "datetime"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "volume": ("volume", "vol"),
    "adj_close": ("adj close", "adjclose", "adjusted close"),
}
_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": pd.read_csv,
    ".csv.gz": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".pq": pd.read_parquet,
}
_OPEN_NOTE = "before 2008 the open often equals the previous close: features of the opening gap are artefacts"
_SHOWN = 5


class BarsError(Fault, DatasetError):
    """A fault of the bars; Kedro passes it on as it is instead of wrapping it."""


class ArchSource(Record):
    """An index bundled in the PyPI package arch: real daily bars 1999-01-04 to 2018-12-31."""

    kind: Literal["arch"] = "arch"
    symbol: Literal["sp500", "nasdaq"]

    def load(self) -> pd.DataFrame:
        """Return the bars; ``attrs`` holds what the data card says of them."""
        import arch.data.nasdaq
        import arch.data.sp500

        found = {"sp500": arch.data.sp500.load, "nasdaq": arch.data.nasdaq.load}[self.symbol]()
        bars = found.rename(columns=str.lower)[list(BAR_COLUMNS)].rename_axis(index="session")
        bars.attrs = {
            "source": "arch",
            "symbol": self.symbol,
            "adjustments": "unadjusted (an index)",
            "notes": [_OPEN_NOTE] if self.symbol == "sp500" else [],
        }
        return bars


class FileSource(Record):
    """The user's own CSV or Parquet file of daily bars.

    Attributes
    ----------
    path : str
        A ``.csv``, ``.csv.gz``, ``.parquet`` or ``.pq`` file.
    columns : dict
        Canonical name (``close``, ``adj_close``) to the file's name, where that is not obvious. Names
        are compared without regard to case, spaces and underscores.
    date_column : str, optional
        The file's name of the date column, where that is not obvious.
    adjust : str
        ``none`` takes the prices as they are. ``split_dividend`` multiplies open, high, low and close by
        adjusted close / close; the volume stays as it is in the file.
    """

    kind: Literal["file"] = "file"
    path: str
    columns: dict[str, str] = Field(default_factory=dict)
    date_column: str | None = None
    adjust: Literal["none", "split_dividend"] = "none"

    @model_validator(mode="after")
    def _canonical_keys(self) -> "FileSource":
        legal = [name for name in _ALIASES if name != "session"]
        for name in self.columns:
            if name not in legal:
                raise Fault(f"columns.{name}", "be a canonical column", name, suggest(name, legal))
        return self

    def load(self) -> pd.DataFrame:
        """Return the canonical columns that the file has; ``attrs`` says what was done to them."""
        table = _read_table(Path(self.path))
        found = self._find_columns(table)
        bars = pd.DataFrame({name: self._numbers(table[column], name) for name, column in found.items()})
        bars.index = self._sessions(table)
        adjusted = self._adjusted(bars)
        bars = adjusted[[name for name in BAR_COLUMNS if name in adjusted]]
        bars.attrs = {
            "source": "file",
            "symbol": Path(self.path).name,
            "adjustments": self._adjustments(bars="adj_close" in found),
        }
        return bars

    def _find_columns(self, table: pd.DataFrame) -> dict[str, str]:
        names = [name for name in _ALIASES if name != "session"]
        found = {name: self._find(table, name, self.columns.get(name)) for name in names}
        needed = (*PRICES, "adj_close") if self.adjust == "split_dividend" else PRICES
        missing = [name for name in needed if found[name] is None]
        if missing:
            remedy = f"map it: columns: {{{missing[0]}: <name in the file>}}"
            if missing == ["adj_close"]:
                remedy += ", or set adjust: none"
            raise BarsError(self.path, f"have the column {', '.join(missing)}", _listed(table), remedy)
        return {name: column for name, column in found.items() if column is not None}

    def _find(self, table: pd.DataFrame, name: str, wanted: str | None) -> str | None:
        aliases = _ALIASES[name] if wanted is None else (_plain(wanted),)
        matches = [str(column) for column in table.columns if _plain(str(column)) in aliases]
        if wanted in matches:
            return wanted
        if len(matches) > 1:
            key = "date_column" if name == "session" else f"columns: {{{name}: ...}}"
            raise BarsError(self.path, f"have one column for {name}", matches, f"choose one with {key}")
        if wanted is not None and not matches:
            raise BarsError(self.path, f"have the column {wanted}", _listed(table), _near(wanted, table))
        return matches[0] if matches else None

    def _sessions(self, table: pd.DataFrame) -> pd.DatetimeIndex:
        column = self._find(table, "session", self.date_column)
        if column is None:
            remedy = "name it with date_column: <name in the file>"
            raise BarsError(self.path, "have a date column", _listed(table), remedy)
        dates = table[column]
        if pd.api.types.is_numeric_dtype(dates):
            dates = dates.astype("Int64").astype("string")
        try:
            parsed = pd.DatetimeIndex(pd.to_datetime(dates), name="session")
        except (ValueError, pd.errors.OutOfBoundsDatetime) as error:
            reason = str(error).partition(". ")[0]
            raise BarsError(f"{self.path}.{column}", "hold dates", reason, "write 2020-01-31") from None
        return parsed.tz_localize(None)

    def _numbers(self, values: pd.Series, name: str) -> np.ndarray:
        try:
            return pd.to_numeric(values).to_numpy(dtype=np.float64)
        except (ValueError, TypeError) as error:
            remedy = "remove text and thousands separators"
            raise BarsError(f"{self.path}.{name}", "hold numbers", str(error), remedy) from None

    def _adjusted(self, bars: pd.DataFrame) -> pd.DataFrame:
        if self.adjust == "none":
            return bars
        factor = bars["adj_close"] / bars["close"]
        return bars.assign(**{name: bars[name] * factor for name in PRICES})

    def _adjustments(self, *, bars: bool) -> str:
        if self.adjust == "split_dividend":
            return "splits and dividends, by the file's adjusted close; volume as in the file"
        return "none; the file's adjusted close is not used" if bars else "none"


Source = Annotated[ArchSource | FileSource, Field(discriminator="kind")]


class _Choice(Record):
    source: Source


class BarsDataset(AbstractDataset[None, pd.DataFrame]):
    """Daily bars, read-only.

    Parameters
    ----------
    source : dict
        ``{kind: arch, symbol: sp500}`` or ``{kind: file, path: ..., ...}``; see `ArchSource`, `FileSource`.
    metadata : dict, optional
        For kedro-viz.

    Raises
    ------
    FinscaleError
        At once for a faulty ``source``; on load for a file that is missing, empty, unreadable, or lacks a
        column.
    """

    def __init__(self, *, source: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        if source.get("kind") not in ("arch", "file"):
            raise Fault("source.kind", "be arch or file", source.get("kind"), "try kind: arch, symbol: sp500")
        self._source: ArchSource | FileSource = _Choice.read({"source": source}).source
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Return the bars as they were found."""
        return self._source.load()

    def save(self, data: None) -> None:
        """Refuse: bars are only read."""
        raise DatasetError("Bars are read-only: a source is never written back")

    def preview(self, nrows: int = _SHOWN) -> TablePreview:
        """Return the first bars as a table for kedro-viz."""
        head = self.load().head(nrows)
        rows = [
            [str(day)[:10], *values] for day, values in zip(head.index, head.to_numpy().tolist(), strict=True)
        ]
        columns = ["session", *head.columns]
        return TablePreview({"index": list(range(len(rows))), "columns": columns, "data": rows})

    def fingerprint(self) -> str:
        """Return the identity of what `load` would give: the source, and the content of a user's file."""
        path = Path(self._source.path) if isinstance(self._source, FileSource) else None
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else ""
        return content_hash(self._source, content)

    def _exists(self) -> bool:
        return not isinstance(self._source, FileSource) or Path(self._source.path).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source.model_dump(mode="json")}


def _read_table(path: Path) -> pd.DataFrame:
    suffix = next((ending for ending in _READERS if path.name.lower().endswith(ending)), None)
    if suffix is None:
        raise BarsError(str(path), f"end in {', '.join(_READERS)}", path.suffix, "convert the file")
    if not path.is_file():
        rule, got = ("be a file", "a directory") if path.is_dir() else ("exist", "no such file")
        raise BarsError(str(path), rule, got, "correct the path of the bars")
    try:
        table = _READERS[suffix](path)
    except pd.errors.EmptyDataError:
        raise BarsError(str(path), "hold a table", "an empty file", "fetch it again") from None
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        rule = f"be readable {suffix.removeprefix('.')}"
        raise BarsError(str(path), rule, str(error), "open it and compare, or fetch it again") from None
    if table.empty:
        raise BarsError(str(path), "hold at least one bar", "a header without rows", "fetch it again")
    return table if isinstance(table.index, pd.RangeIndex) else table.reset_index()


def _plain(column: str) -> str:
    return " ".join(column.replace("_", " ").lower().split())


def _listed(table: pd.DataFrame) -> str:
    return "the columns " + ", ".join(str(column) for column in table.columns)


def _near(wanted: str, table: pd.DataFrame) -> str:
    return suggest(wanted, [str(column) for column in table.columns])
