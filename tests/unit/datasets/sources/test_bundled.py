"""The series that the package arch brings along."""

import pytest

from finscale.datasets.sources.bundled import ArchSource
from finscale.features.bars import validate_bars


@pytest.mark.parametrize(("symbol", "first_close"), [("sp500", 1228.099976), ("nasdaq", 2208.050049)])
def test_bundled_indices_are_valid_bars(symbol: str, first_close: float) -> None:
    valid = validate_bars(ArchSource(symbol=symbol).load(), name=symbol)
    assert len(valid) == 5031
    assert valid["close"].iloc[0] == first_close
    assert valid.attrs["symbol"] == symbol
    assert valid.attrs["calendar"] == "XNYS"


def test_the_known_fault_of_the_bundled_index_is_real_and_on_its_card() -> None:
    bars = ArchSource(symbol="sp500").load()
    stale = (bars["open"] / bars["close"].shift() - 1).abs() < 1e-6
    assert stale[:"2007"].mean() > 0.5
    assert stale["2008":].mean() < 0.1
    assert "before 2008 the open often equals the previous close" in bars.attrs["notes"][0]


def test_the_bundled_vix_is_a_series_of_closes_without_holidays() -> None:
    vix = ArchSource(symbol="vix").load()
    assert list(vix.columns) == ["close"]
    assert vix.index.name == "session"
    assert vix["close"].notna().all()
    assert vix.loc["2018-12-24", "close"] == 36.07
    assert (str(vix.index[0].date()), str(vix.index[-1].date())) == ("2014-01-03", "2019-01-03")
