"""No feature sees the future: the whole catalogue is checked, and the check is checked by planted leaks."""

from functools import partial

import arch.data.sp500
import numpy as np
import pandas as pd
import pytest

from finscale.features import indicators
from finscale.features.bars import validate_bars
from finscale.features.catalogue import CATALOGUE, FeatureSpec
from finscale.features.compute import compute_features

CUTS = (230, 231, 232, 233, 234, 241, 262, 300, 347, 398)


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return validate_bars(arch.data.sp500.load().rename(columns=str.lower), name="sp500").iloc[900:1300]


def prefix_differs(spec: FeatureSpec, bars: pd.DataFrame, cut: int) -> bool:
    """Is any value up to row ``cut`` another when the later bars do not exist yet?"""
    return not np.array_equal(
        spec.function(bars.iloc[: cut + 1]), spec.function(bars)[: cut + 1], equal_nan=True
    )


def future_reaches_back(spec: FeatureSpec, bars: pd.DataFrame, cut: int) -> bool:
    """Is any value up to row ``cut`` another when the later bars are moved?"""
    moved = bars.astype(float)
    rise = np.where(np.arange(len(bars)) % 2, 1.9, 0.6)[cut + 1 :]
    moved.iloc[cut + 1 :] = moved.iloc[cut + 1 :].mul(rise, axis=0)
    return not np.array_equal(spec.function(moved)[: cut + 1], spec.function(bars)[: cut + 1], equal_nan=True)


def leaking_cuts(spec: FeatureSpec, bars: pd.DataFrame) -> list[int]:
    return [cut for cut in CUTS if prefix_differs(spec, bars, cut) or future_reaches_back(spec, bars, cut)]


@pytest.mark.parametrize("name", CATALOGUE)
def test_recomputed_on_a_prefix_every_feature_is_the_same(name: str, bars: pd.DataFrame) -> None:
    assert [cut for cut in CUTS if prefix_differs(CATALOGUE[name], bars, cut)] == []


@pytest.mark.parametrize("name", CATALOGUE)
def test_changing_later_bars_leaves_earlier_rows_alone(name: str, bars: pd.DataFrame) -> None:
    assert [cut for cut in CUTS if future_reaches_back(CATALOGUE[name], bars, cut)] == []


def test_a_feature_table_is_the_same_on_a_prefix(bars: pd.DataFrame) -> None:
    whole, prefix = (compute_features(rows, list(CATALOGUE)).frame for rows in (bars, bars.iloc[:300]))
    pd.testing.assert_frame_equal(prefix, whole.iloc[: len(prefix)], check_exact=True)


def same_week(bars: pd.DataFrame) -> np.ndarray:
    weeks = indicators.week_numbers(bars.index)
    return bars["close"].groupby(weeks).transform("last").to_numpy()


def early_week(bars: pd.DataFrame) -> np.ndarray:
    """A finished week shown one session too early, on the last day of the week itself."""
    return np.r_[indicators.on_completed_weeks(bars, indicator=lambda w: w["close"].to_numpy())[1:], np.nan]


LEAKS = {
    "one bar ahead": lambda bars: bars["close"].shift(-1).to_numpy(),
    "centred window": lambda bars: bars["close"].rolling(5, center=True).mean().to_numpy(),
    "mean of the whole sample": lambda bars: (bars["close"] - bars["close"].mean()).to_numpy(),
    "backward fill": lambda bars: bars["close"].where(bars["close"].diff() > 0).bfill().to_numpy(),
    "week that is still running": same_week,
    "week known a session early": early_week,
    "average of tomorrow's range": lambda bars: np.r_[indicators.atr(bars, period=14)[1:], np.nan],
}


@pytest.mark.parametrize("leak", LEAKS)
def test_the_check_catches_a_planted_leak(leak: str, bars: pd.DataFrame) -> None:
    assert leaking_cuts(FeatureSpec(leak, LEAKS[leak], 0, "leak", "planted"), bars) != []


@pytest.mark.parametrize("check", [prefix_differs, future_reaches_back])
def test_each_half_of_the_check_catches_one_bar_of_look_ahead(check, bars: pd.DataFrame) -> None:
    ahead = FeatureSpec("ahead", LEAKS["one bar ahead"], 0, "leak", "planted")
    assert all(check(ahead, bars, cut) for cut in CUTS)


def test_the_check_passes_an_honest_feature(bars: pd.DataFrame) -> None:
    honest = FeatureSpec("honest", partial(indicators.sma, period=3), 2, "trend", "planted")
    assert leaking_cuts(honest, bars) == []
