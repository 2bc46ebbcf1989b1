"""Small windows and real bars."""

from collections.abc import Callable

import arch.data.sp500
import numpy as np
import pandas as pd
import pytest

from finscale.features.bars import validate_bars
from finscale.features.catalogue import CATALOGUE
from finscale.features.compute import compute_features
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig, SplitConfig


@pytest.fixture(scope="session")
def sp500() -> pd.DataFrame:
    return validate_bars(arch.data.sp500.load().rename(columns=str.lower), name="sp500")


@pytest.fixture(scope="session")
def a25(sp500: pd.DataFrame) -> pd.DataFrame:
    return compute_features(sp500, list(CATALOGUE)).frame


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
