"""Simulated bars are what they claim: the stated volatility is the true one, a range fits its path."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from finscale.core.errors import Fault, FinscaleError
from finscale.features.bars import validate_bars
from finscale.features.sessions import SessionRule
from finscale.features.simulate import (
    DailyProcess,
    IntradayProcess,
    SimulatedBars,
    simulate_daily,
    simulate_intraday,
)

CME = SessionRule(bars_per_session=276, opens_at="17:00", timezone="America/Chicago")
NYSE = SessionRule(bars_per_session=78, opens_at="09:30", timezone="America/New_York")
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def daily(seed: int = 1, **options: object) -> tuple[DailyProcess, SimulatedBars]:
    process = DailyProcess.read(options)
    return process, simulate_daily(process, np.random.default_rng(seed))


def intraday(seed: int = 1, **options: object) -> tuple[IntradayProcess, SimulatedBars]:
    process = IntradayProcess.read({"sessions": NYSE, **options})
    return process, simulate_intraday(process, np.random.default_rng(seed))


def shocks(bars: pd.DataFrame, volatility: np.ndarray, mean: float) -> np.ndarray:
    returns = np.diff(np.log(bars["close"].to_numpy()), prepend=np.log(100.0))
    return (returns - mean) / volatility


def assert_standard_t(found: np.ndarray, nu: float) -> None:
    """Each quantile is passed as often as it should be, within four standard errors."""
    bounds = np.sqrt((nu - 2) / nu) * stats.t(nu).ppf(LEVELS)
    shares = (found[:, None] < bounds).mean(axis=0)
    errors = np.sqrt(np.multiply(LEVELS, np.subtract(1, LEVELS)) / len(found))
    assert (np.abs(shares - LEVELS) < 4 * errors).all(), shares


# ---- the truth


def test_daily_returns_follow_the_stated_mean_volatility_and_t_shocks() -> None:
    process, (bars, volatility) = daily(n_sessions=40_000, start="1950-01-03", mu=1e-3, nu=5.0)
    assert_standard_t(shocks(bars, volatility, process.mu), process.nu)


def test_intraday_returns_follow_the_stated_volatility_in_every_slot_and_on_half_days() -> None:
    process, (bars, volatility) = intraday(n_sessions=3_000, half_days=True)
    found = shocks(bars, volatility, process.mu / 78)
    assert_standard_t(found, process.nu)
    local = bars.index.tz_convert("America/New_York")
    first = (local.hour * 60 + local.minute) == 570
    assert_standard_t(found[first], process.nu)


def test_the_volatility_is_the_recursion_over_the_returns_themselves() -> None:
    process, (bars, volatility) = daily(n_sessions=500, alpha=0.05, gamma=0.12, beta=0.85)
    returns = np.diff(np.log(bars["close"].to_numpy()), prepend=np.log(100.0)) - process.mu
    variance = process.omega / (1 - 0.05 - 0.06 - 0.85)
    for day, surprise in enumerate(returns):
        assert volatility[day] ** 2 == pytest.approx(variance, rel=1e-9)
        variance = process.omega + (0.05 + 0.12 * (surprise < 0)) * surprise**2 + 0.85 * variance


def test_a_session_moves_the_next_one_by_the_sum_of_its_bars() -> None:
    process, (bars, volatility) = intraday(n_sessions=300, alpha=0.05, gamma=0.12, beta=0.8)
    session = bars.index.tz_convert("America/New_York").normalize()
    returns = np.diff(np.log(bars["close"].to_numpy()), prepend=np.log(100.0)) - process.mu / 78
    surprise = pd.Series(returns).groupby(session).sum().to_numpy()
    variance = pd.Series(volatility**2).groupby(session).sum().to_numpy()
    expected = process.omega + (0.05 + 0.12 * (surprise < 0)) * surprise**2 + 0.8 * variance
    np.testing.assert_allclose(variance[1:], expected[:-1], rtol=1e-9)


def test_volatility_is_highest_at_the_ends_of_the_day_and_flat_without_a_u_shape() -> None:
    _, (_, volatility) = intraday(n_sessions=2, volatility_u=0.5, overnight_share=0.0)
    day = volatility[:78]
    assert day.argmax() in (0, 77)
    assert day.argmin() in (38, 39)
    assert day[0] / day[39] == pytest.approx(2 / 0.5, rel=0.05)
    _, (_, flat) = intraday(n_sessions=2, volatility_u=0.0, overnight_share=0.0)
    assert np.ptp(flat[:78]) < 1e-15
    _, (_, gapped) = intraday(n_sessions=2, volatility_u=0.0, overnight_share=0.3)
    assert gapped[0] ** 2 / (gapped[:78] ** 2).sum() == pytest.approx(0.3 + 0.7 / 78)


# ---- the bars


@pytest.mark.parametrize("seed", range(5))
def test_every_bar_is_a_valid_bar(seed: int) -> None:
    options = {"nu": 2.5, "overnight_share": 0.9}
    for _, (bars, volatility) in (daily(seed, **options), intraday(seed, n_sessions=40, **options)):
        checked = validate_bars(bars, name="simulated")
        assert checked["volume"].dtype == np.int64
        assert len(volatility) == len(checked)


def test_a_high_is_reached_as_often_as_a_brownian_path_reaches_it() -> None:
    constant = {"mu": 0.0, "alpha": 0.0, "gamma": 0.0, "beta": 0.0, "omega": 1e-4, "nu": 1e6}
    _, (bars, _) = daily(n_sessions=40_000, start="1950-01-03", overnight_share=0.0, **constant)
    before = bars["close"].shift().fillna(100.0)
    for distance in (0.005, 0.01, 0.02):
        expected = 2 * stats.norm.sf(distance / 0.01)  # reflection principle
        margin = 4 * np.sqrt(expected * (1 - expected) / len(bars))
        assert (bars["high"] >= before * np.exp(distance)).mean() == pytest.approx(expected, abs=margin)
        assert (bars["low"] <= before * np.exp(-distance)).mean() == pytest.approx(expected, abs=margin)


def test_the_open_stands_where_the_overnight_share_puts_it() -> None:
    for share in (0.0, 0.2, 0.7):
        _, (bars, volatility) = daily(n_sessions=20_000, overnight_share=share, nu=30.0)
        gap = np.log(bars["open"] / bars["close"].shift().fillna(100.0)).to_numpy()
        assert np.mean((gap / volatility) ** 2) == pytest.approx(share, abs=0.03)


def test_bars_within_a_session_open_at_the_close_before() -> None:
    _, (bars, _) = intraday(n_sessions=3)
    jumps = np.abs(np.log(bars["open"].to_numpy()[1:] / bars["close"].to_numpy()[:-1])) > 1e-12
    assert np.flatnonzero(jumps).tolist() == [77, 155]


def test_volume_is_largest_at_the_ends_of_the_day_and_in_large_moves() -> None:
    _, (bars, volatility) = intraday(n_sessions=300)
    by_slot = bars["volume"].to_numpy().reshape(300, 78).mean(axis=0)
    assert by_slot[[0, -1]].min() > 2 * by_slot[38:40].max()
    found = np.abs(shocks(bars, volatility, 0.0))
    assert stats.spearmanr(found, bars["volume"]).statistic > 0.1


# ---- time


def test_daily_bars_lie_on_the_sessions_of_the_exchange() -> None:
    _, (bars, _) = daily(n_sessions=3, start="2020-07-02")
    assert [str(day.date()) for day in bars.index] == ["2020-07-02", "2020-07-06", "2020-07-07"]
    _, (bars, _) = daily(n_sessions=3, start="2020-07-02", calendar="24/7")
    assert [day.day for day in bars.index] == [2, 3, 4]


def test_intraday_bars_keep_their_local_clock_over_a_change_of_it() -> None:
    _, (bars, _) = intraday(n_sessions=2, start="2020-03-06")
    assert [str(time) for time in bars.index[[0, 77, 78]]] == [
        "2020-03-06 14:30:00+00:00",
        "2020-03-06 20:55:00+00:00",
        "2020-03-09 13:30:00+00:00",
    ]


def test_a_half_day_ends_after_half_of_its_bars_if_asked_for() -> None:
    for half_days, n_bars in ((True, 39), (False, 78)):
        _, (bars, volatility) = intraday(n_sessions=3, start="2019-11-27", half_days=half_days)
        friday = bars.index.tz_convert("America/New_York").date == pd.Timestamp("2019-11-29").date()
        assert friday.sum() == n_bars
        assert len(bars) == len(volatility) == 2 * 78 + n_bars


def test_a_longer_simulation_begins_with_the_shorter_one() -> None:
    for make in (daily, intraday):
        _, (short, little) = make(n_sessions=20)
        _, (long, much) = make(n_sessions=30)
        pd.testing.assert_frame_equal(long.iloc[: len(short)], short)
        np.testing.assert_array_equal(much[: len(little)], little)


def test_sessions_that_a_change_of_the_clock_would_make_overlap_are_refused() -> None:
    around = {"bars_per_session": 288, "opens_at": "00:00", "timezone": "America/New_York"}
    with pytest.raises(Fault, match=r"sessions must not overlap when the clock changes.*timezone UTC"):
        intraday(n_sessions=5, start="2020-03-06", calendar="24/7", sessions=around)
    _, (bars, _) = intraday(
        n_sessions=5, start="2020-03-06", calendar="24/7", sessions={**around, "timezone": "UTC"}
    )
    assert (np.diff(bars.index.asi8) == 5 * 60 * 10**9).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.97}, "alpha + gamma / 2 + beta must be below 1, got 0.03 + 0.1 / 2 + 0.97 = 1.05"),
        ({"start": "soon"}, "start must be a date, got 'soon'"),
        ({"calendar": "NYSEE"}, "calendar must be an exchange of exchange_calendars, got 'NYSEE'"),
        ({"nu": 2}, "nu must be greater than 2"),
        ({"n_sesions": 5}, "did you mean 'n_sessions'?"),
    ],
)
def test_a_process_that_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(FinscaleError) as found:
        daily(**options)
    assert message in str(found.value)


def test_more_bars_than_a_day_has_are_refused() -> None:
    minutes = {"bars_per_session": 390, "opens_at": "09:30", "timezone": "America/New_York"}
    with pytest.raises(FinscaleError, match="must be at most 288 bars of 5 minutes, got 390"):
        intraday(sessions=minutes)
