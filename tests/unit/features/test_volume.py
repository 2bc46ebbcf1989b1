"""Volume features in bars and stretches in which nobody trades."""

import numpy as np
import pandas as pd
import pytest

from finscale.features import volume
from finscale.features.catalogue import CATALOGUE


@pytest.fixture(scope="module")
def silent(sp500: pd.DataFrame) -> pd.DataFrame:
    """40 bars without volume, from row 60."""
    bars = sp500.iloc[:160].copy()
    bars.iloc[60:100, 4] = 0
    return bars


def test_without_trades_the_price_by_volume_is_undefined_for_those_windows_only(silent: pd.DataFrame) -> None:
    undefined = np.flatnonzero(np.isnan(volume.vwap(silent, period=20)))
    assert undefined.tolist() == [*range(19), *range(79, 100)]


def test_without_trades_the_last_illiquidity_stands(silent: pd.DataFrame) -> None:
    found = volume.amihud(silent, period=12)
    assert set(found[70:100]) == {found[70]}
    assert np.isfinite(found[12:]).all()


def test_illiquidity_is_the_mean_over_the_bars_that_traded(sp500: pd.DataFrame) -> None:
    bars = sp500.iloc[:40].astype(float)
    bars.iloc[[33, 36], 4] = 0.0
    move = np.abs(np.log(bars["close"]).diff())
    impact = (move / (bars["close"] * bars["volume"] / 1e6)).drop(bars.index[[33, 36]])
    assert volume.amihud(bars, period=12)[39] == pytest.approx(impact.iloc[-10:].mean(), rel=1e-12)


def test_without_trades_ratios_are_neutral(silent: pd.DataFrame) -> None:
    assert set(volume.volume_ma_ratio(silent, period=20)[79:100]) == {1.0}
    assert set(volume.volume_zscore(silent, period=20)[79:100]) == {0.0}
    assert set(volume.mfi(silent, period=14)[74:100]) == {50.0}
    assert set(volume.log_volume(silent)[60:100]) == {0.0}


@pytest.mark.parametrize("name", ["mfi_14", "volume_ma_ratio", "volume_zscore_20"])
def test_the_unit_of_the_volume_does_not_matter(name: str, sp500: pd.DataFrame) -> None:
    bars = sp500.iloc[:400].astype(float)
    in_billions = bars.assign(volume=bars["volume"] / 2**40)
    function = CATALOGUE[name].function
    np.testing.assert_allclose(function(in_billions), function(bars), rtol=1e-12)
