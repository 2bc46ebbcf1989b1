"""Feature tables: finite, complete after one warm-up, identified by content."""

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.features.catalogue import CATALOGUE
from finscale.features.compute import compute_features, data_hash

NAMES = list(CATALOGUE)


def test_warm_up_is_dropped_once_by_the_longest_lookback(sp500: pd.DataFrame) -> None:
    table = compute_features(sp500, NAMES)
    assert (table.n_warm_up, table.slowest) == (199, "sma_200")
    assert table.frame.index.equals(sp500.index[199:])
    assert list(table.frame.columns) == NAMES
    assert (table.frame.dtypes == np.float64).all()
    assert np.isfinite(table.frame.to_numpy()).all()


def test_a_set_with_shorter_lookback_keeps_more_rows(sp500: pd.DataFrame) -> None:
    assert compute_features(sp500, ["close", "rsi_14"]).n_warm_up == 14
    assert compute_features(sp500, ["close"]).n_warm_up == 0


def test_too_few_bars_name_the_slowest_feature(sp500: pd.DataFrame) -> None:
    assert len(compute_features(sp500.iloc[:200], NAMES).frame) == 1
    with pytest.raises(FinscaleError) as found:
        compute_features(sp500.iloc[:199], NAMES)
    assert str(found.value).startswith(
        "bars must have more rows than the warm-up of sma_200 (199), got 199 rows; give more"
    )


def test_sets_that_read_volume_are_refused_without_it(sp500: pd.DataFrame) -> None:
    with pytest.raises(FinscaleError) as found:
        compute_features(sp500.drop(columns="volume"), ["close", "obv", "adosc"])
    assert "bars must have the column volume that obv, adosc read" in str(found.value)


def test_a_feature_that_is_not_finite_is_named(sp500: pd.DataFrame) -> None:
    silent = sp500.copy()
    silent.iloc[300:325, silent.columns.get_loc("volume")] = 0
    with pytest.raises(FinscaleError) as found:
        compute_features(silent, ["close", "vwap_20"])
    first = silent.index[319].date()
    told = f"feature vwap_20 must be finite after the warm-up, got 6 bad rows, the first on {first}"
    assert told in str(found.value)


def test_bars_are_not_changed(sp500: pd.DataFrame) -> None:
    bars = sp500.copy()
    compute_features(bars, NAMES)
    pd.testing.assert_frame_equal(bars, sp500)


def test_data_hash_follows_bars_and_features_and_nothing_else(sp500: pd.DataFrame) -> None:
    bars, same = sp500.iloc[:50], sp500.iloc[:50].copy()
    same.attrs = {"source": "elsewhere"}
    touched = bars.copy()
    touched.iloc[7, 3] += 1e-9
    names = ["open", "close"]
    assert data_hash(bars, names) == data_hash(same, tuple(names))
    hashes = {
        data_hash(bars, names),
        data_hash(bars, names[::-1]),
        data_hash(bars, ["open"]),
        data_hash(touched, names),
        data_hash(sp500.iloc[:51], names),
    }
    assert len(hashes) == 5
