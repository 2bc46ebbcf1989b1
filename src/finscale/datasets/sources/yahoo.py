"""Daily bars from Yahoo, through the package yfinance: downloaded once, then read from disk.

A second download would restate history (every later dividend moves all adjusted closes before it), so
none happens unless the user deletes the file. The file holds what Yahoo sent, with the instant of the
download; adjusting is done on loading.
"""

import contextlib
import hashlib
import importlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal
from urllib.parse import quote

import pandas as pd
from pydantic import BeforeValidator, StringConstraints, model_validator

from finscale.core.errors import Fault
from finscale.core.files import replacing
from finscale.core.hashing import content_hash
from finscale.datasets.sources.source import BarsError, Source
from finscale.datasets.sources.table import read_table
from finscale.datasets.sources.user_file import adjusted
from finscale.features.bars import BAR_COLUMNS, PRICES
from finscale.features.exchange import CalendarName

__all__ = ["YahooSource"]

_HTTP_NOT_FOUND = 404
_CHECK = "check the symbol at finance.yahoo.com, and start and end"


def _as_day(day: Any) -> Any:
    try:
        return None if day is None else str(pd.Timestamp(day).date())
    except (ValueError, TypeError):
        raise Fault("start and end", "be dates", day, "write 2000-01-03") from None


Day = Annotated[str | None, BeforeValidator(_as_day)]


class YahooSource(Source):
    """One symbol of Yahoo; needs the extra ``[yahoo]`` for the first load only.

    Attributes
    ----------
    symbol : str
        As Yahoo writes it: ``SPY``, ``^VIX``, ``BRK-B``.
    folder : str
        Where the download is kept.
    start, end : str, optional
        First and last day asked for, both included. Without ``end``, the last is the day before the
        download: today's bar is not finished.
    adjust : str
        Yahoo's prices and volumes are already adjusted for splits. ``none`` leaves them so;
        ``split_dividend`` scales the prices by adjusted close / close, which takes dividends out too.
    calendar : str
        The exchange calendar on which weeks and months are counted.
    """

    kind: Literal["yfinance"] = "yfinance"
    symbol: Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, min_length=1)]
    folder: str
    start: Day = None
    end: Day = None
    adjust: Literal["none", "split_dividend"] = "none"
    calendar: CalendarName = "XNYS"

    @model_validator(mode="after")
    def _in_order(self) -> "YahooSource":
        if self.start and self.end and self.start > self.end:
            raise Fault("start", f"be at most end {self.end}", self.start, "exchange them")
        return self

    @property
    def path(self) -> Path:
        """The file that holds the download."""
        span = f"{self.start or 'first'}_{self.end or 'last'}"
        return Path(self.folder) / f"yfinance_{quote(self.symbol, safe='')}_{span}.parquet"

    def load(self) -> pd.DataFrame:
        """Return the bars; download them if the file is not there."""
        if not self.exists():
            self._fetch()
        table = read_table(self.path)
        if "fetched_at" not in table.frame.attrs:
            rule, remedy = (
                "say when it was downloaded",
                "delete it to download again, or read it as kind: file",
            )
            raise BarsError(str(self.path), rule, "a file of other origin", remedy)
        fetched_at = table.frame.attrs["fetched_at"]
        found = table.need((*PRICES, "adj_close"), mapping={})
        raw = pd.DataFrame({name: table.numbers(column, name=name) for name, column in found.items()})
        raw.index = pd.DatetimeIndex(table.dates(None), name="session")
        bars = adjusted(raw) if self.adjust == "split_dividend" else raw
        bars = bars[[name for name in BAR_COLUMNS if name in bars]]
        bars.attrs = {
            "source": self.kind,
            "symbol": self.symbol,
            "adjustments": self._adjustments,
            "notes": [f"downloaded {fetched_at}; delete {self.path.name} to download it again"],
            "calendar": self.calendar,
        }
        return bars

    def exists(self) -> bool:
        """Return whether it was downloaded."""
        return self.path.is_file()

    def fingerprint(self) -> str:
        """Return the identity of the source and of the download, which is made if there is none."""
        if not self.exists():
            self._fetch()
        return content_hash(self, hashlib.sha256(self.path.read_bytes()).hexdigest())

    @property
    def _adjustments(self) -> str:
        if self.adjust == "split_dividend":
            return "splits by Yahoo, dividends by its adjusted close; volume adjusted for splits"
        return "splits by Yahoo, not dividends; volume adjusted for splits"

    def _fetch(self) -> None:
        """Ask Yahoo and keep the answer."""
        fetched_at = datetime.now(UTC)
        yesterday = str((fetched_at - timedelta(days=1)).date())
        last = self.end or yesterday
        if last > yesterday:
            remedy = "leave end out for all finished days"
            raise BarsError(f"{self._subject}.end", "be before today", last, remedy)
        frame = self._asked(last)
        if frame.empty:
            raise BarsError(self._subject, "have bars", "an empty answer", _CHECK)
        frame.index = pd.DatetimeIndex(frame.index, name="Date").tz_localize(None)
        frame.attrs = {"symbol": self.symbol, "fetched_at": fetched_at.isoformat(timespec="seconds")}
        with replacing(self.path) as temporary:
            frame.to_parquet(temporary)

    def _asked(self, last: str) -> pd.DataFrame:
        yfinance = self._package()
        after = str((pd.Timestamp(last) + pd.Timedelta(days=1)).date())
        span = {"period": "max", "start": self.start, "end": after, "interval": "1d"}
        try:
            with _speaking(yfinance):
                ticker = yfinance.Ticker(self.symbol)
                frame: pd.DataFrame = ticker.history(**span, auto_adjust=False, actions=False)
        except Exception as error:  # it reads web pages: anything can come out
            raise self._refusal(error, yfinance.exceptions) from error
        return frame

    def _package(self) -> ModuleType:
        try:
            return importlib.import_module("yfinance")
        except ImportError as error:
            remedy = 'pip install "finscale[yahoo]", or give the bars as a file'
            raise BarsError(self._subject, "be downloaded by yfinance", str(error), remedy) from None

    def _refusal(self, error: Exception, exceptions: ModuleType) -> BarsError:
        """Tell a symbol that Yahoo does not have from a network that is not there."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, exceptions.YFTickerMissingError) or status == _HTTP_NOT_FOUND:
            return BarsError(self._subject, "be known to Yahoo", str(error), _CHECK)
        if isinstance(error, exceptions.YFException):
            return BarsError(self._subject, "be answered by Yahoo", str(error), "wait and run again")
        if isinstance(error, OSError):
            remedy = "check the network and run again, or give the bars as a file"
            return BarsError(self._subject, "reach Yahoo", str(error), remedy)
        remedy = f"{_CHECK}, update yfinance, or give the bars as a file"
        return BarsError(self._subject, "be understood by yfinance", repr(error), remedy)

    @property
    def _subject(self) -> str:
        return f"yfinance {self.symbol}"


@contextlib.contextmanager
def _speaking(yfinance: ModuleType) -> Iterator[None]:
    """Let yfinance raise its errors; it would log them and return an empty table."""
    before = yfinance.config.debug.hide_exceptions
    yfinance.config.debug.hide_exceptions = False
    try:
        yield
    finally:
        yfinance.config.debug.hide_exceptions = before
