"""Simulated bars say so everywhere, and the seed decides them."""

import pandas as pd

from finscale.core.seeding import generator
from finscale.datasets.bars import BarsDataset
from finscale.features.prepare import prepare_bars
from finscale.features.simulate import DailyProcess, simulate_daily

CME = {"bars_per_session": 276, "opens_at": "17:00", "timezone": "America/Chicago"}


def daily(**options: object) -> pd.DataFrame:
    return BarsDataset(source={"kind": "simulated", "process": "garch_t_daily", **options}).load()


def intraday(**options: object) -> pd.DataFrame:
    return BarsDataset(source={"kind": "simulated", "process": "intraday_sessions", **options}).load()


def test_the_card_says_simulated_which_process_and_which_seed() -> None:
    told = daily(seed=7, n_sessions=20).attrs
    assert told["simulated"] is True
    assert told["symbol"] == "SIMULATED garch_t_daily seed 7"
    assert intraday(n_sessions=5).attrs["symbol"] == "SIMULATED intraday_sessions seed 0"


def test_the_seed_decides_the_bars() -> None:
    pd.testing.assert_frame_equal(daily(seed=7, n_sessions=50), daily(seed=7, n_sessions=50))
    assert not daily(seed=7, n_sessions=50).equals(daily(seed=8, n_sessions=50))


def test_the_parameters_reach_the_process() -> None:
    options = {"n_sessions": 60, "start": "2010-06-01", "nu": 4.0, "omega": 1e-5, "calendar": "XLON"}
    expected = simulate_daily(DailyProcess.read(options), generator(3, "garch_t_daily")).bars
    pd.testing.assert_frame_equal(daily(seed=3, **options), expected)


def test_simulated_bars_pass_the_door_at_every_size() -> None:
    weekly = prepare_bars(daily(n_sessions=100), name="simulated", timescale="weekly")
    assert 18 <= len(weekly) <= 22
    bars = prepare_bars(intraday(n_sessions=30, sessions=CME), name="simulated", timescale="intraday")
    assert bars["session"].nunique() == 30
    assert (bars.groupby("session")["slot"].agg(["min", "max"]) == [0, 275]).all(axis=None)
    assert bars.attrs["simulated"] is True


def test_the_futures_session_of_a_day_opens_the_evening_before() -> None:
    bars = intraday(n_sessions=2, sessions=CME, start="2020-03-09")
    first = bars.index[0].tz_convert("America/Chicago")
    assert str(first) == "2020-03-08 17:00:00-05:00"
