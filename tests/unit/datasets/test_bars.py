"""The dataset of bars: every fault of its conf at once, lazy, read-only, known by its content."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from finscale.core.errors import FinscaleError
from finscale.datasets.bars import BarsDataset
from finscale.features.bars import validate_bars

FIXTURES = Path(__file__).parents[2] / "fixtures"
SPY = FIXTURES / "spy_daily_300.csv"
SP500 = {"kind": "arch", "symbol": "sp500"}
NASDAQ = {"kind": "arch", "symbol": "nasdaq"}
VIX = {"kind": "arch", "symbol": "vix"}
SESSIONS = {"bars_per_session": 288, "opens_at": "17:00", "timezone": "America/New_York"}


def from_file(path: Path, **options: object) -> BarsDataset:
    return BarsDataset(source={"kind": "file", "path": str(path), **options})


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        ({"kind": "arch", "symbol": "spx"}, ["source.arch.symbol must be 'sp500', 'nasdaq' or 'vix', got"]),
        ({"kind": "fil"}, ["source.kind must be a known kind, got 'fil'; did you mean 'file'?"]),
        ({"symbol": "sp500"}, ["source.kind must be a known kind, got None"]),
        ("sp500", ["source must be a mapping, got 'sp500'; try {kind: arch"]),
        ({"kind": "file"}, ["source.file.path must be given"]),
        ({"kind": "file", "path": "x.csv", "adjst": "none"}, ["did you mean 'adjust'?"]),
        ({"kind": "simulated", "process": "garch"}, ["source.process must be a known process, got 'garch'"]),
        (
            {"kind": "simulated", "process": "intraday_sessions", "nuu": 3, "beta": "x"},
            ["source.simulated.beta must be", "source.simulated.nuu must be a known key", "'nu'?"],
        ),
    ],
)
def test_a_faulty_source_is_refused_at_once(source: dict[str, object], messages: list[str]) -> None:
    with pytest.raises(FinscaleError) as found:
        BarsDataset(source=source)
    assert all(message in str(found.value) for message in messages), str(found.value)


def test_faults_of_the_bars_and_of_their_vix_come_together() -> None:
    with pytest.raises(FinscaleError) as found:
        BarsDataset(source={"kind": "arch", "symbol": "spx"}, vix={"kind": "file", "pth": "x.csv"})
    assert str(found.value).startswith("3 faults:")
    for message in ("source.arch.symbol", "vix.file.path must be given", "vix.file.pth must be a known key"):
        assert message in str(found.value)


def test_nothing_is_imported_before_it_is_needed() -> None:
    heavy = ("torch", "arch", "yfinance", "exchange_calendars", "scipy.stats")
    made = "; ".join(
        [
            "import sys",
            "from finscale.datasets.bars import BarsDataset",
            "BarsDataset(source={'kind': 'arch', 'symbol': 'sp500'})",
            "BarsDataset(source={'kind': 'yfinance', 'symbol': 'SPY', 'folder': 'x'})",
            "BarsDataset(source={'kind': 'simulated', 'process': 'garch_t_daily'})",
            f"print([name for name in {heavy} if name in sys.modules])",
        ]
    )
    done = subprocess.run([sys.executable, "-c", made], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bars_are_read_only() -> None:
    with pytest.raises(DatasetError, match="read-only"):
        from_file(SPY).save(pd.DataFrame())


def test_exists_follows_every_file(tmp_path: Path) -> None:
    assert from_file(SPY).exists()
    assert not from_file(tmp_path / "none.csv").exists()
    assert BarsDataset(source=SP500).exists()
    missing = {"kind": "file", "path": str(tmp_path / "none.csv")}
    assert not BarsDataset(source=SP500, vix=missing).exists()
    assert not BarsDataset(source={"kind": "panel", "members": {"A": SP500, "B": missing}}).exists()


def test_the_fingerprint_follows_the_sources_and_the_content_of_their_files(tmp_path: Path) -> None:
    path = tmp_path / "spy.csv"
    path.write_text(SPY.read_text())
    mine = {"kind": "file", "path": str(path)}
    variants = [
        {"source": mine},
        {"source": {**mine, "calendar": "XLON"}},
        {"source": SP500},
        {"source": NASDAQ},
        {"source": SP500, "vix": VIX},
        {"source": SP500, "vix": mine},
        {"source": {"kind": "panel", "members": {"a": SP500, "b": mine}}},
        {"source": {"kind": "panel", "members": {"b": mine, "a": SP500}}},
        {"source": {"kind": "simulated", "process": "garch_t_daily", "seed": 1}},
        {"source": {"kind": "simulated", "process": "garch_t_daily", "seed": 2}},
    ]
    before = [BarsDataset(**variant).fingerprint() for variant in variants]
    assert before == [BarsDataset(**variant).fingerprint() for variant in variants]
    assert len(set(before)) == len(variants)
    path.write_text(path.read_text().replace("294.23", "294.24"))
    after = [BarsDataset(**variant).fingerprint() for variant in variants]
    changed = [old != new for old, new in zip(before, after, strict=True)]
    assert changed == [path.name in str(variant) for variant in variants]


def test_the_preview_is_a_table_that_kedro_viz_can_show() -> None:
    table = from_file(SPY).preview(nrows=2)
    assert table["columns"] == ["session", "open", "high", "low", "close", "volume"]
    assert table["data"][0] == ["2019-06-24", 294.23, 294.58, 293.47, 293.64, 47582730.0]
    assert json.loads(json.dumps(table)) == table
    assert inspect.signature(BarsDataset.preview).return_annotation.__name__ == "TablePreview"


def test_the_preview_of_a_panel_and_of_intraday_bars_shows_where_each_bar_stands() -> None:
    panel = BarsDataset(source={"kind": "panel", "members": {"A": SP500, "B": NASDAQ}}).preview(nrows=1)
    assert panel["columns"][:3] == ["instrument", "session", "open"]
    assert panel["data"][0][:2] == ["A", "1999-01-04"]
    bars = from_file(FIXTURES / "eurusd_5min_720.csv", timezone="UTC", sessions=SESSIONS)
    assert bars.preview(nrows=1)["data"][0][0] == "2014-05-01 00:00:00+00:00"


def test_bars_that_have_yet_to_be_downloaded_are_not_fetched_for_a_preview(tmp_path: Path) -> None:
    bars = BarsDataset(source={"kind": "yfinance", "symbol": "SPY", "folder": str(tmp_path)})
    assert bars.preview() == {"index": [], "columns": [], "data": []}


def test_the_bundled_index_gets_the_vix_of_its_days() -> None:
    bars = validate_bars(BarsDataset(source=SP500, vix=VIX).load(), name="sp500")
    assert bars.loc["2018-12-24", "vix"] == 36.07
    assert np.isnan(bars.loc["2014-01-02", "vix"])
    assert bars["vix"].loc["2014-01-03":].notna().all()
    assert len(bars) == 5031
    assert "3774 bars before the first VIX have none" in bars.attrs["notes"]


def test_the_description_names_every_source() -> None:
    described = str(BarsDataset(source=SP500, vix=VIX))
    assert "sp500" in described
    assert "'symbol': 'vix'" in described
