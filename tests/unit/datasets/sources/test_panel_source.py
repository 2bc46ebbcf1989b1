"""A panel holds each member's bars as they are, says what it left out, and names a member that fails."""

from pathlib import Path

import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.datasets.bars import BarsDataset
from finscale.features.bars import validate_bars

FIXTURES = Path(__file__).parents[3] / "fixtures"
SP500 = {"kind": "arch", "symbol": "sp500"}
NASDAQ = {"kind": "arch", "symbol": "nasdaq"}
SPY = {"kind": "file", "path": str(FIXTURES / "spy_daily_300.csv")}
FOREX = {"bars_per_session": 288, "opens_at": "17:00", "timezone": "America/New_York"}
EURUSD = {
    "kind": "file",
    "path": str(FIXTURES / "eurusd_5min_720.csv"),
    "timezone": "UTC",
    "sessions": FOREX,
}
SIMULATED = {"kind": "simulated", "process": "garch_t_daily", "n_sessions": 50}


def panel(**members: object) -> BarsDataset:
    return BarsDataset(source={"kind": "panel", "members": members})


def refusal(**members: object) -> str:
    with pytest.raises(FinscaleError) as found:
        panel(**members).load()
    return str(found.value)


def test_unequal_histories_stand_under_one_another_in_the_order_given() -> None:
    bars = panel(SPY=SPY, SP500=SP500).load()
    assert bars.index.names == ["instrument", "session"]
    assert bars.index.get_level_values(0).unique().tolist() == ["SPY", "SP500"]
    for name, source in {"SPY": SPY, "SP500": SP500}.items():
        alone = BarsDataset(source=source).load()
        pd.testing.assert_frame_equal(bars.loc[name], alone, check_dtype=False)
    assert len(validate_bars(bars, name="panel")) == 5331


def test_a_column_that_one_member_lacks_is_left_out_and_said(tmp_path: Path) -> None:
    frame = pd.read_csv(SPY["path"]).drop(columns="volume")
    frame.to_csv(path := tmp_path / "quotes.csv", index=False)
    bars = panel(SP500=SP500, Q={"kind": "file", "path": str(path)}).load()
    assert list(bars.columns) == ["open", "high", "low", "close"]
    assert "SP500: column volume left out, which other members lack" in bars.attrs["notes"]


def test_the_card_of_a_panel_tells_of_each_member() -> None:
    told = panel(SP500=SP500, S=SIMULATED).load().attrs
    assert told["source"] == "panel"
    assert told["symbol"] == "SP500, S"
    assert told["adjustments"] == "SP500: unadjusted (an index); S: as made"
    assert told["simulated"] is True
    assert told["calendar"] == "XNYS"
    assert any(note.startswith("SP500: before 2008 the open") for note in told["notes"])
    assert "S: SIMULATED garch_t_daily seed 0 (source simulated)" in told["notes"]


def test_intraday_members_share_their_sessions() -> None:
    bars = panel(A=EURUSD, B=EURUSD).load()
    assert bars.index.names == ["instrument", "opened_at"]
    assert bars.attrs["sessions"] == FOREX
    other = {**EURUSD, "sessions": {**FOREX, "opens_at": "00:00"}}
    assert "panel must have one rule of sessions, got A: {" in refusal(A=EURUSD, B=other)


def test_members_that_cannot_stand_together_are_refused() -> None:
    text = refusal(A=SP500, B=EURUSD)
    assert "panel must have one bar size, got A: session; B: opened_at" in text
    abroad = {**SPY, "calendar": "XLON"}
    assert "panel must have one calendar, got A: XNYS; B: XLON" in refusal(A=SP500, B=abroad)
    series = {"kind": "file", "path": SPY["path"], "channels": ["close"]}
    assert "panel must have one kind of table, got A: bars; B: series" in refusal(A=SP500, B=series)


def test_every_member_that_fails_is_named() -> None:
    text = refusal(A={"kind": "file", "path": "a.csv"}, B=SP500, C={"kind": "file", "path": "c.csv"})
    assert text.startswith("2 faults:")
    assert "panel member A: a.csv must exist" in text
    assert "panel member C: c.csv must exist" in text
    naive = {"kind": "file", "path": EURUSD["path"]}
    assert "panel member N: 2 faults:" in refusal(A=SP500, N=naive)


def test_faults_in_the_conf_of_members_come_at_once_and_name_them() -> None:
    with pytest.raises(FinscaleError) as found:
        panel(A={"kind": "arch", "symbol": "spx"}, B={"kind": "fiel"}, C={**SPY, "columns": {"clos": "x"}})
    text = str(found.value)
    assert text.startswith("3 faults:")
    assert "source.panel.members.A.arch.symbol must be 'sp500'" in text
    assert "source.panel.members.B.kind must be a known kind, got 'fiel'; did you mean 'file'?" in text
    assert "source.panel.members.C.file.columns.clos must be a canonical column" in text


def test_a_panel_in_a_panel_and_a_panel_of_one_are_refused() -> None:
    with pytest.raises(FinscaleError) as found:
        panel(A=SP500, B={"kind": "panel", "members": {"C": SPY, "D": NASDAQ}})
    assert "source.panel.members.B.kind must be the source of one instrument, got 'panel'" in str(found.value)
    with pytest.raises(FinscaleError, match=r"source\.panel\.members must"):
        panel(A=SP500)
    with pytest.raises(FinscaleError, match=r"source\.panel\.members must be given"):
        BarsDataset(source={"kind": "panel"})
