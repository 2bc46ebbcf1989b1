"""Labels answer to the definition, row by row."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.windows.targets import future_is_known, targets, trailing_volatility
from finscale.windows.tasks import parse_task


def labels(
    bars: pd.DataFrame,
    name: str,
    *,
    touch: str = "high",
    horizons: tuple[int, ...] = (1,),
    breaks: tuple = (),
) -> np.ndarray:
    """Targets of a table that is interrupted before each row in ``breaks``."""
    segments = np.isin(np.arange(len(bars)), breaks).cumsum()
    scale = trailing_volatility(bars, segments)
    return targets(bars, parse_task(name), touch=touch, horizons=horizons, segments=segments, scale=scale)


def by_definition(bars: pd.DataFrame, name: str, touch: str, horizon: int, gap: int) -> list[float]:
    close, high, found = bars["close"].tolist(), bars["high"].tolist(), []
    for t in range(len(bars)):
        if t + horizon >= len(bars) or t < gap <= t + horizon:
            found.append(np.nan)
        elif name == "direction":
            found.append(float(close[t + horizon] > close[t]))
        else:
            level = close[t] * (1 + float(name.removeprefix("threshold_").removesuffix("pct")) / 100)
            reached = max(high[t + 1 : t + horizon + 1]) if touch == "high" else close[t + horizon]
            found.append(float(reached >= level))
    return found


@settings(max_examples=60, deadline=None)
@given(
    closes=st.lists(st.integers(95, 105), min_size=2, max_size=40),
    wicks=st.lists(st.integers(0, 5), min_size=40, max_size=40),
    name=st.sampled_from(["direction", "threshold_1pct", "threshold_2.5pct", "threshold_5pct"]),
    touch=st.sampled_from(["high", "close"]),
    horizon=st.integers(1, 12),
    gap=st.integers(0, 40),
)
def test_labels_follow_their_definition_and_stay_in_their_segment(
    closes: list[int], wicks: list[int], name: str, touch: str, horizon: int, gap: int
) -> None:
    close = np.array(closes, dtype=float)
    bars = pd.DataFrame({"close": close, "high": close + wicks[: len(closes)]})
    found = labels(bars, name, touch=touch, horizons=(horizon,), breaks=(gap,))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, by_definition(bars, name, touch, horizon, gap))


def test_reaching_the_level_exactly_counts() -> None:
    bars = pd.DataFrame({"close": [100.0, 100.0], "high": [100.0, 105.0]})
    assert labels(bars, "threshold_5pct")[0] == 1
    assert labels(bars, "threshold_5.01pct")[0] == 0


def test_an_unchanged_close_is_not_a_rise() -> None:
    bars = pd.DataFrame({"close": [100.0, 100.0], "high": [100.0, 105.0]})
    assert labels(bars, "direction")[0] == 0


def test_the_high_of_the_origin_itself_does_not_count() -> None:
    bars = pd.DataFrame({"close": [100.0, 100.0, 100.0], "high": [200.0, 100.0, 100.0]})
    found = labels(bars, "threshold_1pct")
    assert found[:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("horizon", "n_known"), [(1, 2), (3, 0), (10, 0)])
def test_labels_whose_future_is_not_over_are_unknown(horizon: int, n_known: int) -> None:
    bars = pd.DataFrame({"close": [1.0, 2.0, 3.0], "high": [1.0, 2.0, 3.0]})
    found = labels(bars, "direction", horizons=(horizon,))
    assert np.isnan(found).tolist() == [False] * n_known + [True] * (3 - n_known)


def walk(n: int = 60, seed: int = 0) -> pd.DataFrame:
    close = 100 * np.exp(np.random.default_rng(seed).normal(0, 0.02, n).cumsum())
    return pd.DataFrame({"close": close, "high": close * 1.01})


@settings(max_examples=40, deadline=None)
@given(horizon=st.integers(1, 12), gap=st.integers(1, 59), seed=st.integers(0, 5))
def test_a_regression_target_is_the_log_return_over_the_volatility_known_at_the_origin(
    horizon: int, gap: int, seed: int
) -> None:
    bars = walk(seed=seed)
    found = labels(bars, "regression", horizons=(horizon,), breaks=(gap,))
    close = bars["close"].tolist()
    for t in range(60):
        begin = gap if t >= gap else 0
        variance = None
        for i in range(begin + 1, t + 1):
            square = math.log(close[i] / close[i - 1]) ** 2
            variance = square if variance is None else 0.94 * variance + 0.06 * square
        if variance is None or t + horizon >= 60 or t < gap <= t + horizon:
            assert np.isnan(found[t])
        else:
            expected = math.log(close[t + horizon] / close[t]) / math.sqrt(variance)
            assert found[t] == pytest.approx(expected, rel=1e-5)


def test_quantile_targets_are_the_regression_targets_of_each_horizon() -> None:
    bars = walk()
    found = labels(bars, "quantile", horizons=(1, 4, 9), breaks=(30,))
    assert found.shape == (60, 3)
    for column, horizon in enumerate((1, 4, 9)):
        alone = labels(bars, "regression", horizons=(horizon,), breaks=(30,))
        np.testing.assert_array_equal(found[:, column], alone)


def test_a_forecast_has_no_targets_of_its_own_and_needs_no_prices() -> None:
    table = pd.DataFrame({"OT": np.arange(5.0)})
    segments = np.zeros(5, dtype=np.int64)
    scale = trailing_volatility(table, segments)
    assert np.isnan(scale).all()
    task = parse_task("forecast")
    found = targets(table, task, touch="high", horizons=(2,), segments=segments, scale=scale)
    assert found.shape == (5, 0)
    assert future_is_known(segments, 2).tolist() == [True, True, True, False, False]


def test_volatility_knows_no_later_bar_and_nothing_before_its_segment() -> None:
    bars = walk()
    segments = (np.arange(60) >= 25).astype(np.int64)
    whole = trailing_volatility(bars, segments)
    np.testing.assert_array_equal(trailing_volatility(bars.iloc[:40], segments[:40]), whole[:40])
    np.testing.assert_array_equal(trailing_volatility(bars.iloc[25:], segments[25:]), whole[25:])
    assert np.flatnonzero(np.isnan(whole)).tolist() == [0, 25]


def test_a_market_at_a_standstill_has_no_scale_and_no_target() -> None:
    bars = pd.DataFrame({"close": [100.0, 101.0] + [101.0] * 600 + [102.0]})
    volatility = trailing_volatility(bars, np.zeros(len(bars), dtype=np.int64))
    defined = np.flatnonzero(~np.isnan(volatility))
    assert volatility[defined].min() > 1e-8
    assert defined.tolist() == [*range(1, defined[-2] + 1), 602]
    assert np.isfinite(labels(bars, "regression")[defined[:-1]]).all()
    assert np.isnan(labels(bars, "regression")[500:]).all()
