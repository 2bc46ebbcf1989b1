"""Proxies of order flow: signs, bounds, and the market they were made for."""

import numpy as np
import pandas as pd
import pytest

from finscale.features import order_flow
from finscale.features.catalogue import CATALOGUE


def bars_of(close: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"open": close, "high": close, "low": close, "close": close, "volume": 100.0})


def test_the_last_price_change_is_carried_over_bars_without_one() -> None:
    found = order_flow.tick_rule(bars_of([5, 5, 6, 6, 6, 4, 4, 5]))
    np.testing.assert_array_equal(found, [np.nan, 0, 1, 1, 1, -1, -1, 1])


def test_rising_prices_are_bought_and_falling_ones_sold(five_minutes: pd.DataFrame) -> None:
    imbalance = order_flow.orderflow_imbalance(five_minutes, period=12, sigma_period=50)
    mirrored = five_minutes.assign(close=1 / five_minutes["close"])
    rise = np.log(five_minutes["close"]).diff(12).to_numpy()
    assert np.corrcoef(imbalance[61:], rise[61:])[0, 1] > 0.6
    assert np.abs(imbalance[61:]).max() <= 1
    opposite = order_flow.orderflow_imbalance(mirrored, period=12, sigma_period=50)
    assert np.corrcoef(imbalance[61:], -opposite[61:])[0, 1] > 0.99


@pytest.mark.parametrize("spread", [0.002, 0.01])
def test_the_estimate_finds_the_spread_of_a_simulated_market(spread: float) -> None:
    """A random walk seen at bid and ask: Corwin and Schultz's own experiment, 390 trades a bar."""
    rng = np.random.default_rng(0)
    value = np.exp(rng.normal(0, 0.01 / np.sqrt(390), (2000, 390)).cumsum().reshape(2000, 390))
    seen = value * (1 + spread / 2 * rng.choice([-1, 1], value.shape))
    bars = pd.DataFrame({"high": seen.max(axis=1), "low": seen.min(axis=1), "close": seen[:, -1]})
    found = np.nanmean(order_flow.spread_proxy(bars, period=12))
    assert spread / 2 < found < spread * 1.5 + 0.003


def test_a_gap_between_sessions_is_not_taken_for_a_spread() -> None:
    flat = np.r_[np.full(15, 100.0), np.full(15, 110.0)]
    bars = bars_of(list(flat)).assign(high=flat * 1.002)
    assert order_flow.spread_proxy(bars, period=1)[1:] == pytest.approx(np.full(29, 2e-3), rel=0.1)


def test_what_stands_for_trades_and_quotes_says_so() -> None:
    proxies = {name for name, spec in CATALOGUE.items() if spec.family == "proxy"}
    assert proxies == {"orderflow_imbalance", "trade_intensity", "tick_rule", "spread_proxy"}
    assert all(CATALOGUE[name].source.startswith("proxy of ") for name in proxies)
