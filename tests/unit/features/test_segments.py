"""Segments are stretches of one instrument without a long gap."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finscale.core.errors import FinscaleError
from finscale.features.segments import segment_ids, segment_starts
from finscale.features.timescales import TIMESCALES

_BEGIN = pd.Timestamp("2000-01-03")


def days_after(steps: list[int]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(_BEGIN + pd.to_timedelta(np.cumsum(steps), unit="D"), name="session")


@given(
    panel=st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=12), min_size=1, max_size=4),
    timescale=st.sampled_from(sorted(TIMESCALES)),
)
def test_rows_share_a_segment_exactly_when_no_long_step_or_other_instrument_lies_between(
    panel: list[list[int]], timescale: str
) -> None:
    index = pd.MultiIndex.from_tuples(
        [(f"i{k}", day) for k, steps in enumerate(panel) for day in days_after(steps)],
        names=["instrument", "session"],
    )
    expected, number = [], -1
    for steps in panel:
        for place, step in enumerate(steps):
            number += place == 0 or step > TIMESCALES[timescale].max_gap_days
            expected.append(number)
    ids = segment_ids(index, timescale=timescale)
    assert ids.dtype == np.int64
    assert ids.tolist() == expected
    assert segment_starts(ids).tolist() == [expected.index(number) for number in expected]


@pytest.mark.parametrize("timescale", sorted(TIMESCALES))
def test_a_step_of_the_longest_gap_is_inside_and_a_longer_one_is_not(timescale: str) -> None:
    longest = TIMESCALES[timescale].max_gap_days
    assert segment_ids(days_after([0, longest]), timescale=timescale).tolist() == [0, 0]
    later = days_after([0, longest]) + pd.to_timedelta([0, 1], unit="ns")
    assert segment_ids(later, timescale=timescale).tolist() == [0, 1]


def test_instants_in_utc_are_cut_like_days() -> None:
    instants = days_after([0, 1, 11, 1]).tz_localize("UTC").rename("opened_at")
    assert segment_ids(instants, timescale="intraday").tolist() == [0, 0, 1, 1]


def test_an_empty_table_has_no_segments() -> None:
    ids = segment_ids(days_after([]), timescale="daily")
    assert ids.shape == segment_starts(ids).shape == (0,)


def test_an_unknown_timescale_names_the_nearest() -> None:
    with pytest.raises(FinscaleError, match="timescale must be known, got 'weekyl'; did you mean 'weekly'"):
        segment_ids(days_after([0]), timescale="weekyl")
