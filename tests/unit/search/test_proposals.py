from collections.abc import Iterator

import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from finscale.core.errors import Fault
from finscale.search.config import SearchConfig
from finscale.search.extremes import forced_rows
from finscale.search.proposals import Proposal, Proposer, is_counted
from finscale.search.space import Dimension, SearchSpace

FIXED = {
    "learning_rate": [1e-3],
    "epochs": [50],
    "weight_decay": [1e-3],
    "warmup_steps": [100],
    "dropout": [0.1, 0.2],
}
FINITE = SearchSpace(**{name: Dimension(choices=tuple(choices)) for name, choices in FIXED.items()})


def told(
    proposer: Proposer, proposal: Proposal, outcome: str = "complete", value: float = 1.0
) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE if outcome == "complete" else TrialState.FAIL,
        value=value if outcome == "complete" else None,
        params=proposal.params,
        distributions=proposer.distributions,
        user_attrs={**proposal.attributes, "outcome": outcome},
    )


def history(proposer: Proposer, n_trials: int, failing: tuple[int, ...] = ()) -> Iterator[FrozenTrial]:
    trials: list[FrozenTrial] = []
    for number in range(n_trials):
        proposal = proposer.next(trials)
        assert proposal is not None
        trials.append(
            told(proposer, proposal, "failed" if number in failing else "complete", 1 / (1 + number))
        )
        yield trials[-1]


def kinds(trials: Iterator[FrozenTrial]) -> list[str]:
    return [trial.user_attrs["kind"] for trial in trials]


def test_extremes_come_first_then_the_random_stratum_then_the_sampler(grid: pd.DataFrame) -> None:
    n_forced = len(forced_rows(grid))
    proposer = Proposer(grid, SearchConfig(n_random=3), seed=1)
    assert kinds(history(proposer, n_forced + 5)) == ["extreme"] * n_forced + ["random"] * 3 + ["sampler"] * 2


def test_extremes_are_the_grids_corners_at_central_training_parameters(grid: pd.DataFrame) -> None:
    trials = list(history(Proposer(grid, SearchConfig(), seed=1), len(forced_rows(grid))))
    assert tuple(trial.user_attrs["arch_id"] for trial in trials) == forced_rows(grid)
    assert {(trial.params["epochs"], trial.params["warmup_steps"]) for trial in trials} == {(75, 200)}


def test_a_random_trial_that_failed_is_made_up_for(grid: pd.DataFrame) -> None:
    n_forced = len(forced_rows(grid))
    trials = history(Proposer(grid, SearchConfig(n_random=2), seed=1), n_forced + 4, failing=(n_forced,))
    assert kinds(trials)[n_forced:] == ["random", "random", "random", "sampler"]


def test_random_search_draws_at_random_for_ever(grid: pd.DataFrame) -> None:
    trials = history(Proposer(grid, SearchConfig(n_random=1, sampler="random"), seed=1), 20)
    assert set(kinds(trials)[len(forced_rows(grid)) :]) == {"random"}


def test_random_draws_do_not_depend_on_what_was_told(grid: pd.DataFrame) -> None:
    proposer = Proposer(grid, SearchConfig(sampler="random"), seed=1)
    trials = list(history(proposer, 15))
    other = [told(proposer, proposer.read(trial), value=float(k)) for k, trial in enumerate(trials)]
    assert proposer.next(trials) == proposer.next(other)


def test_a_finite_space_is_exhausted_without_a_repetition(grid: pd.DataFrame) -> None:
    size = 2 * len(grid)
    proposer = Proposer(grid, SearchConfig(n_trials=size, n_random=size, space=FINITE), seed=1)
    trials = list(history(proposer, size))
    assert len({trial.user_attrs["proposal_id"] for trial in trials}) == size
    assert proposer.next(trials) is None


def test_the_sampler_repeats_no_configuration_of_a_finite_space(grid: pd.DataFrame) -> None:
    few = grid.iloc[:5]
    proposer = Proposer(few, SearchConfig(n_trials=10, n_random=0, space=FINITE), seed=1)
    trials = list(history(proposer, 10))
    assert len({trial.user_attrs["proposal_id"] for trial in trials}) == 10
    assert "sampler" in kinds(iter(trials))


def test_more_trials_than_configurations_are_refused(grid: pd.DataFrame) -> None:
    with pytest.raises(
        Fault, match=f"hpo.n_trials must be at most {2 * len(grid)}, .*got {2 * len(grid) + 1}"
    ):
        Proposer(grid, SearchConfig(n_trials=2 * len(grid) + 1, space=FINITE), seed=1)


def test_a_recorded_trial_reads_back_as_its_proposal(grid: pd.DataFrame) -> None:
    proposer = Proposer(grid, SearchConfig(n_random=2), seed=1)
    study = optuna.create_study()
    study.add_trials(list(history(proposer, 12)))
    replayed: list[FrozenTrial] = []
    for trial in study.trials:
        assert proposer.read(trial) == proposer.next(replayed)
        replayed.append(trial)


def test_complete_pruned_and_diverged_trials_count_and_no_others() -> None:
    def ended(state: TrialState, outcome: str) -> FrozenTrial:
        value = 1.0 if state == TrialState.COMPLETE else None
        return create_trial(state=state, value=value, user_attrs={"outcome": outcome})

    counted = [
        (TrialState.COMPLETE, "complete"),
        (TrialState.PRUNED, "pruned"),
        (TrialState.FAIL, "diverged"),
    ]
    others = [(TrialState.FAIL, "failed"), (TrialState.FAIL, "oom"), (TrialState.RUNNING, "")]
    assert all(is_counted(ended(*each)) for each in counted)
    assert not any(is_counted(ended(*each)) for each in others)
