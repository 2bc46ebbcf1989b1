"""Drawing a long series with few points loses no extreme and invents no row."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finscale.reporting.thinning import kept_rows, rounded, time_strings

lengths = st.integers(min_value=1, max_value=700)


@given(n_rows=lengths, seed=st.integers(0, 999), max_points=st.integers(6, 80))
def test_the_rows_kept_are_few_increasing_and_reach_from_first_to_last(
    n_rows: int, seed: int, max_points: int
) -> None:
    rows = kept_rows(np.random.default_rng(seed).normal(size=n_rows), max_points=max_points)
    assert len(rows) <= max_points
    assert (np.diff(rows) > 0).all()
    assert (rows[0], rows[-1]) == (0, n_rows - 1)


@given(n_rows=lengths, spikes=st.lists(st.integers(0, 699), max_size=4, unique=True))
def test_a_spike_stays_on_its_own_row(n_rows: int, spikes: list[int]) -> None:
    values = np.random.default_rng(0).normal(size=n_rows)
    for size, row in enumerate(spikes):
        values[row % n_rows] = (100 + size) * (-1) ** size
    rows = kept_rows(values, max_points=20)
    assert {int(values.argmin()), int(values.argmax())} <= set(rows.tolist())


@given(n_rows=st.integers(100, 700))
def test_every_row_has_a_kept_one_at_least_as_high_and_as_low_in_its_stretch(n_rows: int) -> None:
    values = np.random.default_rng(n_rows).normal(size=n_rows)
    kept = kept_rows(values, max_points=20)
    stretch = -(-n_rows // 9)
    for row, value in enumerate(values):
        near = values[kept[kept // stretch == row // stretch]]
        assert near.min() <= value <= near.max()


def test_a_short_series_is_drawn_whole() -> None:
    assert kept_rows(np.zeros(50), max_points=50).tolist() == list(range(50))


def test_numbers_are_written_finer_than_a_screen_shows() -> None:
    values = np.random.default_rng(0).normal(1e9, 3e6, size=500)
    span = float(np.ptp(values))
    assert np.abs(np.array(rounded(values, span=span)) - values).max() <= 1e-5 * span
    assert rounded(np.array([0.1, 0.1]), span=0.0) == [0.1, 0.1]


def test_instants_are_written_exactly() -> None:
    for text in ("2020-01-31", "2020-01-31T09:35", "2020-01-31T09:35:20", "2020-01-31T09:35:20.500"):
        times = np.array(["2020-01-30", text], dtype="datetime64[ns]")
        written = time_strings(times)
        assert (np.array(written, dtype="datetime64[ns]") == times).all()
        assert len(written[0]) == len(text)
