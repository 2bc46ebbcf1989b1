"""Bars from their sources: found by obvious names, adjusted only when asked, refused with a remedy."""

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from finscale.core.errors import Fault, FinscaleError
from finscale.datasets.bars import BarsDataset
from finscale.features.bars import validate_bars

SPY = Path(__file__).parents[2] / "fixtures" / "spy_daily_300.csv"


def from_file(path: Path, **options: object) -> BarsDataset:
    return BarsDataset(source={"kind": "file", "path": str(path), **options})


@pytest.fixture
def yahoo(tmp_path: Path) -> Path:
    path = tmp_path / "yahoo.csv"
    path.write_text(
        "Date,Open,High,Low,Close,Adj Close,Volume\n"
        "2020-01-02,10,12,9,11,5.5,100\n2020-01-03,11,13,10,12,9,200\n"
    )
    return path


@pytest.mark.parametrize(("symbol", "first_close"), [("sp500", 1228.099976), ("nasdaq", 2208.050049)])
def test_bundled_indices_are_valid_bars(symbol: str, first_close: float) -> None:
    bars = BarsDataset(source={"kind": "arch", "symbol": symbol}).load()
    valid = validate_bars(bars, name=symbol)
    assert len(valid) == 5031
    assert valid["close"].iloc[0] == first_close
    assert valid.attrs["symbol"] == symbol


def test_the_known_fault_of_the_bundled_index_is_real_and_on_its_card() -> None:
    bars = BarsDataset(source={"kind": "arch", "symbol": "sp500"}).load()
    stale = (bars["open"] / bars["close"].shift() - 1).abs() < 1e-6
    assert stale[:"2007"].mean() > 0.5
    assert stale["2008":].mean() < 0.1
    assert "before 2008 the open often equals the previous close" in bars.attrs["notes"][0]


def test_a_csv_of_three_hundred_real_bars_is_read() -> None:
    bars = validate_bars(from_file(SPY).load(), name="spy")
    assert bars.shape == (300, 5)
    assert bars.loc["2019-06-24"].tolist() == [294.23, 294.58, 293.47, 293.64, 47582730]
    assert bars.attrs == {"source": "file", "symbol": "spy_daily_300.csv", "adjustments": "none"}


def test_the_whole_file_of_real_bars_is_valid(test_data: Path) -> None:
    assert len(validate_bars(from_file(test_data / "spy_daily_1999_2020.csv").load(), name="spy")) == 5241


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".pq", ".CSV"])
@pytest.mark.parametrize("dates_in_index", [False, True])
def test_every_format_gives_the_same_bars(tmp_path: Path, suffix: str, dates_in_index: bool) -> None:
    frame, path = pd.read_csv(SPY, parse_dates=["date"]), tmp_path / f"spy{suffix}"
    if dates_in_index:
        frame = frame.set_index("date")
    if "csv" in suffix.lower():
        frame.to_csv(path, index=dates_in_index)
    else:
        frame.to_parquet(path)
    found = validate_bars(from_file(path).load(), name="spy")
    pd.testing.assert_frame_equal(found, validate_bars(from_file(SPY).load(), name="spy"))


def test_adjusted_close_is_left_alone_unless_asked_for(yahoo: Path) -> None:
    bars = from_file(yahoo).load()
    assert list(bars.columns) == ["open", "high", "low", "close", "volume"]
    assert bars["close"].tolist() == [11, 12]
    assert bars.attrs["adjustments"] == "none; the file's adjusted close is not used"


def test_split_dividend_scales_prices_and_keeps_volume(yahoo: Path) -> None:
    bars = from_file(yahoo, adjust="split_dividend").load()
    np.testing.assert_allclose(bars["close"], [5.5, 9])
    np.testing.assert_allclose(bars["open"], [5, 8.25])
    np.testing.assert_allclose(bars["high"], [6, 9.75])
    np.testing.assert_allclose(bars["low"], [4.5, 7.5])
    assert bars["volume"].tolist() == [100, 200]
    assert bars.attrs["adjustments"].startswith("splits and dividends")


def test_columns_are_mapped_when_their_names_are_not_obvious(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("Tag,o,h,l,Last Price,x\n20200102,10,12,9,11,0\n20200103,11,13,10,12,0\n")
    columns = {"open": "o", "high": "H", "low": "l", "close": "last_price"}
    bars = validate_bars(from_file(path, columns=columns, date_column="tag").load(), name="odd")
    assert list(bars.columns) == ["open", "high", "low", "close"]
    assert [str(day.date()) for day in bars.index] == ["2020-01-02", "2020-01-03"]


def test_rows_come_as_they_are_so_that_validation_can_complain(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("date,open,high,low,close\n2020-01-03,1,2,1,1\n2020-01-02,1,2,1,\n2020-01-02,1,2,1,1\n")
    bars = from_file(path).load()
    assert len(bars) == 3
    with pytest.raises(FinscaleError) as found:
        validate_bars(bars, name="bad.csv")
    assert str(found.value).startswith("3 faults:")


FILES = {
    "missing column": ("date,open,high,low\n2020-01-02,1,1,1\n", "must have the column close, got the co"),
    "missing date": ("day,open,high,low,close\n2020-01-02,1,1,1,1\n", "name it with date_column"),
    "not a date": ("date,open,high,low,close\nsoon,1,1,1,1\n", ".date must hold dates, got"),
    "epoch seconds": ("date,open,high,low,close\n1577923200,1,1,1,1\n", ".date must hold dates, got"),
    "text in a price": ("date,open,high,low,close\n2020-01-02,1,1,1,n/k\n", ".close must hold numbers, got"),
    "two closes": ("date,open,high,low,close,CLOSE\n0,1,1,1,1,1\n", "one with columns: {close: ...}"),
    "two dates": ("date,time,open,high,low,close\n0,1,1,1,1,1\n", "choose one with date_column"),
    "no rows": ("date,open,high,low,close\n", "must hold at least one bar"),
    "empty": ("", "must hold a table, got an empty file"),
    "ragged": ("a,b\n1,2\n1,2,3,4\n", "must be readable csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_faulty_file_is_a_fault_with_a_remedy(tmp_path: Path, case: str) -> None:
    text, message = FILES[case]
    path = tmp_path / "bars.csv"
    path.write_text(text)
    with pytest.raises(Fault) as found:
        from_file(path).load()
    assert message in str(found.value)
    assert found.value.remedy


def test_a_missing_a_damaged_and_a_foreign_file_are_faults(tmp_path: Path) -> None:
    damaged = tmp_path / "bars.parquet"
    damaged.write_bytes(b"PAR1 not really")
    for path, rule in [
        (tmp_path / "none.csv", "exist"),
        (tmp_path, "end in .csv"),
        (tmp_path / "bars.xlsx", "end in .csv, .csv.gz, .parquet, .pq"),
        (damaged, "be readable parquet"),
    ]:
        with pytest.raises(Fault) as found:
            from_file(path).load()
        assert f"must {rule}" in str(found.value)


def test_split_dividend_without_adjusted_close_is_refused() -> None:
    with pytest.raises(Fault) as found:
        from_file(SPY, adjust="split_dividend").load()
    assert "must have the column adj_close" in str(found.value)
    assert found.value.remedy.endswith("or set adjust: none")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "arch", "symbol": "spx"}, "source.arch.symbol must be 'sp500' or 'nasdaq', got 'spx'"),
        ({"kind": "yahoo"}, "source.kind must be arch or file, got 'yahoo'"),
        ({"kind": "file"}, "source.file.path must be given"),
        ({"kind": "file", "path": "x.csv", "adjst": "none"}, "did you mean 'adjust'?"),
        ({"kind": "file", "path": "x.csv", "columns": {"clsoe": "c"}}, "did you mean 'close'?"),
    ],
)
def test_a_faulty_source_is_refused_at_once(source: dict[str, object], message: str) -> None:
    with pytest.raises(FinscaleError) as found:
        BarsDataset(source=source)
    assert message in str(found.value)


def test_a_mapped_column_that_is_not_there_is_named(yahoo: Path) -> None:
    with pytest.raises(Fault, match=r"must have the column Clos, got .*did you mean 'Close'\?"):
        from_file(yahoo, columns={"close": "Clos"}).load()


def test_bars_are_read_only() -> None:
    with pytest.raises(DatasetError, match="read-only"):
        from_file(SPY).save(pd.DataFrame())


def test_exists_follows_the_file(tmp_path: Path) -> None:
    assert from_file(SPY).exists()
    assert not from_file(tmp_path / "none.csv").exists()
    assert BarsDataset(source={"kind": "arch", "symbol": "sp500"}).exists()


def test_the_fingerprint_follows_the_source_and_the_content_of_its_file(yahoo: Path) -> None:
    before = from_file(yahoo).fingerprint()
    assert from_file(yahoo).fingerprint() == before
    assert from_file(yahoo, adjust="split_dividend").fingerprint() != before
    yahoo.write_text(yahoo.read_text().replace("5.5", "5.6"))
    assert from_file(yahoo).fingerprint() != before
    bundled = {BarsDataset(source={"kind": "arch", "symbol": s}).fingerprint() for s in ("sp500", "nasdaq")}
    assert len(bundled) == 2


def test_the_preview_is_a_table_that_kedro_viz_can_show() -> None:
    import json

    table = from_file(SPY).preview(nrows=2)
    assert table["columns"] == ["session", "open", "high", "low", "close", "volume"]
    assert table["data"][0] == ["2019-06-24", 294.23, 294.58, 293.47, 293.64, 47582730.0]
    assert json.loads(json.dumps(table)) == table
    assert inspect.signature(BarsDataset.preview).return_annotation.__name__ == "TablePreview"
