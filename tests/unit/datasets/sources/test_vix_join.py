"""The VIX on each session is the latest that was known, never a later one and never a stale one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.datasets.bars import BarsDataset
from finscale.datasets.sources.vix import TOLERANCE, join_vix

FIXTURES = Path(__file__).parents[3] / "fixtures"


def bars_on(*days: str) -> pd.DataFrame:
    frame = pd.DataFrame({"close": np.arange(1.0, len(days) + 1)}, pd.DatetimeIndex(days, name="session"))
    frame.attrs = {"symbol": "bars", "source": "test", "notes": ["one"]}
    return frame


def vix_of(values: dict[str, float]) -> pd.DataFrame:
    frame = pd.DataFrame({"close": values.values()}, pd.DatetimeIndex(list(values), name="session"))
    frame.attrs = {"symbol": "^VIX", "source": "test", "notes": ["of the test"]}
    return frame


def refusal(bars: pd.DataFrame, vix: pd.DataFrame) -> str:
    with pytest.raises(FinscaleError) as found:
        join_vix(bars, vix)
    return str(found.value)


def test_each_bar_gets_the_value_of_its_day_or_the_last_one_before() -> None:
    vix = vix_of({"2020-01-02": 12.0, "2020-01-03": 14.0, "2020-01-07": 13.0})
    found = join_vix(bars_on("2020-01-02", "2020-01-03", "2020-01-06", "2020-01-07"), vix)
    assert found["vix"].tolist() == [12, 14, 14, 13]


def test_a_later_value_changes_no_earlier_bar() -> None:
    days = ["2020-01-02", "2020-01-03", "2020-01-06"]
    values = {"2020-01-02": 12.0, "2020-01-06": 13.0}
    before = join_vix(bars_on(*days), vix_of(values))["vix"]
    after = join_vix(bars_on(*days), vix_of({**values, "2020-01-06": 99.0}))["vix"]
    assert before.iloc[:2].equals(after.iloc[:2])
    assert after.iloc[2] == 99


def test_bars_before_the_first_value_have_none_and_bars_long_after_the_last_are_cut() -> None:
    last = pd.Timestamp("2020-01-03")
    edge, beyond = str((last + TOLERANCE).date()), str((last + TOLERANCE + pd.Timedelta(days=1)).date())
    vix = vix_of({"2020-01-02": 12.0, "2020-01-03": 14.0})
    found = join_vix(bars_on("2019-12-31", "2020-01-02", edge, beyond), vix)
    assert found["close"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found["vix"], [np.nan, 12, 14])
    assert found.attrs["notes"] == [
        "one",
        "vix: ^VIX (source test), 2020-01-02 to 2020-01-03",
        "vix: of the test",
        "1 bars before the first VIX have none",
        "1 bars after the last VIX were cut",
    ]


def test_missing_values_of_the_vix_are_no_values() -> None:
    vix = vix_of({"2020-01-02": 12.0, "2020-01-03": np.nan, "2020-01-06": 13.0})
    assert join_vix(bars_on("2020-01-03", "2020-01-06"), vix)["vix"].tolist() == [12, 13]


def test_a_hole_in_the_vix_is_refused() -> None:
    text = refusal(bars_on("2020-01-02", "2020-01-20"), vix_of({"2020-01-02": 12.0, "2020-02-03": 14.0}))
    assert "vix must have a value in the 7 days before each bar" in text
    assert "none for 1 bars (2020-01-20)" in text


def test_a_vix_of_other_years_and_one_out_of_order_are_refused() -> None:
    text = refusal(bars_on("2020-01-02"), vix_of({"2021-01-04": 12.0}))
    assert "vix must share days with the bars, got 2021-01-04 to 2021-01-04" in text
    text = refusal(bars_on("2020-01-02"), vix_of({"2020-01-03": 12.0, "2020-01-02": 12.0}))
    assert "vix must have one value per date, in order" in text


def test_each_instrument_of_a_panel_gets_the_vix_of_its_days() -> None:
    members = {"A": bars_on("2020-01-02", "2020-01-03"), "B": bars_on("2020-01-03", "2020-02-03")}
    bars = pd.concat(members, names=["instrument"])
    found = join_vix(bars, vix_of({"2020-01-02": 12.0, "2020-01-03": 14.0}))
    assert found["vix"].tolist() == [12, 14, 14]
    assert found.index.names == ["instrument", "session"]


def test_a_file_of_one_channel_serves_as_the_vix(tmp_path: Path) -> None:
    path = tmp_path / "vixcls.csv"
    path.write_text("DATE,VIXCLS,OTHER\n2019-06-24,15.26,1\n2019-06-25,16.28,1\n")
    spy = {"kind": "file", "path": str(FIXTURES / "spy_daily_300.csv")}
    vix = {"kind": "file", "path": str(path), "channels": ["VIXCLS"]}
    bars = BarsDataset(source=spy, vix=vix).load()
    assert bars["vix"].tolist()[:3] == [15.26, 16.28, 16.28]
    with pytest.raises(
        FinscaleError, match="must have a close, or one column, got the columns VIXCLS, OTHER"
    ):
        BarsDataset(source=spy, vix={**vix, "channels": ["VIXCLS", "OTHER"]}).load()


def test_intraday_bars_and_a_panel_for_a_vix_are_refused() -> None:
    sessions = {"bars_per_session": 288, "opens_at": "17:00", "timezone": "America/New_York"}
    path = str(FIXTURES / "eurusd_5min_720.csv")
    eurusd = {"kind": "file", "path": path, "timezone": "UTC", "sessions": sessions}
    with pytest.raises(FinscaleError, match="bars with a vix must be daily, got intraday bars"):
        BarsDataset(source=eurusd, vix={"kind": "arch", "symbol": "vix"}).load()
    sp500 = {"kind": "arch", "symbol": "sp500"}
    with pytest.raises(FinscaleError, match="vix must be one instrument, got a panel"):
        BarsDataset(source=sp500, vix={"kind": "panel", "members": {"A": sp500, "B": sp500}}).load()
