"""Every intraday bar has a session and a slot, and from these follows when it opened."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finscale.core.errors import FinscaleError
from finscale.features.sessions import SessionRule, bar_interval, length_words, place_bars

FIVE = pd.Timedelta("5min")
NYSE = SessionRule(bars_per_session=78, opens_at="09:30", timezone="America/New_York")
FX = SessionRule(bars_per_session=288, opens_at="17:00", timezone="America/New_York")
CME = SessionRule(bars_per_session=276, opens_at="17:00", timezone="America/Chicago")
ROUND_THE_CLOCK = SessionRule(bars_per_session=288, opens_at="00:00", timezone="UTC")


def utc(*instants: str, zone: str = "UTC") -> pd.DatetimeIndex:
    return pd.DatetimeIndex(instants).tz_localize(zone).tz_convert("UTC")


@given(
    rule=st.sampled_from([NYSE, FX, CME, ROUND_THE_CLOCK]),
    bars=st.lists(st.integers(0, 10 * 365 * 288), min_size=1, max_size=30, unique=True),
)
def test_opening_plus_slots_gives_the_instant_back(rule: SessionRule, bars: list[int]) -> None:
    opened_at = pd.Timestamp("2012-01-01", tz="UTC") + pd.to_timedelta(5 * np.array(sorted(bars)), unit="min")
    placed = place_bars(opened_at, rule, interval=FIVE)
    assert placed.on_grid.all()
    assert (placed.slot >= 0).all()
    back = rule.opening_instants(placed.session) + placed.slot * FIVE
    np.testing.assert_array_equal(back.to_numpy(), opened_at.to_numpy())
    following = rule.opening_instants(placed.session + pd.Timedelta(days=1))
    assert (opened_at < following).all(), "a bar belongs to the latest session that has opened"


@pytest.mark.parametrize(
    ("rule", "local", "session", "slot"),
    [
        (NYSE, "2020-03-09 09:30", "2020-03-09", 0),
        (NYSE, "2020-03-09 15:55", "2020-03-09", 77),
        (FX, "2020-03-09 16:55", "2020-03-09", 287),
        (FX, "2020-03-09 17:00", "2020-03-10", 0),
        (FX, "2020-03-08 17:00", "2020-03-09", 0),  # Sunday evening opens Monday
        (CME, "2020-03-09 15:55", "2020-03-09", 275),
        (ROUND_THE_CLOCK, "2020-03-09 23:55", "2020-03-09", 287),
    ],
)
def test_a_session_that_opens_at_noon_or_later_carries_the_next_date(
    rule: SessionRule, local: str, session: str, slot: int
) -> None:
    placed = place_bars(utc(local, zone=rule.timezone), rule, interval=FIVE)
    assert (str(placed.session[0].date()), placed.slot[0]) == (session, slot)


def test_noon_is_the_first_opening_that_carries_the_next_date() -> None:
    for opens_at, session in {"11:59": "2020-03-09", "12:00": "2020-03-10"}.items():
        rule = SessionRule(bars_per_session=10, opens_at=opens_at, timezone="UTC")
        placed = place_bars(utc(f"2020-03-09 {opens_at}"), rule, interval=FIVE)
        assert str(placed.session[0].date()) == session


@pytest.mark.parametrize("rule", [NYSE, FX])
@pytest.mark.parametrize("change", ["2020-03-08", "2020-11-01", "2019-03-10", "2019-11-03"])
def test_the_opening_keeps_its_wall_clock_over_a_daylight_saving_change(
    rule: SessionRule, change: str
) -> None:
    days = pd.date_range(pd.Timestamp(change) - pd.Timedelta(days=3), periods=7)
    openings = rule.opening_instants(days)
    assert set(openings.tz_convert(rule.timezone).strftime("%H:%M")) == {rule.opens_at}
    assert len(set(openings.strftime("%H:%M"))) == 2, "in UTC it moves"
    closing = openings + (rule.bars_per_session - 1) * FIVE
    if (
        rule is NYSE
    ):  # a currency session has 23 or 25 hours on the night of the change, of which none is traded
        assert set(place_bars(closing, rule, interval=FIVE).slot) == {77}


@pytest.mark.parametrize(("change", "n_bars"), [("2020-03-08", 276), ("2020-11-01", 300)])
def test_around_the_clock_slots_are_counted_in_real_time_on_the_day_of_a_change(
    change: str, n_bars: int
) -> None:
    rule = SessionRule(bars_per_session=288, opens_at="00:00", timezone="America/New_York")
    begin = pd.Timestamp(change, tz=rule.timezone)
    opened_at = pd.date_range(begin, begin + pd.DateOffset(days=1), freq=FIVE, inclusive="left").tz_convert(
        "UTC"
    )
    placed = place_bars(opened_at, rule, interval=FIVE)
    assert placed.slot.tolist() == list(range(n_bars))
    assert set(placed.session) == {pd.Timestamp(change)}
    faults = list(placed.faults(opened_at, rule, FIVE, name="x"))
    assert len(faults) == (1 if n_bars > 288 else 0)


def test_an_opening_that_the_clock_skips_or_repeats_is_one_instant() -> None:
    skipped = SessionRule(bars_per_session=10, opens_at="02:30", timezone="America/New_York")
    assert skipped.opening_instants(pd.DatetimeIndex(["2020-03-08"]))[0] == pd.Timestamp("2020-03-08 07:00Z")
    repeated = SessionRule(bars_per_session=10, opens_at="01:30", timezone="America/New_York")
    assert repeated.opening_instants(pd.DatetimeIndex(["2020-11-01"]))[0] == pd.Timestamp("2020-11-01 05:30Z")


def test_a_half_day_has_fewer_slots_and_moves_no_other() -> None:
    whole = pd.date_range("2019-11-27 09:30", periods=78, freq=FIVE, tz="America/New_York")
    half = pd.date_range("2019-11-29 09:30", periods=42, freq=FIVE, tz="America/New_York")
    after = pd.date_range("2019-12-02 09:30", periods=78, freq=FIVE, tz="America/New_York")
    opened_at = whole.append(half).append(after).tz_convert("UTC")
    placed = place_bars(opened_at, NYSE, interval=FIVE)
    assert placed.slot.tolist() == [*range(78), *range(42), *range(78)]
    assert placed.session.nunique() == 3
    assert not list(placed.faults(opened_at, NYSE, FIVE, name="x"))


def test_bars_off_the_grid_or_outside_the_session_are_named_with_a_remedy() -> None:
    opened_at = utc("2020-03-09 09:30", "2020-03-09 09:37", "2020-03-09 16:00", zone="America/New_York")
    placed = place_bars(opened_at, NYSE, interval=FIVE)
    off, late = (str(fault) for fault in placed.faults(opened_at, NYSE, FIVE, name="x"))
    assert off == (
        "x.opened_at must open a whole number of bars of 5 minutes after 09:30 America/New_York, "
        "got 1 bad bar (2020-03-09 13:37:00); "
        "correct sessions.opens_at or sessions.timezone of the source, or drop these bars"
    )
    assert late == (
        "x.opened_at must open within the 78 slots from 09:30 America/New_York, "
        "got 1 bad bar (2020-03-09 20:00:00); set sessions.bars_per_session: 79, "
        "correct sessions.opens_at or sessions.timezone, or drop these bars"
    )


def test_a_rule_with_more_bars_than_a_day_is_refused() -> None:
    hour = pd.Timedelta("1h")
    assert not list(FX.faults(FIVE))
    (fault,) = FX.faults(hour)
    assert str(fault) == (
        "sessions.bars_per_session must fit a day, got 288 bars of 1 hour; "
        "set sessions.bars_per_session: 24 or less"
    )
    autumn = SessionRule(bars_per_session=300, opens_at="00:00", timezone="America/New_York")
    assert not list(autumn.faults(FIVE)), "the day on which the clock is put back has 25 hours"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "timezone",
            "America/New_Yrok",
            "sessions.timezone must be an IANA time zone, .* did you mean 'America/New_York'",
        ),
        ("timezone", "nowhere", "write it like America/New_York"),
        ("opens_at", "9:30", "opens_at"),
        ("opens_at", "24:00", "opens_at"),
        ("bars_per_session", 0, "bars_per_session"),
        ("opens", "09:30", "opens must be a known key, got '09:30'; did you mean 'opens_at'"),
    ],
)
def test_a_faulty_rule_is_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(FinscaleError, match=message):
        SessionRule.read({**NYSE.model_dump(), key: value}, subject="sessions")


def test_the_interval_is_the_most_common_step_and_of_several_the_shortest() -> None:
    assert bar_interval(np.array([5, 5, 60, 7])) == pd.Timedelta(5)
    assert bar_interval(np.array([60, 5])) == pd.Timedelta(5)
    assert bar_interval(np.array([], dtype=np.int64)) is None


def test_lengths_are_said_in_words() -> None:
    said = [length_words(pd.Timedelta(text)) for text in ("1min", "90min", "1h", "24h", "30s", "500ms")]
    assert said == ["1 minute", "90 minutes", "1 hour", "1 day", "30 seconds", "0.5 seconds"]


def test_the_clock_agrees_with_the_standard_library() -> None:
    """The plain way, bar by bar, for a year of hourly bars."""
    opened_at = pd.date_range("2020-01-01", "2020-12-31", freq="h", tz="UTC")
    placed = place_bars(opened_at, FX, interval=pd.Timedelta("1h"))
    local = opened_at.tz_convert("America/New_York")
    plain = [t.date() + datetime.timedelta(days=int(t.hour >= 17)) for t in local]
    assert [day.date() for day in placed.session] == plain
