"""Small windows, real bars, and tables that stand for every shape a table can have."""

from collections.abc import Callable
from pathlib import Path

import arch.data.sp500
import numpy as np
import pandas as pd
import pytest
import yaml

from finscale.features.bars import validate_bars
from finscale.features.compute import compute_features
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig, SplitConfig

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_feature_engineering.yml"


@pytest.fixture(scope="session")
def feature_sets() -> dict[str, list[str]]:
    return yaml.safe_load(CONF.read_text())["feature_sets"]


@pytest.fixture(scope="session")
def sp500() -> pd.DataFrame:
    return validate_bars(arch.data.sp500.load().rename(columns=str.lower), name="sp500")


@pytest.fixture(scope="session")
def a25(sp500: pd.DataFrame, feature_sets: dict[str, list[str]]) -> pd.DataFrame:
    return compute_features(sp500, feature_sets["a25"]).frame


@pytest.fixture(scope="session")
def stationary25(sp500: pd.DataFrame, feature_sets: dict[str, list[str]]) -> pd.DataFrame:
    return compute_features(sp500, feature_sets["stationary25"]).frame


@pytest.fixture(scope="session")
def small_bars() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    close = 100 * np.exp(rng.normal(0, 0.01, 1400).cumsum())
    bars = pd.DataFrame(
        {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 5},
        index=pd.bdate_range("2015-01-01", periods=1400),
    )
    return validate_bars(bars, name="small")


@pytest.fixture(scope="session")
def make_panel() -> Callable[..., pd.DataFrame]:
    """Daily bars of instruments with (first day, number of days) each, without the days in ``gaps``."""

    def make(histories: dict[str, tuple[int, int]], gaps: dict[str, slice] | None = None) -> pd.DataFrame:
        parts = []
        for seed, (name, (first, n)) in enumerate(histories.items()):
            close = 100 * np.exp(np.random.default_rng(seed).normal(0, 0.01, n).cumsum())
            days = pd.Timestamp("2010-01-04") + pd.to_timedelta(first + np.arange(n), unit="D")
            table = pd.DataFrame({"open": close, "high": close * 1.004, "low": close * 0.99, "close": close})
            table.index = pd.MultiIndex.from_arrays(
                [[name] * n, pd.DatetimeIndex(days).as_unit("ns")], names=["instrument", "session"]
            )
            kept = np.ones(n, dtype=bool)
            kept[(gaps or {}).get(name, slice(0, 0))] = False
            parts.append(table[kept])
        return pd.concat(parts)

    return make


@pytest.fixture(scope="session")
def intraday_bars() -> pd.DataFrame:
    """Hourly sessions of 8 bars (half days of 4), 400 of them, opened at 14:30 UTC."""
    lengths = [4 if day % 50 == 49 else 8 for day in range(400)]
    days = pd.bdate_range("2015-01-05", periods=400)
    slots = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
    sessions = days.repeat(lengths).as_unit("ns")
    close = 100 * np.exp(np.random.default_rng(3).normal(0, 0.004, len(slots)).cumsum())
    opened_at = (sessions + pd.Timedelta("14h30min") + pd.to_timedelta(slots, unit="h")).tz_localize("UTC")
    prices = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
    return pd.DataFrame(
        {**prices, "session": sessions, "slot": slots}, index=opened_at.rename("opened_at").as_unit("ns")
    )


@pytest.fixture(scope="session")
def experiment() -> Callable[..., ExperimentConfig]:
    def make(task: str = "direction", split: SplitConfig | None = None, **data: object) -> ExperimentConfig:
        config = DataConfig(task=task, split=split or SplitConfig(), **data)
        return ExperimentConfig(name="small", title="Small windows", data=config)

    return make


@pytest.fixture(scope="session")
def small_windows(small_bars: pd.DataFrame, experiment: Callable[..., ExperimentConfig]) -> WindowData:
    features = compute_features(small_bars, ["close", "sma_12", "rsi_14"]).frame
    config = experiment(context_length=20)
    windows, _ = build_windows(features, small_bars, experiment=config, horizon=3, data_hash="abc")
    return windows
