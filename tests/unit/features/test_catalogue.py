"""Rows of the catalogue tell the truth about what they read and when they begin."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from finscale.core.errors import FinscaleError
from finscale.features.catalogue import CATALOGUE, FeatureSpec, feature_names, known_features, readable_sets

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_feature_engineering.yml"
PRICES = ("open", "high", "low", "close")
A20 = (
    *("dema_9", "dema_10", "sma_12", "dema_20", "dema_25", "sma_50", "dema_90", "sma_100", "sma_200"),
    *("rsi_14", "rsi_14_weekly", "stochrsi", "stochrsi_weekly", "macd_line", "obv", "adosc", "atr_14"),
    *("adx_14", "bb_percent_b", "vwap_20"),
)
VIX8 = (
    *("vix_close", "vix_sma_10", "vix_sma_20", "vix_percentile_60d", "vix_zscore_20d", "vix_regime"),
    *("vix_change_1d", "vix_change_5d"),
)
SIZES = {
    **{"a20": 20, "a25": 25, "c33": 33, "stationary25": 25, "intraday24": 24, "intraday25": 25},
    **{"intraday_price17": 17, "intraday_micro25": 25, "intraday_micro24": 24},
}


def feature_sets() -> dict[str, list[str]]:
    """Sets of features of bars; one without names is for tables that have no bars."""
    listed = yaml.safe_load(CONF.read_text())["feature_sets"]
    return {name: features for name, features in listed.items() if features}


def table_for(spec: FeatureSpec, request: pytest.FixtureRequest) -> pd.DataFrame:
    """Bars that the feature can read, of several sessions or weeks more than it looks back."""
    if "vix" in spec.reads:
        return request.getfixturevalue("sp500_vix")
    return request.getfixturevalue("five_minutes" if "session" in spec.reads else "sp500")


def test_a25_is_the_bar_and_twenty_daily_indicators() -> None:
    assert feature_names(feature_sets(), "a20") == A20
    assert feature_names(feature_sets(), "a25") == (*PRICES, "volume", *A20)


def test_c33_is_a25_and_eight_of_the_vix() -> None:
    assert feature_names(feature_sets(), "c33") == (*feature_names(feature_sets(), "a25"), *VIX8)


def test_the_sets_within_sets_differ_by_what_their_names_say() -> None:
    sets = {name: set(features) for name, features in feature_sets().items()}
    assert sets["intraday25"] - sets["intraday24"] == {"macd_signal_to_close"}
    assert sets["intraday_micro25"] - sets["intraday_micro24"] == {"macd_signal"}
    without = {name for name in sets["intraday24"] if "volume" not in CATALOGUE[name].reads}
    assert sets["intraday_price17"] == without - set(PRICES)
    assert feature_sets()["intraday_micro25"][-4:] == [
        "orderflow_imbalance",
        "trade_intensity",
        "tick_rule",
        "spread_proxy",
    ]


def test_every_set_in_conf_is_known_and_of_the_size_in_its_name() -> None:
    assert {name: len(feature_names(feature_sets(), name)) for name in feature_sets()} == SIZES


def test_every_row_of_the_catalogue_is_in_a_set() -> None:
    assert set(CATALOGUE) == {name for features in feature_sets().values() for name in features}


@pytest.mark.parametrize("factor", [2.0**-7, 2.0**5])
@pytest.mark.parametrize("name", feature_sets()["stationary25"])
def test_stationary_features_do_not_depend_on_the_price_level(
    name: str, factor: float, sp500: pd.DataFrame
) -> None:
    bars = sp500.iloc[:300].astype(float)
    function = CATALOGUE[name].function
    np.testing.assert_allclose(
        function(bars.assign(**{price: bars[price] * factor for price in PRICES})),
        function(bars),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("columns", "readable"),
    [
        (PRICES, ["intraday_price17"]),
        (
            (*PRICES, "volume"),
            ["a20", "a25", "stationary25", "intraday24", "intraday25", "intraday_price17"],
        ),
        ((*PRICES, "session", "slot"), ["intraday_price17"]),
        ((*PRICES, "volume", "session", "slot"), [name for name in SIZES if name != "c33"]),
        ((*PRICES, "volume", "vix"), [name for name in SIZES if "micro" not in name]),
    ],
)
def test_readable_sets_are_those_whose_columns_are_there(columns: list[str], readable: list[str]) -> None:
    assert sorted(readable_sets(feature_sets(), columns)) == sorted(readable)


def test_a_set_with_a_typo_or_without_features_is_not_readable() -> None:
    assert readable_sets({"mine": ["clsoe"], "channels": [], "yours": ["close"]}, PRICES) == ("yours",)


@pytest.mark.parametrize("name", CATALOGUE)
def test_declared_columns_are_those_read_no_fewer_and_no_more(
    name: str, request: pytest.FixtureRequest
) -> None:
    spec = CATALOGUE[name]
    bars = table_for(spec, request).iloc[:400]
    np.testing.assert_array_equal(spec.function(bars[list(spec.reads)]), spec.function(bars))
    for column in spec.reads:
        with pytest.raises(KeyError):
            spec.function(bars.drop(columns=column))


@pytest.mark.parametrize("name", CATALOGUE)
def test_declared_warm_up_is_neither_short_nor_wasteful(name: str, request: pytest.FixtureRequest) -> None:
    spec = CATALOGUE[name]
    for start in (0, 1, 2, 3, 4, 33):
        bars = table_for(spec, request).iloc[start : start + 400]
        defined = np.isfinite(spec.function(bars))
        warm_up = spec.warm_up(bars)
        assert not defined[:warm_up].any()
        assert defined[warm_up:].all()


def test_warm_up_of_too_few_sessions_or_weeks_is_all_of_them(
    sp500: pd.DataFrame, five_minutes: pd.DataFrame
) -> None:
    assert CATALOGUE["rsi_14_weekly"].warm_up(sp500.iloc[:30]) == 30
    assert CATALOGUE["trade_intensity"].warm_up(five_minutes.iloc[:30]) == 30
    assert CATALOGUE["trade_intensity"].warm_up(five_minutes) == 78


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


BOUNDED = [name for name, spec in CATALOGUE.items() if spec.bounds]


@pytest.mark.parametrize("name", BOUNDED)
def test_a_bounded_feature_comes_near_its_bounds_and_never_leaves_them(
    name: str, request: pytest.FixtureRequest
) -> None:
    spec = CATALOGUE[name]
    values = spec.function(table_for(spec, request))
    low, high = spec.bounds
    slack = 1e-9 * (high - low)
    assert low - slack <= np.nanmin(values) < np.nanmax(values) <= high + slack
    assert np.nanmax(values) - np.nanmin(values) > (high - low) / 3
