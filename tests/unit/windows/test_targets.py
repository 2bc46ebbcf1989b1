"""Labels answer to the definition, row by row."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.windows.targets import targets
from finscale.windows.tasks import parse_task


def by_definition(bars: pd.DataFrame, name: str, touch: str, horizon: int) -> list[float]:
    close, high, found = bars["close"].tolist(), bars["high"].tolist(), []
    for t in range(len(bars)):
        if t + horizon >= len(bars):
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
)
def test_labels_follow_their_definition(
    closes: list[int], wicks: list[int], name: str, touch: str, horizon: int
) -> None:
    close = np.array(closes, dtype=float)
    bars = pd.DataFrame({"close": close, "high": close + wicks[: len(closes)]})
    found = targets(bars, parse_task(name), touch=touch, horizon=horizon)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, by_definition(bars, name, touch, horizon))


def test_reaching_the_level_exactly_counts() -> None:
    bars = pd.DataFrame({"close": [100.0, 100.0], "high": [100.0, 105.0]})
    assert targets(bars, parse_task("threshold_5pct"), touch="high", horizon=1)[0] == 1
    assert targets(bars, parse_task("threshold_5.01pct"), touch="high", horizon=1)[0] == 0


def test_an_unchanged_close_is_not_a_rise() -> None:
    bars = pd.DataFrame({"close": [100.0, 100.0], "high": [100.0, 105.0]})
    assert targets(bars, parse_task("direction"), touch="high", horizon=1)[0] == 0


def test_the_high_of_the_origin_itself_does_not_count() -> None:
    bars = pd.DataFrame({"close": [100.0, 100.0, 100.0], "high": [200.0, 100.0, 100.0]})
    found = targets(bars, parse_task("threshold_1pct"), touch="high", horizon=1)
    assert found[:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("horizon", "n_known"), [(1, 2), (3, 0), (10, 0)])
def test_labels_whose_future_is_not_over_are_unknown(horizon: int, n_known: int) -> None:
    bars = pd.DataFrame({"close": [1.0, 2.0, 3.0], "high": [1.0, 2.0, 3.0]})
    found = targets(bars, parse_task("direction"), touch="high", horizon=horizon)
    assert np.isnan(found).tolist() == [False] * n_known + [True] * (3 - n_known)
