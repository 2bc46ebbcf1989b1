"""Feature tables: finite, complete after one warm-up per segment, identified by content."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from finscale.core.errors import FinscaleError
from finscale.features.catalogue import CATALOGUE
from finscale.features.compute import compute_features, data_hash, warm_up_of

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_feature_engineering.yml"
SETS: dict[str, list[str]] = yaml.safe_load(CONF.read_text())["feature_sets"]
NAMES = [name for name, spec in CATALOGUE.items() if not set(spec.reads) & {"vix", "session", "slot"}]
SHORT = ["close", "rsi_14", "sma_12", "rsi_14_weekly"]


@pytest.fixture(scope="module")
def panel(sp500: pd.DataFrame) -> pd.DataFrame:
    """Two instruments of unequal histories, the second with a gap of a year; its middle is too short."""
    parts = {
        "B": sp500.iloc[:400],
        "A": pd.concat([sp500.iloc[100:400], sp500.iloc[660:700], sp500.iloc[960:1200]]),
    }
    return pd.concat(parts, names=["instrument", "session"])


def test_warm_up_is_dropped_once_by_the_longest_lookback(sp500: pd.DataFrame) -> None:
    table = compute_features(sp500, NAMES)
    assert (table.n_warm_up, table.slowest) == (199, "sma_200")
    assert (table.n_segments, table.n_vanished) == (1, 0)
    assert table.frame.index.equals(sp500.index[199:])
    assert list(table.frame.columns) == NAMES
    assert (table.frame.dtypes == np.float64).all()
    assert np.isfinite(table.frame.to_numpy()).all()
    assert warm_up_of(sp500, NAMES) == (199, "sma_200")


def test_each_column_is_its_feature(sp500: pd.DataFrame) -> None:
    frame = compute_features(sp500, SHORT[::-1]).frame
    for name in SHORT:
        np.testing.assert_array_equal(frame[name], CATALOGUE[name].function(sp500)[-len(frame) :])


def test_a_set_with_shorter_lookback_keeps_more_rows(sp500: pd.DataFrame) -> None:
    assert compute_features(sp500, ["close", "rsi_14"]).n_warm_up == 14
    assert compute_features(sp500, ["close"]).n_warm_up == 0


@pytest.mark.parametrize(
    "feature_set", ["intraday24", "intraday25", "intraday_price17", "intraday_micro25", "intraday_micro24"]
)
def test_intraday_sets_are_computed_on_bars_of_sessions(feature_set: str, five_minutes: pd.DataFrame) -> None:
    table = compute_features(five_minutes, SETS[feature_set], timescale="intraday")
    assert table.n_warm_up == (78 if "micro" in feature_set else 72)
    assert table.frame.index.equals(five_minutes.index[table.n_warm_up :])


def test_each_segment_is_computed_as_if_it_were_alone(panel: pd.DataFrame) -> None:
    table = compute_features(panel, SHORT)
    assert (table.n_segments, table.n_vanished) == (4, 1)
    assert table.frame.index.names == ["instrument", "session"]
    bars = panel.droplevel("instrument")
    for name, rows in [("B", slice(0, 400)), ("A", slice(400, 700)), ("A", slice(740, 980))]:
        alone = compute_features(bars.iloc[rows], SHORT).frame
        part = table.frame.loc[name].loc[bars.index[rows][0] : bars.index[rows][-1]]
        pd.testing.assert_frame_equal(part, alone, check_exact=True)


def test_the_rows_of_a_panel_stay_in_order_and_are_counted(panel: pd.DataFrame) -> None:
    table = compute_features(panel, SHORT)
    assert table.frame.index.equals(panel.index[panel.index.isin(table.frame.index)])
    assert table.n_warm_up == len(panel) - len(table.frame)
    assert warm_up_of(panel, SHORT) == (table.n_warm_up, table.slowest) == (table.n_warm_up, "rsi_14_weekly")


def test_a_gap_is_as_long_as_the_timescale_says(sp500: pd.DataFrame) -> None:
    bars = sp500.drop(sp500.index[500:515])
    assert compute_features(bars, ["close"], timescale="daily").n_segments == 2
    assert compute_features(bars, ["close"], timescale="monthly").n_segments == 1


def test_a_panel_without_a_long_enough_segment_is_refused(panel: pd.DataFrame) -> None:
    with pytest.raises(FinscaleError) as found:
        compute_features(panel.iloc[250:560], ["close", "sma_200", "dema_90"])
    told = "the warm-up of sma_200 (199), got 2 segments, the longest of 160 rows; give more bars"
    assert told in str(found.value)


def test_too_few_bars_name_the_slowest_feature(sp500: pd.DataFrame) -> None:
    assert len(compute_features(sp500.iloc[:200], NAMES).frame) == 1
    for n_rows in (30, 199):
        with pytest.raises(FinscaleError) as found:
            compute_features(sp500.iloc[:n_rows], NAMES)
        told = f"bars must have more rows than the warm-up of sma_200 (199), got {n_rows} rows; give more"
        assert str(found.value).startswith(told)


def test_too_few_weeks_are_told_in_weeks(sp500: pd.DataFrame) -> None:
    with pytest.raises(FinscaleError, match=r"the warm-up of rsi_14_weekly \(14 weeks\), got 60 rows"):
        warm_up_of(sp500.iloc[:60], ["rsi_14_weekly"])


@pytest.mark.parametrize(
    ("feature_set", "columns", "told"),
    [
        ("a25", ["volume"], "the column volume that volume, obv, adosc, vwap_20 read, got only open, high"),
        (
            "a25",
            ["volume"],
            "use data that has it, or a feature set that these bars can compute: intraday_price17",
        ),
        ("intraday24", ["volume"], "these bars can compute: intraday_price17"),
        ("c33", [], "the column vix that vix_close, vix_sma_10"),
        (
            "c33",
            [],
            "these bars can compute: a20, a25, stationary25, intraday24, intraday25, intraday_price17",
        ),
        ("intraday_micro25", [], "the columns session, slot that relative_volume, vwap_session"),
        (
            "intraday_micro25",
            [],
            "give intraday bars, or a feature set that these bars can compute: a20, a25",
        ),
    ],
)
def test_a_set_that_reads_what_is_missing_is_refused_naming_one_that_does_not(
    feature_set: str, columns: list[str], told: str, sp500: pd.DataFrame
) -> None:
    with pytest.raises(FinscaleError) as found:
        warm_up_of(sp500.drop(columns=columns), SETS[feature_set], feature_sets=SETS)
    assert told in str(found.value)


def test_without_conf_the_refusal_says_what_to_leave_out(sp500: pd.DataFrame) -> None:
    with pytest.raises(FinscaleError) as found:
        compute_features(sp500.drop(columns="volume"), ["close", "obv", "adosc"])
    assert "bars must have the column volume that obv, adosc read" in str(found.value)
    assert str(found.value).endswith("or a feature set without these features")


def test_a_feature_that_is_not_finite_is_named(sp500: pd.DataFrame, panel: pd.DataFrame) -> None:
    for bars, who in [(sp500.copy(), ""), (panel.copy(), "B ")]:
        bars.iloc[300:325, bars.columns.get_loc("volume")] = 0
        with pytest.raises(FinscaleError) as found:
            compute_features(bars, ["close", "vwap_20"])
        first = f"{who}{sp500.index[319].date()}"
        told = f"feature vwap_20 must be finite after the warm-up, got 6 bad rows, the first on {first};"
        assert told in str(found.value)


def test_a_series_is_its_own_features() -> None:
    hours = pd.date_range("2016-07-01", periods=5, freq="h", name="time")
    series = pd.DataFrame({"load": np.arange(5), "oil": np.arange(5.0) ** 2}, index=hours)
    series.attrs["kind"] = "series"
    table = compute_features(series, ["load", "oil"], timescale="intraday")
    pd.testing.assert_frame_equal(table.frame, series.astype(float))
    assert table.n_warm_up == warm_up_of(series, ["load", "oil"])[0] == 0
    with pytest.raises(FinscaleError, match="feature_set must be the columns of the series, load, oil"):
        compute_features(series, ["close"])


def test_bars_are_not_changed(panel: pd.DataFrame, five_minutes: pd.DataFrame) -> None:
    for table, names in [(panel, SHORT), (five_minutes, SETS["intraday_micro25"])]:
        bars = table.copy()
        compute_features(bars, names, timescale="intraday")
        pd.testing.assert_frame_equal(bars, table)


def test_a_feature_table_does_not_share_memory_with_the_bars(sp500: pd.DataFrame) -> None:
    bars = sp500.copy()
    frame = compute_features(bars, ["close"]).frame
    frame.iloc[0, 0] = -1.0
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
