"""No label reaches a later split; no origin lies in two."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from finscale.core.errors import Fault
from finscale.windows.data import SPLITS
from finscale.windows.experiment import SplitConfig
from finscale.windows.splits import split_faults, split_origins


@st.composite
def settings_of_a_split(draw: st.DrawFn) -> dict[str, object]:
    train = draw(st.integers(30, 80)) / 100
    return {
        "n_rows": draw(st.integers(50, 900)),
        "horizon": draw(st.integers(1, 40)),
        "context_length": draw(st.integers(1, 80)),
        "split": SplitConfig(
            fractions=(train, (1 - train) / 2, (1 - train) / 2),
            gap=draw(st.integers(0, 20)),
            val_select_fraction=draw(st.sampled_from([0.3, 0.5, 0.7])),
        ),
    }


def origins_of(drawn: dict[str, object]) -> dict[str, np.ndarray]:
    try:
        return split_origins(drawn.pop("n_rows"), **drawn)
    except Fault:
        assume(False)
        raise


@settings(max_examples=200, deadline=None)
@given(drawn=settings_of_a_split())
def test_no_training_label_reaches_a_later_row_and_no_origin_is_in_two_splits(
    drawn: dict[str, object],
) -> None:
    n_rows, horizon, gap = drawn["n_rows"], drawn["horizon"], drawn["split"].gap
    context_length = drawn["context_length"]
    origins = origins_of(drawn)
    everything = np.concatenate(list(origins.values()))
    assert len(np.unique(everything)) == len(everything)
    for earlier, later in pairwise(SPLITS):
        assert origins[earlier][-1] + horizon + gap < origins[later][0]
    assert everything.min() >= context_length - 1
    assert everything.max() + horizon < n_rows
    assert split_faults(origins, horizon=horizon, gap=gap) == []


@settings(max_examples=100, deadline=None)
@given(drawn=settings_of_a_split())
def test_the_purge_takes_no_origin_more_than_it_must(drawn: dict[str, object]) -> None:
    n_rows, reach = drawn["n_rows"], drawn["horizon"] + drawn["split"].gap
    context_length, horizon = drawn["context_length"], drawn["horizon"]
    origins = origins_of(drawn)
    for earlier, later in pairwise(SPLITS):
        assert np.array_equal(origins[earlier], np.arange(origins[earlier][0], origins[earlier][-1] + 1))
        if context_length <= origins[later][0]:
            assert origins[earlier][-1] + 1 + reach == origins[later][0]
    assert origins["test"][-1] == n_rows - 1 - horizon


def test_the_checker_catches_a_purge_that_is_one_short() -> None:
    origins = split_origins(400, horizon=5, context_length=10, split=SplitConfig())
    for i, name in enumerate(SPLITS[:-1]):
        spoiled = origins | {name: np.r_[origins[name], origins[name][-1] + 1]}
        told = split_faults(spoiled, horizon=5)
        first = origins[SPLITS[i + 1]][0]
        assert told == [f"labels of {name} reach row {first}, {SPLITS[i + 1]} begins at {first}"]


def test_the_checker_catches_a_shared_origin() -> None:
    origins = split_origins(400, horizon=5, context_length=10, split=SplitConfig())
    spoiled = origins | {"test": np.r_[origins["train"][-1], origins["test"]]}
    assert "train and test share origins" in split_faults(spoiled, horizon=5)


def test_the_checker_counts_the_gap() -> None:
    origins = split_origins(400, horizon=5, context_length=10, split=SplitConfig(gap=3))
    assert split_faults(origins, horizon=5, gap=3) == []
    assert len(split_faults(origins, horizon=5, gap=4)) == 3


def test_fractions_are_of_the_feature_rows() -> None:
    origins = split_origins(1000, horizon=2, context_length=60, split=SplitConfig())
    bounds = {name: (int(rows[0]), int(rows[-1])) for name, rows in origins.items()}
    assert bounds == {
        "train": (59, 697),
        "val_select": (700, 772),
        "val_score": (775, 847),
        "test": (850, 997),
    }


def test_a_split_left_empty_is_a_fault_with_the_counts() -> None:
    with pytest.raises(Fault) as found:
        split_origins(300, horizon=30, context_length=60, split=SplitConfig())
    told = str(found.value)
    assert "data.split must leave origins in every split, got {'train': 121, 'val_select': 0" in told
    assert "from 300 feature rows, horizon 30, context 60" in told
