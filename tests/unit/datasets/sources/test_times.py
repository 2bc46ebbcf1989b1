"""Times as written become instants, or a fault that names the rows: no bar is moved by an hour in silence."""

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.datasets.sources.times import in_utc, read_times

LONDON = "Europe/London"  # clocks go forward 2020-03-29 01:00 and back 2020-10-25 02:00


def local(*times: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(list(times))


def fault_of(*times: str, timezone: str = LONDON) -> str:
    with pytest.raises(FinscaleError) as found:
        in_utc(local(*times), timezone=timezone, subject="bars.csv")
    return str(found.value)


def test_the_hour_shown_twice_is_told_apart_by_the_order_of_its_rows() -> None:
    hours = ["00:30", "01:00", "01:30", "01:00", "01:30", "02:00"]
    found = in_utc(local(*(f"2020-10-25 {hour}" for hour in hours)), timezone=LONDON, subject="bars.csv")
    expected = pd.date_range("2020-10-24 23:30", periods=6, freq="30min", tz="UTC")
    assert (found == expected).all()


@pytest.mark.parametrize("timezone", [LONDON, "America/New_York", "Australia/Sydney", "UTC", "Etc/GMT+5"])
def test_hourly_instants_written_as_local_times_come_back(timezone: str) -> None:
    instants = pd.date_range("2019-01-01", "2022-01-01", freq="h", tz="UTC")
    written = instants.tz_convert(timezone).tz_localize(None)
    assert (in_utc(written, timezone=timezone, subject="bars.csv") == instants).all()


def test_a_time_that_never_was_names_its_rows_and_the_remedy() -> None:
    text = fault_of("2020-03-29 00:30", "2020-03-29 01:00", "2020-03-29 01:30")
    assert "must hold times that the clocks of Europe/London showed" in text
    assert "got 2 rows (2020-03-29 01:00:00, 2020-03-29 01:30:00)" in text
    assert "is it another timezone?" in text


def test_an_hour_of_which_only_one_pass_is_there_is_refused_and_the_others_are_not_named() -> None:
    told_apart = ["2019-10-27 01:00", "2019-10-27 01:30", "2019-10-27 01:00", "2019-10-27 01:30"]
    text = fault_of(*told_apart, "2020-10-25 01:00", "2020-10-25 01:30", "2020-10-25 02:00")
    assert "must tell apart the hour that the clocks of Europe/London showed twice" in text
    assert "got 2 rows (2020-10-25 01:00:00, 2020-10-25 01:30:00)" in text
    assert "give both passes in order, write the times in UTC or with their offset" in text


def test_both_changes_of_the_clock_are_reported_at_once() -> None:
    text = fault_of("2020-03-29 01:30", "2020-10-25 01:30")
    assert text.startswith("2 faults:")
    assert "(2020-03-29 01:30:00)" in text
    assert "(2020-10-25 01:30:00)" in text


def test_rows_out_of_order_in_the_hour_shown_twice_are_refused() -> None:
    first, last = ["2019-10-27 01:00", "2019-10-27 01:30"], ["2020-10-25 01:30", "2020-10-25 01:00"]
    assert "2020-10-25" in fault_of(*first, *first, *last, *last, *last)


def test_a_missing_time_stays_missing_for_the_door_to_complain() -> None:
    found = in_utc(pd.DatetimeIndex(["2020-07-01 09:00", pd.NaT]), timezone=LONDON, subject="bars.csv")
    assert found[0].hour == 8
    assert found[1] is pd.NaT


def test_offsets_in_some_rows_only_are_refused() -> None:
    with pytest.raises(FinscaleError, match="1 of 2 rows with an offset from UTC"):
        read_times(pd.Series(["2020-01-02 09:30", "2020-01-02 09:35Z"]), subject="bars.csv.time")


@pytest.mark.parametrize(
    "day", ["2020-01-31", "2020/01/31", "20200131", "2020-01-31 00:00:00", "31 Jan 2020"]
)
def test_a_day_is_a_day_however_it_is_written(day: str) -> None:
    times = read_times(pd.Series([day]), subject="bars.csv.date")
    assert times.are_days
    assert times.instants is None
    assert times.local[0] == pd.Timestamp("2020-01-31")


def test_a_number_of_eight_digits_is_a_day() -> None:
    assert read_times(pd.Series(np.array([20200131])), subject="x").local[0] == pd.Timestamp("2020-01-31")
