"""The pipeline's door: what leaves it is canonical, and what cannot is refused with every fault at once."""

from pathlib import Path
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.core.hashing import content_hash
from finscale.features.bars import PRICES, validate_bars
from finscale.features.data_card import data_card
from finscale.features.prepare import prepare_bars
from finscale.features.segments import segment_ids
from finscale.features.timescales import TIMESCALES

ORIGIN: dict[str, Any] = {"source": "file", "symbol": "x", "adjustments": "none"}
NYSE = {"bars_per_session": 78, "opens_at": "09:30", "timezone": "America/New_York"}
FX = {"bars_per_session": 288, "opens_at": "17:00", "timezone": "Etc/GMT+5"}
NOTHING = "the volume is zero in every bar: treated as absent"


def told_of(bars: pd.DataFrame, **settings: Any) -> str:
    with pytest.raises(FinscaleError) as found:
        prepare_bars(bars, name="x", **settings)
    return str(found.value)


@pytest.fixture
def spy(test_data: Path) -> pd.DataFrame:
    bars = pd.read_csv(test_data / "spy_daily_1999_2020.csv", parse_dates=["date"], index_col="date")
    bars.attrs = dict(ORIGIN)
    return bars


def intraday(file: Path, *, timezone: str, sessions: dict[str, Any]) -> pd.DataFrame:
    table = pd.read_csv(file)
    times = pd.DatetimeIndex(table.iloc[:, 0]).tz_localize(timezone).tz_convert("UTC")
    bars = table.iloc[:, 1:].set_axis(times.rename("opened_at"))
    bars.attrs = {**ORIGIN, "sessions": sessions}
    return bars


def nyse_bars(first: str = "2020-03-05", last: str = "2020-03-11", **attrs: Any) -> pd.DataFrame:
    """Five-minute bars of the real sessions of New York, half days among them."""
    minutes = exchange_calendars.get_calendar("XNYS", start=first, end=last).schedule
    parts = [
        pd.date_range(row.open, row.close, freq="5min", inclusive="left") for row in minutes.itertuples()
    ]
    opened_at = parts[0].append(parts[1:]).as_unit("ns").rename("opened_at")
    close = 100 + np.cumsum(np.random.default_rng(0).normal(0, 0.05, len(opened_at)))
    table = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 10}
    bars = pd.DataFrame(table, index=opened_at)
    bars.attrs = {**ORIGIN, "sessions": NYSE, **attrs}
    return bars


# daily bars


def test_canonical_daily_bars_come_out_bit_for_bit(sp500: pd.DataFrame) -> None:
    found = prepare_bars(sp500, name="x")
    pd.testing.assert_frame_equal(found, sp500, check_exact=True)
    assert content_hash(found) == content_hash(sp500)


def test_daily_bars_as_loaded_are_those_that_validation_gives(spy: pd.DataFrame) -> None:
    assert content_hash(prepare_bars(spy, name="x")) == content_hash(validate_bars(spy, name="x"))


@pytest.mark.parametrize("timescale", [name for name in TIMESCALES if name != "intraday"])
def test_an_index_of_twenty_years_is_one_segment_at_every_timescale(
    sp500: pd.DataFrame, timescale: str
) -> None:
    bars = prepare_bars(sp500, name="x", timescale=timescale)
    assert segment_ids(bars.index, timescale=timescale).max() == 0


@pytest.mark.parametrize(
    ("timescale", "n_bars", "first", "last", "n_left_out"),
    [
        ("daily", 5241, "1999-11-01", "2020-08-28", 0),
        ("2d", 2620, "1999-11-02", "2020-08-27", 1),
        ("3d", 1747, "1999-11-03", "2020-08-28", 0),
        ("5d", 1048, "1999-11-05", "2020-08-27", 1),
        ("weekly", 1087, "1999-11-05", "2020-08-28", 0),
        ("2wk", 543, "1999-11-12", "2020-08-21", 5),
        ("monthly", 249, "1999-11-30", "2020-07-31", 20),
    ],
)
def test_spy_at_every_timescale(
    spy: pd.DataFrame, timescale: str, n_bars: int, first: str, last: str, n_left_out: int
) -> None:
    bars = prepare_bars(spy, name="spy", timescale=timescale)
    ends = (str(bars.index[0].date()), str(bars.index[-1].date()))
    assert (len(bars), *ends) == (n_bars, first, last)
    assert bars["volume"].sum() == spy["volume"].sum() - spy["volume"].iloc[len(spy) - n_left_out :].sum()
    assert bars.attrs["timescale"] == timescale
    said = [note for note in bars.attrs["notes"] if f"whole {timescale} bar" in note]
    assert [note.split()[0] for note in said] == ([str(n_left_out)] if n_left_out else [])
    assert bars.attrs["warnings"] == []


def test_what_the_dataset_said_is_kept_and_added_to(spy: pd.DataFrame) -> None:
    spy = spy.assign(volume=0)
    spy.attrs = {
        **ORIGIN,
        "notes": ["stale opens"],
        "repairs": ["one"],
        "warnings": ["odd"],
        "simulated": True,
    }
    before = {**spy.attrs, "notes": list(spy.attrs["notes"])}
    found = prepare_bars(spy, name="x")
    assert found.attrs["notes"] == ["stale opens", NOTHING]
    assert found.attrs["warnings"] == ["odd"]
    assert (found.attrs["repairs"], found.attrs["simulated"], found.attrs["symbol"]) == (["one"], True, "x")
    assert spy.attrs == before, "the table handed in is not touched"


def test_a_volume_of_zeros_is_absent_and_one_bar_with_volume_is_enough(spy: pd.DataFrame) -> None:
    assert "volume" not in prepare_bars(spy.assign(volume=0.0), name="x", timescale="weekly")
    once = spy.assign(volume=(np.arange(len(spy)) == 7).astype(int))
    assert prepare_bars(once, name="x")["volume"].sum() == 1
    later = prepare_bars(once, name="x", start="2000-01-03")
    assert "volume" not in later
    assert NOTHING in later.attrs["notes"]


def test_a_split_that_is_not_adjusted_for_is_warned_of_at_every_timescale(spy: pd.DataFrame) -> None:
    prices = spy[list(PRICES)].copy()
    prices.loc["2010-06-01":] /= 2
    split = spy.assign(**prices)
    for timescale in ("daily", "weekly"):
        found = prepare_bars(split, name="x", timescale=timescale)
        (warning,) = found.attrs["warnings"]
        assert warning.startswith("1 overnight move (2010-06-01) by about 1/2: a split")
        assert warning in data_card(found, **found.attrs).line()


def test_trimming_keeps_the_first_and_the_last_day_asked_for(sp500: pd.DataFrame) -> None:
    found = prepare_bars(sp500, name="x", start="2000-02-01", end="2000-02-29")
    pd.testing.assert_frame_equal(found, sp500.loc["2000-02-01":"2000-02-29"])
    assert (str(found.index[0].date()), str(found.index[-1].date())) == ("2000-02-01", "2000-02-29")


def test_sessions_outside_the_dates_do_not_enter_longer_bars(sp500: pd.DataFrame) -> None:
    """2000-02-02 is a Wednesday, 2000-02-24 a Thursday: their weeks are not whole."""
    found = prepare_bars(sp500, name="x", timescale="weekly", start="2000-02-02", end="2000-02-24")
    assert [str(day.date()) for day in found.index] == ["2000-02-11", "2000-02-18"]


def test_weeks_are_those_of_the_calendar_that_the_dataset_names(sp500: pd.DataFrame) -> None:
    """The week of Labor Day misses a session of London."""
    week = sp500.loc["2001-09-04":"2001-09-07"]
    week.attrs = {"calendar": "XNYS"}
    assert len(prepare_bars(week, name="x", timescale="weekly")) == 1
    week.attrs = {"calendar": "XLON"}
    assert "x must have the sessions of a whole weekly bar" in told_of(week, timescale="weekly")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timescale": "weekyl"}, "data.timescale must be known, got 'weekyl'; did you mean 'weekly'"),
        (
            {"timescale": "intraday"},
            "data.timescale must be daily or longer for daily bars, got 'intraday'; ",
        ),
        ({"start": "2000-13-01"}, "data.start must be a date, got '2000-13-01'; write it like 2010-01-31"),
        ({"end": "1/2/2000"}, "data.end must be a date, got '1/2/2000'; write it like 2010-01-31"),
        (
            {"start": "2001-01-01", "end": "2000-01-01"},
            "data.end must be on or after data.start=2001-01-01, got",
        ),
        (
            {"start": "2030-01-01"},
            "x must have bars from 2030-01-01, got 1999-01-04 to 2018-12-31; change data.start or data.end",
        ),
        (
            {"start": "2000-01-01", "end": "2000-01-02"},
            "x must have bars from 2000-01-01 to 2000-01-02, got 1999-",
        ),
        (
            {"timescale": "monthly", "start": "2000-02-02", "end": "2000-03-15"},
            "x must have the sessions of a whole monthly bar, got 30 sessions; give a longer history",
        ),
    ],
)
def test_a_faulty_setting_is_refused(sp500: pd.DataFrame, settings: dict[str, str], message: str) -> None:
    assert message in told_of(sp500, **settings)


def test_faults_of_settings_and_of_bars_are_told_at_once(sp500: pd.DataFrame) -> None:
    bad = sp500.assign(low=-1.0, volume=-5)
    told = told_of(bad, timescale="weekyl", start="soon", end="2000-1-1")
    assert told.startswith("5 faults:")
    for part in (
        "data.timescale",
        "data.start",
        "data.end",
        "x.low must be above 0",
        "x.volume must be at least 0",
    ):
        assert part in told


BAD = {
    "missing numbers": (
        lambda bars: bars.assign(close=bars["close"].where(bars["close"] < 1300)),
        "close must be a",
    ),
    "duplicate dates": (lambda bars: bars.iloc[[0, 1, 1, 2]], "must be unique"),
    "unsorted dates": (lambda bars: bars.iloc[::-1], "must be in increasing order"),
    "negative prices": (lambda bars: bars.assign(low=-bars["low"]), "low must be above 0"),
    "no rows": (lambda bars: bars.iloc[:0], "must have at least one bar"),
    "wrong columns": (lambda bars: bars.rename(columns={"close": "last"}), "close must be a column"),
}


@pytest.mark.parametrize("timescale", ["daily", "2d", "weekly"])
@pytest.mark.parametrize("case", BAD)
def test_bad_daily_bars_are_refused_at_every_timescale(
    sp500: pd.DataFrame, case: str, timescale: str
) -> None:
    spoil, message = BAD[case]
    assert message in told_of(spoil(sp500), timescale=timescale)


@pytest.mark.parametrize("case", BAD)
def test_bad_intraday_bars_are_refused(case: str) -> None:
    spoil, message = BAD[case]
    bars = nyse_bars()
    bars["close"] = (
        bars["close"].where(np.arange(len(bars)) != 9) if case == "missing numbers" else bars["close"]
    )
    assert message in told_of(spoil(bars), timescale="intraday")


# an instrument without rows is not in the panel, and the column that one lacks has no numbers there
@pytest.mark.parametrize("case", [case for case in BAD if case not in ("no rows", "wrong columns")])
def test_bad_bars_of_one_instrument_are_refused_and_the_instrument_named(
    sp500: pd.DataFrame, case: str
) -> None:
    spoil, message = BAD[case]
    members = {"good": sp500, "bad": spoil(sp500)}
    told = told_of(pd.concat(members, names=["instrument", "session"]))
    assert message in told
    assert "x.bad." in told
    assert "x.good." not in told


def test_a_column_that_one_instrument_lacks_is_named(sp500: pd.DataFrame) -> None:
    members = {"good": sp500, "bad": sp500.rename(columns={"close": "last"})}
    told = told_of(pd.concat(members, names=["instrument", "session"]))
    assert "x.bad.close must be a finite number in every bar, got 5031 bad bars (1999-01-04, " in told


def test_one_daily_row_is_a_bar_and_no_week() -> None:
    row = pd.DataFrame(dict.fromkeys(PRICES, 1.0), index=pd.DatetimeIndex(["2020-01-08"]))
    assert len(prepare_bars(row, name="x")) == 1
    assert "x must have the sessions of a whole weekly bar, got 1 sessions" in told_of(
        row, timescale="weekly"
    )
    assert "x must have the sessions of a whole 2d bar" in told_of(row, timescale="2d")


# intraday bars


def test_intraday_bars_have_sessions_and_slots_over_a_daylight_saving_change() -> None:
    for first, last in (("2020-03-05", "2020-03-11"), ("2020-10-29", "2020-11-04")):
        found = prepare_bars(nyse_bars(first, last), name="x", timescale="intraday")
        assert list(found.columns) == ["open", "high", "low", "close", "volume", "session", "slot"]
        assert found.index.dtype == "datetime64[ns, UTC]"
        assert (found["session"].dtype, found["slot"].dtype) == ("datetime64[ns]", "int32")
        assert found["slot"].tolist() == list(range(78)) * 5
        local = found.index.tz_convert("America/New_York")
        assert (found["session"].dt.date == local.date).all()
        assert found.attrs["bar_interval_s"] == 300


def test_a_half_day_ends_early_and_nothing_else_changes() -> None:
    found = prepare_bars(nyse_bars("2019-11-27", "2019-12-02"), name="x", timescale="intraday")
    sizes = found.groupby("session").size()
    assert [(str(day.date()), n) for day, n in sizes.items()] == [
        ("2019-11-27", 78),
        ("2019-11-29", 42),
        ("2019-12-02", 78),
    ]
    assert found["slot"].tolist() == [*range(78), *range(42), *range(78)]


def test_prepared_intraday_bars_come_out_again_as_they_are() -> None:
    once = prepare_bars(nyse_bars(), name="x", timescale="intraday")
    pd.testing.assert_frame_equal(prepare_bars(once, name="x", timescale="intraday"), once)


def test_intraday_bars_are_trimmed_by_their_session(test_data: Path) -> None:
    """A bar of 17:00 belongs to the next day."""
    bars = intraday(test_data / "eurusd_5min_mid_2014_05.csv", timezone="Etc/GMT+5", sessions=FX)
    found = prepare_bars(bars, name="x", timescale="intraday", start="2014-05-07", end="2014-05-08")
    assert [str(instant) for instant in found.index[[0, -1]]] == [
        "2014-05-06 22:00:00+00:00",
        "2014-05-08 21:55:00+00:00",
    ]


def test_intraday_bars_need_a_rule_of_sessions() -> None:
    told = told_of(nyse_bars(sessions=None), timescale="intraday")
    assert (
        "x.sessions must be given for intraday bars, got 'nothing'; add sessions: {bars_per_session: 288"
        in told
    )
    told = told_of(nyse_bars(sessions={**NYSE, "timezone": "Amerika/New_York"}), timescale="intraday")
    assert "must be an IANA time zone" in told


def test_intraday_bars_are_not_taken_for_daily_ones() -> None:
    assert "data.timescale must be intraday for intraday bars, got 'daily'" in told_of(nyse_bars())


def test_an_index_without_a_time_zone_is_refused() -> None:
    naive = nyse_bars().tz_localize(None)
    assert "write timezone: in the source" in told_of(naive, timescale="intraday")
    for timescale in ("daily", "intraday"):
        told = told_of(naive.rename_axis("session"), timescale=timescale)
        assert "write timezone: and sessions: in the source" in told
        assert "faults:" not in told


def test_a_bar_off_the_grid_or_outside_the_session_is_refused() -> None:
    bars = nyse_bars()
    moved = bars.set_axis(bars.index.where(np.arange(len(bars)) != 3, bars.index + pd.Timedelta("1min")))
    moved.attrs = bars.attrs
    told = told_of(moved.rename_axis("opened_at"), timescale="intraday")
    assert (
        "x.opened_at must open a whole number of bars of 5 minutes after 09:30 America/New_York, got 1 bad"
        in told
    )
    told = told_of(nyse_bars(sessions={**NYSE, "bars_per_session": 77}), timescale="intraday")
    assert "got 5 bad bars (2020-03-05 20:55:00, 2020-03-06 20:55:00, 2020-03-09 19:55:00, ...)" in told
    assert "set sessions.bars_per_session: 78," in told
    told = told_of(nyse_bars(sessions={**NYSE, "opens_at": "09:35"}), timescale="intraday")
    assert "x.opened_at must open within the 78 slots from 09:35" in told


def test_more_bars_than_a_day_holds_are_refused() -> None:
    told = told_of(nyse_bars(sessions={**NYSE, "bars_per_session": 390}), timescale="intraday")
    assert "sessions.bars_per_session must fit a day, got 390 bars of 5 minutes" in told


def test_one_intraday_row_has_no_interval() -> None:
    told = told_of(nyse_bars().iloc[:1], timescale="intraday")
    assert "x must have two bars to tell their interval" in told
    one = nyse_bars().iloc[:1]
    assert "x must have two bars to tell" in told_of(panel(AAA=one, BBB=one), timescale="intraday")


def test_five_minute_euro_dollar_has_its_whole_days(test_data: Path) -> None:
    midnight = {**FX, "opens_at": "00:00"}
    bars = intraday(test_data / "eurusd_5min_mid_2014_05.csv", timezone="Etc/GMT+5", sessions=midnight)
    found = prepare_bars(bars, name="x", timescale="intraday")
    sizes = found.groupby("session").size()
    assert (len(found), (sizes == 288).sum()) == (3744, 11)
    assert found.loc[found["session"] == "2014-05-04", "slot"].tolist() == list(range(252, 288)), (
        "a Sunday evening"
    )
    assert segment_ids(found.index, timescale="intraday").max() == 1, "the file leaps from 2014 to 2018"


def test_hourly_euro_dollar_has_a_slot_for_each_hour(test_data: Path) -> None:
    rule = {"bars_per_session": 24, "opens_at": "00:00", "timezone": "UTC"}
    bars = intraday(test_data / "eurusd_1h_mid_2007_2018.csv.gz", timezone="UTC", sessions=rule)
    found = prepare_bars(bars, name="x", timescale="intraday")
    assert len(found) == 74_439
    assert (found["slot"] == found.index.hour).all()
    assert found.attrs["bar_interval_s"] == 3600
    assert found.attrs["warnings"] == []


def test_one_minute_bars_of_the_index_have_no_volume_and_a_closing_auction(test_data: Path) -> None:
    rule = {**NYSE, "bars_per_session": 391}
    bars = intraday(test_data / "sp500_1min_nov2019.csv", timezone="America/New_York", sessions=rule)
    found = prepare_bars(bars, name="x", timescale="intraday")
    assert found.groupby("session").size().tolist() == [391, 391, 391, 390]
    assert "volume" not in found
    assert NOTHING in found.attrs["notes"]
    bars.attrs["sessions"] = {**rule, "bars_per_session": 390}
    told = told_of(bars, timescale="intraday")
    assert "got 3 bad bars (2019-11-05 21:00:00, 2019-11-06 21:00:00, 2019-11-07 21:00:00)" in told


# panels and series


def panel(**members: pd.DataFrame) -> pd.DataFrame:
    time = next(iter(members.values())).index.name
    bars = pd.concat(members, names=["instrument", time])
    bars.attrs = dict(next(iter(members.values())).attrs)
    return bars


@pytest.mark.parametrize("timescale", [name for name in TIMESCALES if name != "intraday"])
def test_an_instrument_of_a_panel_is_prepared_as_if_alone(sp500: pd.DataFrame, timescale: str) -> None:
    members = {"ZZZ": sp500.iloc[300:900], "AAA": sp500.iloc[:700]}
    found = prepare_bars(panel(**members), name="x", timescale=timescale)
    for name, bars in members.items():
        alone = prepare_bars(bars, name="x", timescale=timescale)
        pd.testing.assert_frame_equal(found.loc[name], alone)
    assert list(found.index.get_level_values("instrument").unique()) == ["ZZZ", "AAA"]


def test_an_intraday_panel_of_unequal_histories_has_sessions_and_slots() -> None:
    members = {"ZZZ": nyse_bars("2020-03-09", "2020-03-10"), "AAA": nyse_bars("2020-03-05", "2020-03-11")}
    found = prepare_bars(panel(**members), name="x", timescale="intraday")
    assert found["slot"].tolist() == list(range(78)) * 7
    for name, bars in members.items():
        alone = prepare_bars(bars, name="x", timescale="intraday")
        pd.testing.assert_frame_equal(found.loc[name], alone)


def test_bars_of_another_length_are_no_part_of_a_panel() -> None:
    every_ten = nyse_bars().iloc[::2]
    told = told_of(panel(AAA=nyse_bars(), BBB=every_ten), timescale="intraday")
    assert "x.BBB must have bars of 5 minutes, like most of the panel, got bars of 10 minutes" in told


def test_a_bar_outside_the_session_names_its_instrument() -> None:
    late = nyse_bars()
    late.index = late.index + pd.Timedelta("5min")
    told = told_of(panel(AAA=nyse_bars(), BBB=late), timescale="intraday")
    assert "x.BBB.opened_at must open within the 78 slots" in told
    assert "AAA" not in told


def test_an_instrument_without_bars_in_the_dates_is_named(sp500: pd.DataFrame) -> None:
    told = told_of(panel(old=sp500.iloc[:500], new=sp500), start="2010-01-01")
    assert told.startswith("x.old must have bars from 2010-01-01, got 1999-01-04 to 2000-12-2")
    assert told.endswith("or leave the instrument out")
    told = told_of(panel(old=sp500, new=sp500.iloc[-3:]), timescale="monthly")
    assert told.startswith("x.new must have the sessions of a whole monthly bar, got 3 sessions")


def test_a_panel_says_whose_volume_is_absent_and_whose_prices_jump(sp500: pd.DataFrame) -> None:
    prices = sp500[list(PRICES)].copy()
    prices.iloc[1000:] /= 3
    found = prepare_bars(panel(AAA=sp500, BBB=sp500.assign(volume=0, **prices)), name="x")
    assert "volume" not in found
    assert "the volume of BBB is zero in every bar: treated as absent" in found.attrs["notes"]
    (warning,) = found.attrs["warnings"]
    assert warning.startswith("BBB: 1 overnight move (")
    assert "by about 1/3" in warning


def test_a_series_is_taken_as_it_is(test_data: Path) -> None:
    table = pd.read_csv(test_data / "ETTh1.csv", parse_dates=["date"], index_col="date")
    table.attrs = {**ORIGIN, "kind": "series"}
    found = prepare_bars(table, name="x")
    assert found.shape == (17_420, 7)
    np.testing.assert_array_equal(found.to_numpy(), table.to_numpy())
    assert segment_ids(found.index, timescale="daily").max() == 0
    day = prepare_bars(table, name="x", start="2016-07-02", end="2016-07-02")
    assert len(day) == 24
    assert "data.timescale must leave a series its own steps, got 'weekly'" in told_of(
        table, timescale="weekly"
    )
    assert "x.OT must be a finite number" in told_of(table.assign(OT=np.nan))
