"""Yahoo's bars are asked for once, kept as they came, and never restated in silence.

The package yfinance is played by a stand-in with its names and its manners: it hides its errors unless
``config.debug.hide_exceptions`` is off, and its index carries the exchange's timezone.
"""

import builtins
import re
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from finscale.core.errors import Fault, FinscaleError
from finscale.datasets.bars import BarsDataset
from finscale.datasets.sources.yahoo import YahooSource
from finscale.features.bars import validate_bars

DAYS = ["2020-03-05", "2020-03-06", "2020-03-09"]  # the clocks change on the 8th


class Answer:
    """What Yahoo says when it is asked, and what it was asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, object]] = []
        self.error: Exception | None = None
        index = pd.DatetimeIndex(DAYS, name="Date").tz_localize("America/New_York")
        rows = {"Open": 10.0, "High": 12.0, "Low": 9.0, "Close": 11.0, "Adj Close": 5.5, "Volume": 100}
        self.frame = pd.DataFrame(rows, index)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    said = Answer()
    package = ModuleType("yfinance")
    package.config = SimpleNamespace(debug=SimpleNamespace(hide_exceptions=True))
    package.exceptions = ModuleType("yfinance.exceptions")
    package.exceptions.YFException = type("YFException", (Exception,), {})
    for name in ("YFTickerMissingError", "YFRateLimitError", "YFDataException"):
        setattr(package.exceptions, name, type(name, (package.exceptions.YFException,), {}))

    class Ticker:
        def __init__(self, symbol: str) -> None:
            self.symbol = symbol

        def history(self, **options: object) -> pd.DataFrame:
            said.calls.append({"symbol": self.symbol, **options})
            if said.error is not None and not package.config.debug.hide_exceptions:
                raise said.error
            return said.frame.iloc[:0] if said.error is not None else said.frame.copy()

    package.Ticker = Ticker
    said.package = package
    monkeypatch.setitem(sys.modules, "yfinance", package)
    return said


def spy(folder: Path, **options: object) -> YahooSource:
    values = {"symbol": "SPY", "folder": str(folder), "start": "2020-03-01", "end": "2020-03-09", **options}
    return YahooSource.read(values, subject="source.yfinance")


def refusal(load: Callable[[], object]) -> Fault:
    with pytest.raises(Fault) as found:
        load()
    assert found.value.remedy
    return found.value


def test_yahoo_is_asked_for_unadjusted_days_and_the_last_one_is_included(
    tmp_path: Path, answer: Answer
) -> None:
    spy(tmp_path).load()
    assert answer.calls == [
        {
            "symbol": "SPY",
            "period": "max",
            "interval": "1d",
            "start": "2020-03-01",
            "end": "2020-03-10",
            "auto_adjust": False,
            "actions": False,
        }
    ]


def test_the_download_becomes_bars_named_by_the_day_of_the_exchange(tmp_path: Path, answer: Answer) -> None:
    bars = validate_bars(spy(tmp_path).load(), name="SPY")
    assert [str(day.date()) for day in bars.index] == DAYS
    assert list(bars.columns) == ["open", "high", "low", "close", "volume"]
    assert bars["close"].tolist() == [11, 11, 11]
    assert bars.attrs["symbol"] == "SPY"
    assert bars.attrs["adjustments"] == "splits by Yahoo, not dividends; volume adjusted for splits"
    assert bars.attrs["calendar"] == "XNYS"


def test_a_second_load_reads_the_file_even_if_yahoo_would_answer_otherwise(
    tmp_path: Path, answer: Answer
) -> None:
    first = spy(tmp_path).load()
    answer.frame = answer.frame * 2
    again = spy(tmp_path).load()
    assert len(answer.calls) == 1
    pd.testing.assert_frame_equal(first, again)
    assert first.attrs == again.attrs


def test_deleting_the_file_downloads_again_and_the_note_says_when_and_how(
    tmp_path: Path, answer: Answer
) -> None:
    source = spy(tmp_path)
    [note] = source.load().attrs["notes"]
    assert re.fullmatch(
        r"downloaded \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00; "
        r"delete yfinance_SPY_2020-03-01_2020-03-09\.parquet to download it again",
        note,
    )
    source.path.unlink()
    answer.frame = answer.frame * 2
    assert source.load()["close"].tolist() == [22, 22, 22]


def test_the_file_holds_what_yahoo_sent_and_adjusting_is_done_on_loading(
    tmp_path: Path, answer: Answer
) -> None:
    adjusted = spy(tmp_path, adjust="split_dividend")
    bars = adjusted.load()
    np.testing.assert_allclose(bars[["open", "high", "low", "close"]].iloc[0], [5, 6, 4.5, 5.5])
    assert bars["volume"].tolist() == [100, 100, 100]
    assert bars.attrs["adjustments"].startswith("splits by Yahoo, dividends by its adjusted close")
    kept = pd.read_parquet(adjusted.path)
    assert list(kept.columns) == ["Open", "High", "Low", "Close", "Adj Close", "Volume"]
    assert kept["Close"].tolist() == [11, 11, 11]
    assert spy(tmp_path).load()["close"].tolist() == [11, 11, 11]
    assert len(answer.calls) == 1


def test_columns_that_carry_the_symbol_are_flattened(tmp_path: Path, answer: Answer) -> None:
    names = pd.MultiIndex.from_product([answer.frame.columns, ["SPY"]], names=["Price", "Ticker"])
    answer.frame = answer.frame.set_axis(names, axis=1)
    assert spy(tmp_path).load()["close"].tolist() == [11, 11, 11]


def test_a_download_that_breaks_off_leaves_no_file(
    tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(_table: object, file: Any, **_: object) -> None:
        file.write(b"PAR1")
        raise OSError("disk full")

    monkeypatch.setattr(pyarrow.parquet, "write_table", torn)
    with pytest.raises(OSError, match="disk full"):
        spy(tmp_path).load()
    assert list(tmp_path.iterdir()) == []


def test_without_an_end_the_unfinished_day_is_not_asked_for(tmp_path: Path, answer: Answer) -> None:
    spy(tmp_path, start=None, end=None).load()
    assert answer.calls[0]["start"] is None
    assert answer.calls[0]["end"] in {str((datetime.now(UTC) - timedelta(hours=h)).date()) for h in (0, 1)}
    tomorrow = str((datetime.now(UTC) + timedelta(days=1)).date())
    fault = refusal(spy(tmp_path, end=tomorrow).load)
    assert str(fault).startswith("yfinance SPY.end must be before today")
    assert len(answer.calls) == 1


def test_symbols_and_spans_have_files_of_their_own(tmp_path: Path) -> None:
    sources = [
        spy(tmp_path),
        spy(tmp_path, symbol="^VIX"),
        spy(tmp_path, symbol="BRK/B"),
        spy(tmp_path, start=None),
        spy(tmp_path, end=None),
    ]
    assert len({source.path for source in sources}) == len(sources)
    assert {source.path.parent for source in sources} == {tmp_path}
    assert spy(tmp_path, symbol=" spy ", start=date(2020, 3, 1)).path == sources[0].path


@pytest.mark.parametrize(
    ("make", "message", "remedy"),
    [
        (lambda e: e.YFTickerMissingError("$SPY: no timezone"), "be known to Yahoo", "check the symbol"),
        (lambda e: e.YFRateLimitError("Too Many Requests"), "be answered by Yahoo", "wait and run again"),
        (lambda e: e.YFDataException("down"), "be answered by Yahoo", "wait and run again"),
        (lambda e: KeyError("timestamp"), "be understood by yfinance", "update yfinance"),
        (lambda e: OSError("Could not resolve host"), "reach Yahoo", "check the network"),
    ],
)
def test_what_yahoo_refuses_is_one_fault_with_its_remedy(
    tmp_path: Path, answer: Answer, make: Callable[[ModuleType], Exception], message: str, remedy: str
) -> None:
    answer.error = make(answer.package.exceptions)
    fault = refusal(BarsDataset(source={"kind": "yfinance", **spy(tmp_path).model_dump()}).load)
    assert f"yfinance SPY must {message}, got" in str(fault)
    assert remedy in fault.remedy
    assert list(tmp_path.iterdir()) == []
    assert answer.package.config.debug.hide_exceptions is True


def test_a_page_that_is_not_found_means_an_unknown_symbol(tmp_path: Path, answer: Answer) -> None:
    answer.error = OSError("HTTP Error 404")
    answer.error.response = SimpleNamespace(status_code=404)
    assert "must be known to Yahoo, got HTTP Error 404" in str(refusal(spy(tmp_path).load))


def test_an_empty_answer_is_a_fault_and_is_not_kept(tmp_path: Path, answer: Answer) -> None:
    answer.frame = answer.frame.iloc[:0]
    assert "yfinance SPY must have bars, got an empty answer" in str(refusal(spy(tmp_path).load))
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_the_extra_is_named_unless_the_file_is_there(
    tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = spy(tmp_path)
    source.load()
    real = builtins.__import__

    def missing(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("yfinance"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setitem(sys.modules, "yfinance", None)
    monkeypatch.setattr(builtins, "__import__", missing)
    assert len(source.load()) == 3
    fault = refusal(spy(tmp_path, symbol="QQQ").load)
    assert 'pip install "finscale[yahoo]"' in fault.remedy


def test_a_file_that_is_no_download_is_not_taken_for_one(tmp_path: Path, answer: Answer) -> None:
    source = spy(tmp_path)
    answer.frame.to_parquet(source.path)
    assert "must say when it was downloaded" in str(refusal(source.load))


def test_the_fingerprint_is_that_of_the_download(tmp_path: Path, answer: Answer) -> None:
    source = spy(tmp_path)
    before = source.fingerprint()
    assert source.exists()
    source.load()
    assert source.fingerprint() == before
    source.path.unlink()
    answer.frame = answer.frame * 2
    assert source.fingerprint() != before


def test_yahoos_vix_goes_beside_the_bars(tmp_path: Path, answer: Answer) -> None:
    vix = {"kind": "yfinance", "symbol": "^VIX", "folder": str(tmp_path)}
    fixture = Path(__file__).parents[3] / "fixtures" / "spy_daily_300.csv"
    frame = pd.read_csv(fixture).assign(date=pd.bdate_range("2020-03-05", periods=300).astype(str))
    frame.iloc[:3].to_csv(path := tmp_path / "spy.csv", index=False)
    bars = BarsDataset(source={"kind": "file", "path": str(path)}, vix=vix).load()
    assert bars["vix"].tolist() == [11, 11, 11]
    assert any(note.startswith("vix: ^VIX (source yfinance)") for note in bars.attrs["notes"])
    assert any(note.startswith("vix: downloaded ") for note in bars.attrs["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "2020-03-10"}, "start must be at most end 2020-03-09, got '2020-03-10'"),
        ({"end": "soon"}, "start and end must be dates, got 'soon'"),
        ({"symbol": " "}, "source.yfinance.symbol must"),
    ],
)
def test_a_faulty_span_is_refused_before_yahoo_is_asked(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(FinscaleError) as found:
        spy(tmp_path, **options)
    assert message in str(found.value)
