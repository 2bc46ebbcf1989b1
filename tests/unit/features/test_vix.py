"""The VIX: bounds of its regimes, its percentile, and the bars before its first value."""

import numpy as np
import pandas as pd

from finscale.features import vix
from finscale.features.catalogue import CATALOGUE
from finscale.features.compute import compute_features


def table(values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"vix": values}, index=pd.bdate_range("2020-01-01", periods=len(values)))


def test_a_regime_begins_at_its_bound() -> None:
    found = vix.vix_regime(table([np.nan, 9.0, 14.99, 15.0, 24.99, 25.0, 80.0]))
    np.testing.assert_array_equal(found, [np.nan, 0, 0, 1, 1, 2, 2])


def test_the_percentile_counts_todays_equals() -> None:
    found = vix.vix_percentile(table([1.0, 3.0, 2.0, 3.0, 0.0]), period=4)
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, 1.0, 0.25])


def test_bars_before_the_first_vix_are_warm_up(sp500_vix: pd.DataFrame) -> None:
    n_before = int(sp500_vix["vix"].isna().sum())
    assert n_before > 20
    for name, lookback in [("vix_close", 0), ("vix_percentile_60d", 59), ("vix_change_5d", 5)]:
        found = compute_features(sp500_vix, ["close", name])
        assert (found.n_warm_up, found.slowest) == (n_before + lookback, name)
        assert CATALOGUE[name].warm_up(sp500_vix) == n_before + lookback
