"""No feature sees the future: the whole catalogue is checked, and the check is checked by planted leaks.

Daily bars for what reads them, and bars of sessions, half days among them, for what reads those; the rows
after which the future is cut off or changed lie inside sessions and at their ends.
"""

from functools import partial

import arch.data.sp500
import numpy as np
import pandas as pd
import pytest

from finscale.features import indicators, intraday, weeks
from finscale.features.bars import validate_bars
from finscale.features.catalogue import CATALOGUE, FeatureSpec
from finscale.features.compute import compute_features
from finscale.features.prepare import prepare_bars
from finscale.features.sessions import SessionRule
from finscale.features.simulate import IntradayProcess, simulate_intraday
from finscale.features.timescales import TIMESCALES

DAILY_CUTS = (230, 231, 232, 233, 234, 241, 262, 300, 347, 398)
MOVING = ("open", "high", "low", "close", "volume", "vix")
CALENDAR = ("session", "slot")


def sp500() -> pd.DataFrame:
    return validate_bars(arch.data.sp500.load().rename(columns=str.lower), name="sp500")


@pytest.fixture(scope="module")
def daily() -> pd.DataFrame:
    """400 sessions, the VIX from the 30th on."""
    bars = sp500().iloc[900:1300]
    vix = 20 * np.exp(np.random.default_rng(5).normal(0, 0.07, 400).cumsum())
    return bars.assign(vix=np.where(np.arange(400) < 30, np.nan, vix))


@pytest.fixture(scope="module")
def sessions() -> pd.DataFrame:
    """125 sessions of eight bars, of four on half days; now and then nobody trades."""
    rule = SessionRule(bars_per_session=8, opens_at="09:30", timezone="America/New_York")
    process = IntradayProcess(n_sessions=125, start="2019-09-16", sessions=rule, half_days=True)
    bars = simulate_intraday(process, np.random.default_rng(3)).bars
    bars.loc[bars.index[5::31], "volume"] = 0
    bars.attrs = {"sessions": rule.model_dump()}
    return prepare_bars(bars, name="simulated", timescale="intraday")


def cuts_of(bars: pd.DataFrame) -> list[int]:
    """Rows inside sessions and at their ends, around a half day and after the longest warm-up."""
    if "slot" not in bars:
        return list(DAILY_CUTS)
    firsts = np.flatnonzero(bars["slot"] == 0)
    return [int(firsts[n] + step) for n in (53, 54, 100, 105, 120) for step in (-1, 0, 2)]


TABLES = {
    "daily": [name for name, spec in CATALOGUE.items() if not set(spec.reads) & set(CALENDAR)],
    "sessions": [name for name, spec in CATALOGUE.items() if "vix" not in spec.reads],
}
CASES = [(table, name) for table, names in TABLES.items() for name in names]


def prefix_differs(spec: FeatureSpec, bars: pd.DataFrame, cut: int) -> bool:
    """Is any value up to row ``cut`` another when the later bars do not exist yet?"""
    return not np.array_equal(
        spec.function(bars.iloc[: cut + 1]), spec.function(bars)[: cut + 1], equal_nan=True
    )


def future_reaches_back(spec: FeatureSpec, bars: pd.DataFrame, cut: int) -> bool:
    """Is any value up to row ``cut`` another when the later bars are moved?"""
    rise = np.where(np.arange(len(bars)) % 2, 1.9, 0.6)
    rise[: cut + 1] = 1.0
    moved = bars.assign(**{name: bars[name] * rise for name in MOVING if name in bars})
    return not np.array_equal(spec.function(moved)[: cut + 1], spec.function(bars)[: cut + 1], equal_nan=True)


def leaking_cuts(spec: FeatureSpec, bars: pd.DataFrame) -> list[int]:
    cuts = cuts_of(bars)
    return [cut for cut in cuts if prefix_differs(spec, bars, cut) or future_reaches_back(spec, bars, cut)]


@pytest.mark.parametrize(("table", "name"), CASES)
def test_recomputed_on_a_prefix_every_feature_is_the_same(
    table: str, name: str, request: pytest.FixtureRequest
) -> None:
    bars = request.getfixturevalue(table)
    assert np.isfinite(CATALOGUE[name].function(bars)[cuts_of(bars)[-1]])
    assert [cut for cut in cuts_of(bars) if prefix_differs(CATALOGUE[name], bars, cut)] == []


@pytest.mark.parametrize(("table", "name"), CASES)
def test_changing_later_bars_leaves_earlier_rows_alone(
    table: str, name: str, request: pytest.FixtureRequest
) -> None:
    bars = request.getfixturevalue(table)
    assert [cut for cut in cuts_of(bars) if future_reaches_back(CATALOGUE[name], bars, cut)] == []


@pytest.mark.parametrize("table", TABLES)
def test_a_feature_table_is_the_same_on_a_prefix(table: str, request: pytest.FixtureRequest) -> None:
    bars = request.getfixturevalue(table)
    timescale = "daily" if table == "daily" else "intraday"
    cut = cuts_of(bars)[-2]
    whole, prefix = (
        compute_features(rows, TABLES[table], timescale=timescale).frame for rows in (bars, bars[: cut + 1])
    )
    pd.testing.assert_frame_equal(prefix, whole[: len(prefix)], check_exact=True)
    assert prefix.index[-1] == bars.index[cut]


@pytest.mark.parametrize("timescale", [name for name in TIMESCALES if name != "intraday"])
def test_on_every_timescale_features_are_the_same_on_a_prefix(timescale: str) -> None:
    bars = prepare_bars(sp500().iloc[:1800], name="sp500", timescale=timescale)
    names = ["rsi_14_weekly", "stochrsi_weekly", "macd_signal", "bb_percent_b", "mfi_14", "ewma_vol"]
    whole = compute_features(bars, names, timescale=timescale).frame
    for cut in (len(bars) - 30, len(bars) - 2, len(bars) - 1):
        prefix = compute_features(bars[:cut], names, timescale=timescale).frame
        pd.testing.assert_frame_equal(prefix, whole[: len(prefix)], check_exact=True)


def same_week(bars: pd.DataFrame) -> np.ndarray:
    return bars["close"].groupby(weeks.week_numbers(bars)).transform("last").to_numpy()


def early_week(bars: pd.DataFrame) -> np.ndarray:
    """A finished week shown one bar too early, on the last one of the week itself."""
    return np.r_[weeks.on_completed_weeks(bars, indicator=lambda w: w["close"].to_numpy())[1:], np.nan]


def same_sessions_vwap(bars: pd.DataFrame) -> np.ndarray:
    """The whole session's mean price, shown from its first bar on."""
    numbers = intraday.session_numbers(bars)
    return pd.Series(intraday.vwap_session(bars)).groupby(numbers).transform("last").to_numpy()


LEAKS = {
    "one bar ahead": lambda bars: bars["close"].shift(-1).to_numpy(),
    "centred window": lambda bars: bars["close"].rolling(5, center=True).mean().to_numpy(),
    "mean of the whole sample": lambda bars: (bars["close"] - bars["close"].mean()).to_numpy(),
    "scaled by the whole sample": lambda bars: (bars["close"] / bars["close"].std()).to_numpy(),
    "backward fill": lambda bars: bars["close"].where(bars["close"].diff() > 0).bfill().to_numpy(),
    "week that is still running": same_week,
    "week known a bar early": early_week,
    "average of tomorrow's range": lambda bars: np.r_[indicators.atr(bars, period=14)[1:], np.nan],
    "price changes scaled by the whole sample": lambda bars: (
        bars["close"].diff() / bars["close"].diff().std()
    ).to_numpy(),
}
SESSION_LEAKS = {
    "mean of the whole session, today's": lambda bars: (
        bars["volume"] / bars.groupby("session")["volume"].transform("mean")
    ).to_numpy(),
    "time-of-day mean of all sessions": lambda bars: (
        bars["volume"] / bars.groupby("slot")["volume"].transform("mean")
    ).to_numpy(),
    "session's mean price before its end": same_sessions_vwap,
}
PLANTED = [("daily", leak) for leak in LEAKS] + [("sessions", leak) for leak in LEAKS | SESSION_LEAKS]


@pytest.mark.parametrize(("table", "leak"), PLANTED)
def test_the_check_catches_a_planted_leak(table: str, leak: str, request: pytest.FixtureRequest) -> None:
    planted = FeatureSpec(leak, (LEAKS | SESSION_LEAKS)[leak], 0, "leak", "planted")
    assert leaking_cuts(planted, request.getfixturevalue(table)) != []


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("check", [prefix_differs, future_reaches_back])
def test_each_half_of_the_check_catches_one_bar_of_look_ahead(
    check, table: str, request: pytest.FixtureRequest
) -> None:
    ahead = FeatureSpec("ahead", LEAKS["one bar ahead"], 0, "leak", "planted")
    bars = request.getfixturevalue(table)
    assert all(check(ahead, bars, cut) for cut in cuts_of(bars))


@pytest.mark.parametrize("table", TABLES)
def test_the_check_passes_an_honest_feature(table: str, request: pytest.FixtureRequest) -> None:
    honest = FeatureSpec("honest", partial(indicators.sma, period=3), 2, "trend", "planted")
    assert leaking_cuts(honest, request.getfixturevalue(table)) == []
