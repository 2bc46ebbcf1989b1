"""Bars from a file: found by obvious names, adjusted only when asked, refused with a remedy."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import Fault, FinscaleError
from finscale.datasets.sources.user_file import FileSource
from finscale.features.bars import validate_bars
from finscale.features.prepare import prepare_bars

FIXTURES = Path(__file__).parents[3] / "fixtures"
SPY = FIXTURES / "spy_daily_300.csv"
EURUSD = FIXTURES / "eurusd_5min_720.csv"
FOREX = {"bars_per_session": 288, "opens_at": "17:00", "timezone": "America/New_York"}
NYSE = {"bars_per_session": 390, "opens_at": "09:30", "timezone": "America/New_York"}


def from_file(path: Path, **options: object) -> FileSource:
    return FileSource.read({"path": str(path), **options}, subject="source.file")


def written(path: Path, *times: str, header: str = "time") -> Path:
    rows = [f"{time},10,12,9,11" for time in times]
    path.write_text("\n".join([f"{header},open,high,low,close", *rows, ""]))
    return path


@pytest.fixture
def yahoo(tmp_path: Path) -> Path:
    path = tmp_path / "yahoo.csv"
    path.write_text(
        "Date,Open,High,Low,Close,Adj Close,Volume\n"
        "2020-01-02,10,12,9,11,5.5,100\n2020-01-03,11,13,10,12,9,200\n"
    )
    return path


# ---- daily


def test_a_csv_of_three_hundred_real_bars_is_read() -> None:
    bars = validate_bars(from_file(SPY).load(), name="spy")
    assert bars.shape == (300, 5)
    assert bars.loc["2019-06-24"].tolist() == [294.23, 294.58, 293.47, 293.64, 47582730]
    told = {
        "source": "file",
        "symbol": "spy_daily_300.csv",
        "adjustments": "as in the file",
        "calendar": "XNYS",
    }
    assert bars.attrs == told


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


def test_a_saved_download_with_the_symbol_below_each_column_is_read(tmp_path: Path) -> None:
    frame = pd.read_csv(SPY, parse_dates=["date"], index_col="date")
    frame.columns = pd.MultiIndex.from_product([frame.columns, ["SPY"]], names=["Price", "Ticker"])
    frame.to_parquet(path := tmp_path / "download.parquet")
    pd.testing.assert_frame_equal(from_file(path).load(), from_file(SPY).load(), check_index_type=False)


def test_adjusted_close_is_left_alone_unless_asked_for(yahoo: Path) -> None:
    bars = from_file(yahoo).load()
    assert list(bars.columns) == ["open", "high", "low", "close", "volume"]
    assert bars["close"].tolist() == [11, 12]
    assert bars.attrs["adjustments"] == "as in the file; its adjusted close is not used"


def test_split_dividend_scales_prices_and_keeps_volume(yahoo: Path) -> None:
    bars = from_file(yahoo, adjust="split_dividend").load()
    np.testing.assert_allclose(bars["close"], [5.5, 9])
    np.testing.assert_allclose(bars["open"], [5, 8.25])
    np.testing.assert_allclose(bars["high"], [6, 9.75])
    np.testing.assert_allclose(bars["low"], [4.5, 7.5])
    assert bars["volume"].tolist() == [100, 200]
    assert bars.attrs["adjustments"].startswith("splits and dividends")
    assert bars.attrs["adjustments"].endswith("volume as in the file")


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


def test_a_mapped_column_that_is_not_there_is_named(yahoo: Path) -> None:
    with pytest.raises(Fault, match=r"must have the column Clos, got .*did you mean 'Close'\?"):
        from_file(yahoo, columns={"close": "Clos"}).load()


def test_days_with_midnight_and_an_offset_are_days(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "2020-03-06 00:00:00-05:00", "2020-03-09 00:00:00-04:00")
    bars = from_file(path).load()
    assert bars.index.name == "session"
    assert [str(day) for day in bars.index] == ["2020-03-06 00:00:00", "2020-03-09 00:00:00"]


# ---- intraday


def test_five_minute_bars_of_a_stated_timezone_are_instants_with_their_sessions() -> None:
    bars = from_file(EURUSD, timezone="UTC", sessions=FOREX).load()
    assert bars.index.name == "opened_at"
    assert str(bars.index.tz) == "UTC"
    assert (str(bars.index[0]), str(bars.index[-1])) == (
        "2014-05-01 00:00:00+00:00",
        "2014-05-05 11:55:00+00:00",
    )
    assert bars.attrs["sessions"] == FOREX
    assert bars.attrs["calendar"] == "XNYS"
    prepared = prepare_bars(bars, name="eurusd", timescale="intraday")
    assert [str(day.date()) for day in prepared["session"].unique()] == [
        "2014-05-01",
        "2014-05-02",
        "2014-05-05",
    ]
    assert prepared["slot"].max() == 287


def test_a_summer_and_a_winter_bar_of_the_same_wall_clock_are_an_hour_apart_in_utc(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "2020-01-02 09:30", "2020-07-02 09:30")
    bars = from_file(path, timezone="America/New_York", sessions=NYSE).load()
    assert [time.hour for time in bars.index] == [14, 13]


def test_a_naive_intraday_file_is_refused_with_both_remedies() -> None:
    with pytest.raises(FinscaleError) as found:
        from_file(EURUSD).load()
    text = str(found.value)
    assert text.startswith("2 faults:")
    assert "must come with its sessions, got intraday times (2014-05-01 00:05:00); add sessions: {" in text
    assert "must come with its timezone" in text
    assert "add timezone: UTC, or whatever the file's clock showed" in text


def test_times_with_an_offset_need_no_timezone_and_take_none(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "2020-10-25T01:30:00+01:00", "2020-10-25T01:30:00Z")
    bars = from_file(path, sessions=NYSE).load()
    assert [time.hour for time in bars.index] == [0, 1]
    with pytest.raises(Fault, match=r"without timezone, got times that carry their offset.*remove timezone"):
        from_file(path, sessions=NYSE, timezone="Europe/London").load()


def test_aware_times_of_parquet_are_instants(tmp_path: Path) -> None:
    frame = pd.read_csv(written(tmp_path / "x.csv", "2020-01-02 09:30", "2020-07-02 09:30"))
    frame["time"] = pd.to_datetime(frame["time"]).dt.tz_localize("America/New_York")
    frame.to_parquet(path := tmp_path / "x.parquet")
    assert [time.hour for time in from_file(path, sessions=NYSE).load().index] == [14, 13]


def test_a_daily_file_takes_neither_timezone_nor_sessions() -> None:
    with pytest.raises(FinscaleError) as found:
        from_file(SPY, timezone="UTC", sessions=NYSE).load()
    assert "must be read without timezone, got days without a time of day" in str(found.value)
    assert "must be read without sessions" in str(found.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timezone": "New_York"}, "timezone must be a name of the IANA database, got 'New_York'"),
        ({"columns": {"clsoe": "c"}}, "columns.clsoe must be a canonical column"),
        (
            {"calendar": "XNYC"},
            "calendar must be an exchange of exchange_calendars, got 'XNYC'; did you mean 'XNYS'?",
        ),
        ({"channels": ["a"], "adjust": "none", "timezone": "UTC"}, "must stand without adjust, timezone"),
        ({"sessions": {"bars_per_session": 0, "opens_at": "9", "timezone": "UTC"}}, "2 faults:"),
    ],
)
def test_a_faulty_option_is_refused_before_the_file_is_read(options: dict[str, object], message: str) -> None:
    with pytest.raises(FinscaleError) as found:
        from_file(Path("never.csv"), **options)
    assert message in str(found.value)


# ---- series


def test_the_channels_of_a_series_keep_their_names_order_and_times(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("date,HUFL,OT,note\n2016-07-01 00:00:00,5.8,30.5,x\n2016-07-01 01:00:00,5.6,27.7,y\n")
    series = from_file(path, channels=["OT", "HUFL"]).load()
    assert list(series.columns) == ["OT", "HUFL"]
    assert series.attrs["kind"] == "series"
    assert str(series.index[1]) == "2016-07-01 01:00:00"
    assert (series.dtypes == np.float64).all()
    assert len(prepare_bars(series, name="series")) == 2
    with pytest.raises(Fault, match=r"must have the column OTT, got .*; did you mean 'OT'\?"):
        from_file(path, channels=["OTT"]).load()


# ---- the real files, by conf alone


@pytest.mark.parametrize(
    ("name", "options", "timescale", "n_rows", "first", "last"),
    [
        ("spy_daily_1999_2020.csv", {}, "daily", 5_241, "1999-11-01", "2020-08-28"),
        (
            "eurusd_1h_mid_2007_2018.csv.gz",
            {"timezone": "UTC", "sessions": {**FOREX, "bars_per_session": 24}},
            "intraday",
            74_439,
            "2007-01-01 21:00:00+00:00",
            "2018-12-31 21:00:00+00:00",
        ),
        (
            "eurusd_5min_mid_2014_05.csv",
            {"timezone": "UTC", "sessions": FOREX},
            "intraday",
            3_744,
            "2014-05-01 00:00:00+00:00",
            "2018-04-04 23:55:00+00:00",
        ),
        (
            "sp500_1min_nov2019.csv",
            {"timezone": "America/New_York", "sessions": {**NYSE, "bars_per_session": 391}},
            "intraday",
            1_563,
            "2019-11-05 14:30:00+00:00",
            "2019-11-08 20:59:00+00:00",
        ),
        (
            "ETTh1.csv",
            {"channels": ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]},
            "daily",
            17_420,
            "2016-07-01 00:00:00",
            "2018-06-26 19:00:00",
        ),
    ],
)
def test_a_real_file_is_read_by_conf_alone_and_passes_the_door(
    test_data: Path,
    name: str,
    options: dict[str, object],
    timescale: str,
    n_rows: int,
    first: str,
    last: str,
) -> None:
    bars = prepare_bars(from_file(test_data / name, **options).load(), name=name, timescale=timescale)
    assert len(bars) == n_rows
    assert (bars.index[0], bars.index[-1]) == (pd.Timestamp(first), pd.Timestamp(last))
