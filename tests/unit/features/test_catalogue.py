"""Rows of the catalogue tell the truth about what they read and when they begin."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from finscale.core.errors import FinscaleError
from finscale.features.catalogue import CATALOGUE, feature_names, known_features

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_feature_engineering.yml"
A20 = (
    *("dema_9", "dema_10", "sma_12", "dema_20", "dema_25", "sma_50", "dema_90", "sma_100", "sma_200"),
    *("rsi_14", "rsi_14_weekly", "stochrsi", "stochrsi_weekly", "macd_line", "obv", "adosc", "atr_14"),
    *("adx_14", "bb_percent_b", "vwap_20"),
)


def feature_sets() -> dict[str, list[str]]:
    return yaml.safe_load(CONF.read_text())["feature_sets"]


def test_a25_is_the_bar_and_twenty_daily_indicators() -> None:
    assert feature_names(feature_sets(), "a25") == ("open", "high", "low", "close", "volume", *A20)


def test_every_set_in_conf_is_known() -> None:
    for name, features in feature_sets().items():
        assert feature_names(feature_sets(), name) == tuple(features)


@pytest.mark.parametrize("name", CATALOGUE)
def test_declared_columns_are_those_read_no_fewer_and_no_more(name: str, sp500: pd.DataFrame) -> None:
    spec, bars = CATALOGUE[name], sp500.iloc[:400]
    np.testing.assert_array_equal(spec.function(bars[list(spec.reads)]), spec.function(bars))
    for column in spec.reads:
        with pytest.raises(KeyError):
            spec.function(bars.drop(columns=column))


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 333])
@pytest.mark.parametrize("name", CATALOGUE)
def test_declared_warm_up_is_neither_short_nor_wasteful(name: str, start: int, sp500: pd.DataFrame) -> None:
    bars, spec = sp500.iloc[start : start + 400], CATALOGUE[name]
    defined = np.isfinite(spec.function(bars))
    warm_up = spec.warm_up(bars.index)
    assert not defined[:warm_up].any()
    assert defined[warm_up:].all()


def test_warm_up_of_fewer_sessions_is_all_of_them(sp500: pd.DataFrame) -> None:
    assert CATALOGUE["sma_200"].warm_up(sp500.index[:30]) == 30
    assert CATALOGUE["rsi_14_weekly"].warm_up(sp500.index[:30]) == 30


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["rsi_41", "close"], "feature must be in the catalogue, got 'rsi_41'; did you mean 'rsi_14'?"),
        (["close", "close"], "feature_set must name each feature once, got ['close']"),
        ([], "feature_set must name at least one feature"),
    ],
)
def test_faulty_lists_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(FinscaleError) as found:
        known_features(names)
    assert message in str(found.value)


def test_unknown_set_is_refused_with_the_nearest() -> None:
    with pytest.raises(FinscaleError) as found:
        feature_names({"a25": ["close"], "a20": ["open"]}, "a26")
    assert "got 'a26'; did you mean 'a2" in str(found.value)
