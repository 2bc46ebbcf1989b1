"""Feature rows are found among their bars, with their instrument, session and the reach of their context."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import Fault
from finscale.features.segments import segment_ids
from finscale.windows.rows import Rows, place_rows

Make = Callable[..., pd.DataFrame]


def place(index: pd.Index, bars: pd.DataFrame, reach: str = "series", timescale: str = "daily") -> Rows:
    segments = segment_ids(bars.index, timescale=timescale)
    return place_rows(index, bars, segments=segments, context_reach=reach)


@pytest.fixture(scope="module")
def panel(make_panel: Make) -> pd.DataFrame:
    """B before A, unequal histories, a gap of 30 days in A."""
    return make_panel({"B": (0, 100), "A": (40, 120)}, gaps={"A": slice(50, 80)})


def after_warm_up(bars: pd.DataFrame, n: int) -> pd.DataFrame:
    """What is left when each segment loses its first n rows."""
    segments = segment_ids(bars.index, timescale="daily")
    return bars[pd.Series(segments).groupby(segments).cumcount().to_numpy() >= n]


def test_rows_keep_their_bar_instrument_and_segment(panel: pd.DataFrame) -> None:
    features = after_warm_up(panel, 7)
    rows = place(features.index, panel)
    assert panel.index[rows.bars].equals(features.index)
    assert rows.names == ("B", "A")
    names = features.index.get_level_values("instrument")
    assert [rows.names[code] for code in rows.instruments] == names.tolist()
    assert np.unique(rows.segments, return_counts=True)[1].tolist() == [93, 43, 33]
    starts = np.flatnonzero(np.diff(rows.segments, prepend=-1))
    np.testing.assert_array_equal(rows.context_starts, starts[rows.segments])
    np.testing.assert_array_equal(rows.sessions, rows.dates)
    assert not rows.slots.any()


def test_a_segment_shorter_than_the_warm_up_may_vanish(panel: pd.DataFrame) -> None:
    features = after_warm_up(panel, 45)
    rows = place(features.index, panel)
    assert np.unique(rows.segments).tolist() == [0, 1]
    assert rows.context_starts[-1] == 55


def test_rows_that_are_not_the_last_bars_of_each_segment_are_refused(panel: pd.DataFrame) -> None:
    features = after_warm_up(panel, 7)
    segments = place(features.index, panel).segments
    last_of_first = int(np.flatnonzero(segments == 0)[-1])
    spoiled = {
        "the end of a segment": np.delete(np.arange(len(features)), last_of_first),
        "a row inside": np.delete(np.arange(len(features)), 20),
        "the last row": np.arange(len(features) - 1),
        "every row": np.arange(0),
        "order": np.r_[1, 0, np.arange(2, len(features))],
    }
    for kept in spoiled.values():
        with pytest.raises(Fault, match="features must cover the last bars of each uninterrupted"):
            place(features.index[kept], panel)


def test_instruments_in_turns_are_refused(panel: pd.DataFrame) -> None:
    mixed = panel.iloc[np.argsort(np.arange(len(panel)) % 2, kind="stable")]
    segments = np.arange(len(mixed))
    with pytest.raises(Fault, match="rows of a panel must stand together"):
        place_rows(mixed.index, mixed, segments=segments, context_reach="series")


def test_a_context_that_reaches_the_session_begins_with_it(intraday_bars: pd.DataFrame) -> None:
    features = intraday_bars.iloc[11:]
    rows = place(features.index, intraday_bars, "session", "intraday")
    np.testing.assert_array_equal(rows.slots, features["slot"])
    np.testing.assert_array_equal(rows.sessions, features["session"].to_numpy())
    for t in range(len(rows)):
        own = np.flatnonzero(rows.sessions == rows.sessions[t]) if t % 97 == 0 else None
        assert own is None or rows.context_starts[t] == own[0]
    assert (rows.dates == features.index.tz_convert(None).to_numpy()).all()


def test_a_context_that_reaches_the_series_crosses_sessions_but_no_gap(intraday_bars: pd.DataFrame) -> None:
    kept = intraday_bars[
        (intraday_bars["session"] < "2015-03-02") | (intraday_bars["session"] > "2015-03-20")
    ]
    rows = place(kept.index, kept, "series", "intraday")
    first = int(np.flatnonzero(rows.sessions > np.datetime64("2015-03-20"))[0])
    assert np.unique(rows.context_starts).tolist() == [0, first]
