"""Real and simulated bars, validated once."""

from pathlib import Path

import arch.data.sp500
import arch.data.vix
import numpy as np
import pandas as pd
import pytest

from finscale.features.bars import validate_bars
from finscale.features.prepare import prepare_bars
from finscale.features.simulate import IntradayProcess, simulate_intraday


@pytest.fixture(scope="session")
def sp500() -> pd.DataFrame:
    return validate_bars(arch.data.sp500.load().rename(columns=str.lower), name="sp500")


@pytest.fixture(scope="session")
def sp500_vix(sp500: pd.DataFrame) -> pd.DataFrame:
    """The S&P 500 from 2013 on, with the VIX from 2014 on."""
    vix = arch.data.vix.load()["vix"].reindex(sp500.index).ffill()
    return sp500.assign(vix=vix).loc["2013-10":]


@pytest.fixture(scope="session")
def spy(test_data: Path) -> pd.DataFrame:
    raw = pd.read_csv(test_data / "spy_daily_1999_2020.csv", index_col="date", parse_dates=True)
    return validate_bars(raw, name="spy")


@pytest.fixture(scope="session")
def eurusd(test_data: Path) -> pd.DataFrame:
    """5-minute bars without volume; the file's times are UTC-5."""
    raw = pd.read_csv(test_data / "eurusd_5min_mid_2014_05.csv", index_col="ts", parse_dates=True)
    raw.index = raw.index.tz_localize("Etc/GMT+5").tz_convert("UTC").rename("opened_at")
    return validate_bars(raw, name="eurusd")


@pytest.fixture(scope="session")
def five_minutes() -> pd.DataFrame:
    """Simulated sessions around Thanksgiving, a half day among them; now and then nobody trades."""
    process = IntradayProcess(n_sessions=30, start="2019-11-11", half_days=True)
    bars = simulate_intraday(process, np.random.default_rng(3)).bars
    bars.loc[bars.index[200::97], "volume"] = 0
    bars.attrs = {"sessions": process.sessions.model_dump()}
    return prepare_bars(bars, name="simulated", timescale="intraday")
