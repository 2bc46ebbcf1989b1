"""Blocks of sessions: by shares, by dates, and rolling on; a spoiled plan is told."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.windows.experiment import SplitConfig, WalkForward
from finscale.windows.plan import n_folds, plan_faults, plan_splits


def days(n: int) -> np.ndarray:
    return np.datetime64("2010-01-01", "ns") + np.arange(n) * np.timedelta64(1, "D")


def walking(**settings: object) -> SplitConfig:
    return SplitConfig(walk_forward=WalkForward(**settings))


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(40, 900),
    folds=st.integers(2, 8),
    scheme=st.sampled_from(["expanding", "rolling"]),
    initial=st.sampled_from([0.2, 0.5, 0.75]),
)
def test_every_fold_trains_before_it_validates_and_validates_before_it_tests(
    n: int, folds: int, scheme: str, initial: float
) -> None:
    split = walking(n_folds=folds, scheme=scheme, initial_train=initial)
    plans = plan_splits(days(n), split)
    first = round(n * initial)
    blocks = [*(plan.test - plan.validation for plan in plans), plans[-1].end - plans[-1].test]
    assert (len(plans), plans[0].validation, plans[-1].end) == (folds, first, n)
    assert max(blocks) - min(blocks) <= 1
    for earlier, later in pairwise(plans):
        assert (later.validation, later.test) == (earlier.test, earlier.end)
    for plan in plans:
        assert plan.train <= plan.validation <= plan.score <= plan.test <= plan.end
        assert plan.validation - plan.train == (first if scheme == "rolling" else plan.validation)
        tested_before = [earlier.end for earlier in plans if earlier.end < plan.validation]
        assert list(plan.embargoed) == tested_before
    assert plan_faults(plans, split, n_sessions=n) == []


def test_a_walk_forward_of_a_hundred_sessions() -> None:
    plans = plan_splits(days(100), walking(n_folds=4, initial_train=0.5))
    assert [plan.boundaries for plan in plans] == [
        (0, 50, 55, 60, 70),
        (0, 60, 65, 70, 80),
        (0, 70, 75, 80, 90),
        (0, 80, 85, 90, 100),
    ]
    assert [plan.embargoed for plan in plans] == [(), (), (), (70,)]
    rolling = plan_splits(days(100), walking(n_folds=4, initial_train=0.5, scheme="rolling"))
    assert [plan.train for plan in rolling] == [0, 10, 20, 30]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train": 1}, "fold 2 trains from session 1, not 0"),
        ({"validation": 71}, "fold 2 does not begin where fold 1 tested"),
        ({"test": 83}, "fold 2 has blocks of"),
        ({"test": 69}, "fold 2 is out of order"),
        ({"embargoed": (60,)}, "fold 2 embargoes after sessions (60,), not ()"),
    ],
)
def test_a_spoiled_fold_is_told(change: dict[str, object], told: str) -> None:
    split = walking(n_folds=4, initial_train=0.5)
    plans = list(plan_splits(days(100), split))
    plans[2] = replace(plans[2], **change)
    assert any(told in fault for fault in plan_faults(plans, split, n_sessions=100))


def test_a_missing_fold_and_a_short_plan_are_told() -> None:
    split = walking(n_folds=4, initial_train=0.5)
    plans = plan_splits(days(100), split)
    assert "3 folds do not fill" in plan_faults(plans[:3], split, n_sessions=100)[0]
    assert "4 folds do not fill" in plan_faults(plans, split, n_sessions=101)[0]
    assert plan_faults(plan_splits(days(100), SplitConfig()), SplitConfig(), n_sessions=99) != []


def test_a_division_without_folds_has_one() -> None:
    assert n_folds(SplitConfig()) == len(plan_splits(days(100), SplitConfig())) == 1
    assert n_folds(walking(n_folds=5)) == 5


def test_dates_that_are_no_sessions_begin_with_the_next_one() -> None:
    some = days(100)[::3]
    split = SplitConfig(dates=("2010-02-02", "2010-03-03", "2010-03-20"))
    (plan,) = plan_splits(some, split)
    begins = [np.datetime_as_string(some[i], "D") for i in (plan.validation, plan.test, plan.end)]
    assert begins == ["2010-02-03", "2010-03-05", "2010-03-20"]
    open_end = plan_splits(some, SplitConfig(dates=("2010-02-02", "2010-03-03")))[0]
    assert open_end.end == len(some)
