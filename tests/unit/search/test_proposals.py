"""What a search proposes, and that it proposes each configuration of a finite space once."""

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import optuna
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial
from search_toys import toy_grid
from spaces import POOLING, SPACES, Settings, settings_by_brute_force

from finscale.core.errors import Fault
from finscale.search.config import SearchConfig
from finscale.search.extremes import forced_rows
from finscale.search.proposals import Proposal, Proposer, is_counted
from finscale.search.space import SearchSpace

FIXED = {
    "learning_rate": [1e-3],
    "epochs": [50],
    "weight_decay": [1e-3],
    "warmup_steps": [100],
    "dropout": [0.1, 0.2],
}
FINITE: dict[str, Any] = {name: {"choices": choices} for name, choices in FIXED.items()}
OPTIONS = {"pooling": {"choices": list(POOLING)}}


def proposer_of(
    table: pd.DataFrame, space: dict[str, Any] | None = None, *, queue: Sequence[Proposal] = (), **config: Any
) -> Proposer:
    bound = SearchSpace.read(space or {}, subject="hpo.space").bind("patchtst")
    return Proposer(table, SearchConfig(**config), bound, seed=1, queue=queue)


def with_pooling(grid: pd.DataFrame) -> pd.DataFrame:
    """Every row under both poolings, as expanding the grid leaves them."""
    rows = [grid.assign(pooling=pooling, arch_id=grid["arch_id"] + pooling) for pooling in POOLING]
    return pd.concat(rows, ignore_index=True)


def told(
    proposer: Proposer, proposal: Proposal, outcome: str = "complete", value: float = 1.0
) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE if outcome == "complete" else TrialState.FAIL,
        value=value if outcome == "complete" else None,
        params=proposal.params,
        distributions={name: proposer.distributions[name] for name in proposal.params},
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
    proposer = proposer_of(grid, n_random=3)
    assert kinds(history(proposer, n_forced + 5)) == ["extreme"] * n_forced + ["random"] * 3 + ["sampler"] * 2


def test_extremes_are_the_grids_corners_at_central_training_parameters(grid: pd.DataFrame) -> None:
    trials = list(history(proposer_of(grid), len(forced_rows(grid))))
    assert tuple(trial.user_attrs["arch_id"] for trial in trials) == forced_rows(grid)
    assert {(trial.params["epochs"], trial.params["warmup_steps"]) for trial in trials} == {(75, 200)}


def test_a_random_trial_that_failed_is_made_up_for(grid: pd.DataFrame) -> None:
    n_forced = len(forced_rows(grid))
    trials = history(proposer_of(grid, n_random=2), n_forced + 4, failing=(n_forced,))
    assert kinds(trials)[n_forced:] == ["random", "random", "random", "sampler"]


def test_a_sample_is_drawn_at_random_from_its_first_trial_on(grid: pd.DataFrame) -> None:
    trials = history(proposer_of(grid, n_random=1, sampler="sample"), 20)
    assert set(kinds(trials)) == {"random"}


def test_random_draws_do_not_depend_on_what_was_told(grid: pd.DataFrame) -> None:
    proposer = proposer_of(grid, sampler="sample")
    trials = list(history(proposer, 15))
    other = [told(proposer, proposer.read(trial), value=float(k)) for k, trial in enumerate(trials)]
    assert proposer.next(trials) == proposer.next(other)


def test_a_finite_space_is_exhausted_without_a_repetition(grid: pd.DataFrame) -> None:
    size = 2 * len(grid)
    proposer = proposer_of(grid, n_trials=size, n_random=size, space=FINITE)
    trials = list(history(proposer, size))
    assert len({trial.user_attrs["proposal_id"] for trial in trials}) == size
    assert proposer.next(trials) is None


def test_the_sampler_repeats_no_configuration_of_a_finite_space(grid: pd.DataFrame) -> None:
    few = grid.iloc[:5]
    proposer = proposer_of(few, n_trials=10, n_random=0, space=FINITE)
    trials = list(history(proposer, 10))
    assert len({trial.user_attrs["proposal_id"] for trial in trials}) == 10
    assert "sampler" in kinds(iter(trials))


def test_more_trials_than_configurations_are_refused(grid: pd.DataFrame) -> None:
    with pytest.raises(
        Fault, match=f"hpo.n_trials must be at most {2 * len(grid)}, .*got {2 * len(grid) + 1}"
    ):
        proposer_of(grid, n_trials=2 * len(grid) + 1, space=FINITE)


def test_a_recorded_trial_reads_back_as_its_proposal(grid: pd.DataFrame) -> None:
    proposer = proposer_of(grid, n_random=2)
    study = optuna.create_study()
    study.add_trials(list(history(proposer, 12)))
    replayed: list[FrozenTrial] = []
    for trial in study.trials:
        assert proposer.read(trial) == proposer.next(replayed)
        replayed.append(trial)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(SPACES, st.sampled_from(["grid", "sample"]))
def test_every_configuration_of_a_finite_space_is_proposed_exactly_once(
    space: dict[str, Any], sampler: str
) -> None:
    table = with_pooling(toy_grid().iloc[:2])
    every = {
        (row["arch_id"], setting)
        for row in table.to_dict("records")
        for setting in settings_by_brute_force(space, row)
    }
    assume(len(every) <= 150)
    proposer = proposer_of(table, space, sampler=sampler, n_trials=len(every))
    proposals = list(drained(proposer))
    assert proposer.n_combinations == len(every) == len(proposals)
    assert {(proposal.row["arch_id"], setting_of(proposal)) for proposal in proposals} == every
    assert len({proposal.id for proposal in proposals}) == len(every)
    assert {proposal.kind for proposal in proposals} == {"grid" if sampler == "grid" else "random"}


def drained(proposer: Proposer) -> Iterator[Proposal]:
    """Propose until nothing is left; a trial is what a proposer reads of it."""
    trials: list[FrozenTrial] = []
    while (proposal := proposer.next(trials)) is not None:
        trials.append(cast(FrozenTrial, SimpleNamespace(user_attrs=proposal.attributes)))
        yield proposal


def setting_of(proposal: Proposal) -> Settings:
    return frozenset(proposal.training.items())


@pytest.mark.parametrize("sampler", ["gp", "tpe", "qmc", "sample", "grid"])
def test_a_proposal_depends_on_trials_table_space_and_seed_alone(grid: pd.DataFrame, sampler: str) -> None:
    space = {
        **{name: found for name, found in FINITE.items() if name != "learning_rate"},
        "learning_rate": {"choices": [1e-4, 3e-4, 1e-3]},
        "optimizer": {"choices": ["adamw", "sgd"]},
        "momentum": {"choices": [0.5, 0.9], "when": {"optimizer": "sgd"}},
        "linked": [{"patience": [5, 10, 15], "min_delta": [1e-3, 1e-4, 1e-5]}],
        **OPTIONS,
    }
    n_trials = len(forced_rows(grid)) + 7
    config: dict[str, Any] = {"sampler": sampler, "n_random": 2, "clip": True}
    trials = list(history(proposer_of(with_pooling(grid), space, **config), n_trials))
    for number in range(n_trials):
        proposal = proposer_of(with_pooling(grid), space, **config).next(trials[:number])
        assert proposal is not None
        assert proposal.params == trials[number].params
        assert {**proposal.attributes, "outcome": "complete"} == trials[number].user_attrs
        assert proposer_of(with_pooling(grid), space, **config).read(trials[number]) == proposal


def test_what_is_inactive_is_absent_from_the_trial_and_what_is_tied_is_recorded(grid: pd.DataFrame) -> None:
    space = {
        "optimizer": {"choices": ["adamw", "sgd"]},
        "momentum": {"choices": [0.5, 0.9], "when": {"optimizer": "sgd"}},
        "linked": [{"patience": [5, 10], "betas": [[0.9, 0.95], None]}],
    }
    trials = list(history(proposer_of(grid, space, sampler="sample"), 12))
    assert {trial.params["optimizer"] for trial in trials} == {"adamw", "sgd"}
    for trial in trials:
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        tied = (trial.params["linked_0"], trial.params["patience"], trial.params["betas"])
        assert tied in ((0, 5, "0.9 0.95"), (1, 10, None))


def test_a_grid_takes_its_exact_number_of_trials_unless_it_is_clipped(grid: pd.DataFrame) -> None:
    few, size = grid.iloc[:5], 10
    for n_trials in (size - 1, size + 1):
        with pytest.raises(Fault, match=rf"hpo.n_trials must be .*{size}.*, got {n_trials}; .*hpo.clip=true"):
            proposer_of(few, FINITE, sampler="grid", n_trials=n_trials)
        clipped = proposer_of(few, FINITE, sampler="grid", n_trials=n_trials, clip=True)
        assert clipped.n_trials == min(n_trials, size)
    assert proposer_of(few, FINITE, sampler="gp", n_trials=size - 1).n_trials == size - 1


def test_a_grid_of_a_continuous_space_is_refused_by_the_names_to_mend(grid: pd.DataFrame) -> None:
    with pytest.raises(Fault, match=r"not be grid where .*got learning_rate, weight_decay, dropout"):
        proposer_of(grid, sampler="grid")
    assert proposer_of(grid).n_combinations == math.inf


def test_what_was_queued_comes_between_the_random_stratum_and_the_sampler(grid: pd.DataFrame) -> None:
    n_forced, row = len(forced_rows(grid)), grid.to_dict("records")[0]
    typical = proposer_of(grid).typical()
    queue = [
        proposer_of(grid).named("transfer", row, {**typical.training, "dropout": dropout}, {"origin": "5K"})
        for dropout in (0.12, 0.27)
    ]
    trials = list(history(proposer_of(grid, n_random=1, queue=queue), n_forced + 5))
    assert kinds(iter(trials))[n_forced:] == ["random", "transfer", "transfer", "sampler", "sampler"]
    assert [trial.params["dropout"] for trial in trials[n_forced + 1 : n_forced + 3]] == [0.12, 0.27]
    assert trials[n_forced + 1].user_attrs["origin"] == "5K"


def test_one_row_that_differs_in_an_option_is_another_configuration(grid: pd.DataFrame) -> None:
    alike = pd.concat([grid.iloc[:1].assign(features=[["a"]]), grid.iloc[:1].assign(features=[["b"]])])
    space = {**FINITE, "features": {"choices": [["a"], ["b"]]}}
    trials = list(history(proposer_of(alike, space, sampler="sample", n_trials=4), 4))
    assert {tuple(trial.user_attrs["features"]) for trial in trials} == {("a",), ("b",)}
    assert len({trial.user_attrs["proposal_id"] for trial in trials}) == 4


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
