"""How long a training takes is read from trials that have ended, or fitted to timed steps."""

import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

from finscale.search.pace import Pace, pace_of_steps, pace_of_trials, to_be_timed
from finscale.training.step_times import StepTimes

TABLE = pd.DataFrame(
    {
        "arch_id": list("abcde"),
        "n_layers": [2, 4, 8, 32, 4],
        "flops_training": [1e6, 2e6, 9e6, 3e6, 2.5e6],
    }
)


def trial(arch_id: str, seconds: float, n_steps: int, state: TrialState = TrialState.COMPLETE):
    known = {"arch_id": arch_id, "seconds": seconds, "n_steps": n_steps, "effective_batch_size": 100}
    value = 0.5 if state == TrialState.COMPLETE else None
    return create_trial(value=value, state=state, user_attrs=known)


def test_the_median_the_costliest_and_the_deepest_are_timed_each_once():
    assert to_be_timed(TABLE) == [4, 2, 3]
    assert to_be_timed(TABLE.iloc[:1]) == [0]


def test_steps_that_follow_the_law_are_predicted_for_every_candidate():
    def law(row):
        return 1e-5 + 2e-6 * row["n_layers"] + 3e-12 * row["flops_training"]

    rows = TABLE.iloc[to_be_timed(TABLE)]
    timed = [StepTimes(law(row), law(row) / 4, 0.5) for _, row in rows.iterrows()]
    pace = pace_of_steps(rows, timed, source="steps")
    found = pace.seconds(TABLE, n_windows=1000, n_scored=200)
    expected = [0.5 + law(row) * (1000 + 200 / 4) for _, row in TABLE.iterrows()]
    assert found.tolist() == pytest.approx(expected)


def test_no_candidate_is_predicted_to_take_less_than_nothing():
    rows = TABLE.iloc[[0, 2, 3]]
    timed = [StepTimes(seconds, seconds, 0.0) for seconds in (5.0, 1.0, 0.1)]
    pace = pace_of_steps(rows, timed, source="steps")
    assert min(*pace.window_s, *pace.scored_s) >= 0


def test_finished_trials_are_predicted_as_long_as_they_took():
    trials = [trial("a", 10.0, 50), trial("c", 90.0, 50), trial("d", 1e9, 50, TrialState.FAIL)]
    pace = pace_of_trials(trials, TABLE)
    assert pace is not None
    assert pace.source == "2 finished trials"
    found = pace.seconds(TABLE, n_windows=50 * 100, n_scored=1e9)
    assert found.iloc[[0, 2]].tolist() == pytest.approx([10.0, 90.0])


def test_before_a_trial_of_these_candidates_has_ended_there_is_no_pace_of_trials():
    assert pace_of_trials([], TABLE) is None
    assert pace_of_trials([trial("elsewhere", 1.0, 5)], TABLE) is None
    assert (
        Pace(source="", window_s=(0, 0, 0), scored_s=(0, 0, 0), start_s=2.0)
        .seconds(TABLE, n_windows=1, n_scored=1)
        .tolist()
        == [2.0] * 5
    )
