"""Indicators where the price does not move; what they are is in test_oracles."""

import numpy as np
import pandas as pd
import pytest

from finscale.features.catalogue import CATALOGUE

AT_REST = {
    "bb_percent_b": 0.5,
    "bb_width": 0.0,
    "stochastic_14": 50.0,
    "cci_20": 0.0,
    "close_location": 0.5,
    "return_1": 0.0,
    "roc_5": 0.0,
    "log_range": 0.0,
    "realised_vol_5": 0.0,
    "parkinson_vol_20": 0.0,
    "garman_klass_vol": 0.0,
    "volume_zscore_20": 0.0,
    "volume_ma_ratio": 1.0,
    "mfi_14": 50.0,
    "amihud_12": 0.0,
    "orderflow_imbalance": 0.0,
    "spread_proxy": 0.0,
}


@pytest.fixture(scope="module", params=[1.38681, 1234.56, 0.1])
def at_rest(request: pytest.FixtureRequest, sp500: pd.DataFrame) -> pd.DataFrame:
    """80 ordinary bars, then 70 of one price and one volume."""
    bars = sp500.iloc[:150].astype(float)
    bars.iloc[80:, :4] = request.param
    bars.iloc[80:, 4] = 1000.0
    return bars


@pytest.mark.parametrize("name", AT_REST)
def test_a_price_at_rest_gives_the_neutral_value_exactly(name: str, at_rest: pd.DataFrame) -> None:
    settled = 80 + max(CATALOGUE[name].lookback, 1) + 1
    assert set(CATALOGUE[name].function(at_rest)[settled:]) == {AT_REST[name]}


@pytest.mark.parametrize("name", [name for name, spec in CATALOGUE.items() if spec.clock == "bar"])
def test_bars_without_trades_now_and_then_leave_every_feature_finite(
    name: str, five_minutes: pd.DataFrame
) -> None:
    """No trade: no volume, and the bar stays at the price before; ten in a row among them."""
    bars, spec = five_minutes.assign(vix=20.0), CATALOGUE[name]
    silent = (np.arange(len(bars)) % 41 == 0) | (np.arange(len(bars)) % 500 > 489)
    silent[0] = False
    bars["volume"] = bars["volume"].where(~silent, 0)
    close = bars["close"].where(~silent).ffill()
    for column in ("open", "high", "low", "close"):
        bars[column] = bars[column].where(~silent, close)
    assert np.isfinite(spec.function(bars)[spec.lookback :]).all()
