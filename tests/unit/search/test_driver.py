"""The promises of a search: exact totals, contiguous numbers, nothing lost, whatever is killed or stopped."""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from search_toys import drive, toy_grid

from finscale.search.attempts import Job
from finscale.search.config import SearchConfig
from finscale.search.driver import SearchEvent, trial_directory
from finscale.search.executors import Executor, Finished, OnReport
from finscale.search.extremes import forced_rows
from finscale.search.outcomes import TrialOutcome
from finscale.search.proposals import is_counted
from finscale.search.study import load_study

SIX = SearchConfig(n_trials=6, n_random=2, executor="inline")


def inline(n_trials: int, **changes: object) -> SearchConfig:
    return SearchConfig(**{"n_trials": n_trials, "executor": "inline", **changes})


def outcomes(study: optuna.Study) -> list[str]:
    return [trial.user_attrs["outcome"] for trial in study.trials]


def attempts(directory: Path, number: int) -> list[str]:
    return (trial_directory(directory, number) / "attempts").read_text().splitlines()


def essence(study: optuna.Study) -> list[tuple]:
    return [
        (t.number, t.params, t.value, t.user_attrs["kind"], t.user_attrs["arch_id"]) for t in study.trials
    ]


# -- totals and order ---------------------------------------------------------------------------------------


def test_the_total_is_exact_and_numbers_are_contiguous(tmp_path: Path) -> None:
    result, study = drive(tmp_path, config=SIX)
    assert (result.outcome, result.reason) == ("complete", "")
    assert [trial.number for trial in study.trials] == list(range(6))
    assert outcomes(study) == ["complete"] * 6


def test_a_complete_study_asks_nothing_more_and_a_larger_total_only_the_rest(tmp_path: Path) -> None:
    before = essence(drive(tmp_path, config=inline(6, sampler="sample"))[1])
    assert essence(drive(tmp_path, config=inline(6, sampler="sample"))[1]) == before
    after = essence(drive(tmp_path, config=inline(9, sampler="sample"))[1])
    assert after[:6] == before
    assert len(after) == 9


def test_the_order_is_extremes_random_stratum_sampler_cut_at_the_total(tmp_path: Path) -> None:
    n_forced = len(forced_rows(toy_grid()))
    _, study = drive(tmp_path, config=inline(n_forced + 3, n_random=2))
    kinds = [trial.user_attrs["kind"] for trial in study.trials]
    assert kinds == ["extreme"] * n_forced + ["random"] * 2 + ["sampler"]
    assert study.trials[-1].params.keys() == study.trials[0].params.keys()


def test_a_trial_records_its_architecture_and_both_batches(tmp_path: Path) -> None:
    _, study = drive(tmp_path, config=SIX)
    rows = toy_grid().set_index("arch_id")
    for trial in study.trials:
        row, found = rows.loc[trial.user_attrs["arch_id"]], trial.user_attrs
        for name in ("d_model", "n_layers", "n_heads", "d_ff", "n_params", "grid_hash"):
            assert found[name] == row[name]
        assert found["micro_batch_size"] == found["requested_micro_batch_size"] == 128
        assert found["seconds"] >= 0


# -- outcomes -----------------------------------------------------------------------------------------------


def test_a_diverged_trial_counts_once_and_a_failed_one_does_not(tmp_path: Path) -> None:
    result, study = drive(tmp_path, config=SIX, behaviours={1: float("nan"), 2: float("inf"), 3: "raise"})
    assert result.outcome == "complete"
    assert outcomes(study) == [
        "complete",
        "diverged",
        "diverged",
        "failed",
        "complete",
        "complete",
        "complete",
    ]
    assert [trial.state for trial in study.trials[1:4]] == [TrialState.FAIL] * 3
    assert study.trials[3].user_attrs["reason"] == "RuntimeError: the toy broke"
    assert len(attempts(tmp_path, 3)) == 1


def test_the_failure_budget_ends_a_run_and_a_new_run_has_a_new_one(tmp_path: Path) -> None:
    broken = dict.fromkeys(range(1, 20), "raise")
    result, study = drive(tmp_path, config=inline(6, max_failures=2), behaviours=broken)
    assert result.outcome == "failed"
    assert "3 trials failed, more than hpo.max_failures=2" in result.reason
    assert "the toy broke" in result.reason
    assert outcomes(study) == ["complete", "failed", "failed", "failed"]
    result, study = drive(tmp_path, config=inline(6, max_failures=2))
    assert result.outcome == "complete"
    assert sum(map(is_counted, study.trials)) == 6


def test_an_oom_halves_the_micro_batch_until_it_fits(tmp_path: Path) -> None:
    events: list[SearchEvent] = []
    _, study = drive(tmp_path, config=SIX, behaviours={2: "oom above 40"}, on_event=events.append)
    assert [line.split()[1] for line in attempts(tmp_path, 2)] == ["128", "64", "32"]
    found = study.trials[2].user_attrs
    assert (found["outcome"], found["requested_micro_batch_size"], found["micro_batch_size"]) == (
        "complete",
        128,
        32,
    )
    assert (found["accumulation_steps"], found["effective_batch_size"]) == (4, 128)
    assert [event.values["micro_batch_size"] for event in events if event.kind == "retried"] == [64, 32]


def test_an_oom_is_final_after_three_halvings_and_the_search_goes_on(tmp_path: Path) -> None:
    result, study = drive(tmp_path, config=SIX, behaviours={2: "oom above 1"})
    assert [line.split()[1] for line in attempts(tmp_path, 2)] == ["128", "64", "32", "16"]
    assert (result.outcome, outcomes(study)) == ("complete", ["complete"] * 2 + ["oom"] + ["complete"] * 4)


def test_a_killed_child_is_retried_as_an_oom_and_the_rest_is_untouched(tmp_path: Path) -> None:
    config = SearchConfig(n_trials=3, n_workers=1)
    _, study = drive(tmp_path, config=config, behaviours={1: "kill SIGKILL"})
    assert outcomes(study) == ["complete", "oom", "complete", "complete"]
    assert len(attempts(tmp_path, 1)) == 4


# -- stopping and going on ----------------------------------------------------------------------------------


def stop_after(n_polls: int) -> Callable[[], bool]:
    """Say stop at the n-th question: the driver asks once a round, an inline trial at every epoch."""
    asked = iter(range(10**6))
    return lambda: next(asked) >= n_polls


ADAPTIVE = inline(len(forced_rows(toy_grid())) + 4, n_random=1)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    return essence(drive(tmp_path_factory.mktemp("whole"), config=ADAPTIVE, epochs=2)[1])


@pytest.mark.parametrize("n_polls", [1, 9, 30])
def test_an_interrupted_search_equals_an_uninterrupted_one(
    tmp_path: Path, uninterrupted: list[tuple], n_polls: int
) -> None:
    result, study = drive(tmp_path, config=ADAPTIVE, epochs=2, should_stop=stop_after(n_polls))
    assert result.outcome == "stopped"
    assert len(study.trials) < ADAPTIVE.n_trials or study.trials[-1].state == TrialState.RUNNING
    result, study = drive(tmp_path, config=ADAPTIVE, epochs=2)
    assert result.outcome == "complete"
    assert essence(study) == uninterrupted
    assert [kind for *_, kind, _ in uninterrupted].count("sampler") == 3


def test_a_stop_leaves_the_trial_running_and_the_next_driver_adopts_it(tmp_path: Path) -> None:
    result, study = drive(tmp_path, config=SIX, epochs=5, should_stop=stop_after(4))
    assert (result.outcome, [trial.state for trial in study.trials]) == ("stopped", [TrialState.RUNNING])
    events: list[SearchEvent] = []
    _, study = drive(tmp_path, config=SIX, epochs=5, on_event=events.append)
    told = [(event.kind, event.number) for event in events if event.kind != "progress"]
    assert told[:2] == [("adopted", 0), ("finished", 0)]
    assert [trial.number for trial in study.trials] == list(range(6))


def test_a_stop_reaches_processes_at_their_next_step(tmp_path: Path) -> None:
    config = SearchConfig(n_trials=4, n_workers=2)

    def begun() -> bool:
        return all((trial_directory(tmp_path, number) / "epoch").exists() for number in (0, 1))

    result, study = drive(tmp_path, config=config, epochs=1000, seconds_per_epoch=0.01, should_stop=begun)
    assert result.outcome == "stopped"
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING] * 2


def test_a_stop_file_finishes_what_runs_and_is_taken_away(tmp_path: Path) -> None:
    def touch_stop(event: SearchEvent) -> None:
        if event.kind == "asked" and event.number == 2:
            (tmp_path / "STOP").touch()

    result, study = drive(tmp_path, config=SIX, on_event=touch_stop)
    assert (result.outcome, outcomes(study)) == ("stopped", ["complete"] * 3)
    assert not (tmp_path / "STOP").exists()
    assert len(drive(tmp_path, config=SIX)[1].trials) == 6


def test_an_adopted_trial_keeps_the_batch_it_had_come_down_to(tmp_path: Path) -> None:
    def stop() -> bool:
        path = trial_directory(tmp_path, 0) / "attempts"
        return path.exists() and len(path.read_text().splitlines()) == 3

    drive(tmp_path, config=SIX, behaviours={0: "oom above 40"}, epochs=3, should_stop=stop)
    drive(tmp_path, config=SIX, behaviours={0: "oom above 40"}, epochs=3)
    assert [line.split()[1] for line in attempts(tmp_path, 0)] == ["128", "64", "32", "32"]


def test_a_result_that_was_on_disk_but_not_told_is_not_trained_again(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die(event: SearchEvent) -> None:
        if event.kind == "finished" and event.number == 1:
            raise Killed

    with pytest.raises(Killed):
        drive(tmp_path, config=SIX, on_event=die)
    study = load_study(tmp_path)
    saved = json.loads((trial_directory(tmp_path, 1) / "outcome.json").read_text())
    make_running(tmp_path, study.trials[1])
    _, study = drive(tmp_path, config=SIX)
    assert study.trials[1].value == saved["value"]
    assert len(attempts(tmp_path, 1)) == 1


def make_running(directory: Path, trial: FrozenTrial) -> None:
    """Put the study back to the moment before it was told."""
    import sqlite3

    with sqlite3.connect(directory / "study.db") as connection:
        connection.execute(
            "UPDATE trials SET state='RUNNING', datetime_complete=NULL WHERE number=?", (trial.number,)
        )
        connection.execute("DELETE FROM trial_values WHERE trial_id=?", (trial._trial_id,))


# -- pruning ------------------------------------------------------------------------------------------------


def pruned_search(n_trials: int = 20, **changes: object) -> SearchConfig:
    usual = {"n_random": 3, "pruner": "asha", "pruning_min_epochs": 2, **changes}
    return inline(n_trials, **usual)


def test_a_pruned_trial_ends_early_counts_and_keeps_its_losses(tmp_path: Path) -> None:
    result, study = drive(tmp_path, config=pruned_search(), epochs=6)
    assert (result.outcome, len(study.trials)) == ("complete", 20)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        found = trial.user_attrs
        assert (found["outcome"], found["kind"]) == ("pruned", "sampler")
        assert found["pruned_loss"] == trial.intermediate_values[found["pruned_epoch"]]
        assert list(trial.intermediate_values) == list(range(1, found["pruned_epoch"] + 1))
        assert (trial_directory(tmp_path, trial.number) / "epoch").read_text() == str(found["pruned_epoch"])
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert all(list(trial.intermediate_values) == [1, 2, 3, 4, 5, 6] for trial in complete)
    assert len(pruned) + len(complete) == 20


def test_processes_prune_as_well(tmp_path: Path) -> None:
    config = pruned_search(14, executor="process", n_workers=2)
    result, study = drive(tmp_path, config=config, epochs=50, seconds_per_epoch=0.02)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert result.outcome == "complete"
    assert pruned
    # on a busy machine one may end before it hears
    assert min(int((trial_directory(tmp_path, t.number) / "epoch").read_text()) for t in pruned) < 50


def test_without_a_pruner_no_losses_are_written_to_the_study(tmp_path: Path) -> None:
    _, study = drive(tmp_path, config=SIX, epochs=2)
    assert not any(trial.intermediate_values for trial in study.trials)


def test_a_trial_that_was_given_up_is_not_trained_on_by_the_next_driver(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    given_up: list[int] = []

    def die(event: SearchEvent) -> None:
        if event.kind == "pruned":
            given_up.append(event.number)
            raise Killed

    with pytest.raises(Killed):
        drive(tmp_path, config=pruned_search(), epochs=6, on_event=die)
    (number,) = given_up
    at_kill = (trial_directory(tmp_path, number) / "epoch").read_text()
    assert load_study(tmp_path).trials[number].state == TrialState.RUNNING
    result, study = drive(tmp_path, config=pruned_search(), epochs=6)
    assert (result.outcome, study.trials[number].state) == ("complete", TrialState.PRUNED)
    assert (trial_directory(tmp_path, number) / "epoch").read_text() == at_kill


# -- batches ------------------------------------------------------------------------------------------------

IN_BATCHES = SearchConfig(
    n_trials=len(forced_rows(toy_grid())) + 5, n_random=1, n_workers=2, execution="deterministic_batches"
)


@pytest.fixture(scope="module")
def in_batches(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    return essence(drive(tmp_path_factory.mktemp("batches"), config=IN_BATCHES, jitter_s=0.1)[1])


def test_batches_propose_the_same_whoever_is_faster(tmp_path: Path, in_batches: list[tuple]) -> None:
    _, study = drive(tmp_path, config=IN_BATCHES, jitter_s=0.3)
    assert essence(study) == in_batches
    assert [kind for *_, kind, _ in in_batches].count("sampler") == 4


def test_a_batch_is_told_in_the_order_of_its_numbers_once_all_of_it_has_ended(tmp_path: Path) -> None:
    told: list[int] = []
    asked: list[tuple[int, int]] = []

    def listen(event: SearchEvent) -> None:
        if event.kind == "finished":
            told.append(event.number)
        if event.kind == "asked":
            asked.append((event.number, len(told)))

    drive(tmp_path, config=IN_BATCHES, jitter_s=0.2, on_event=listen)
    assert told == list(range(IN_BATCHES.n_trials))
    assert asked == [(number, number - number % 2) for number in range(IN_BATCHES.n_trials)]


@pytest.mark.parametrize("moment", [("asked", 8), ("finished", 8), ("finished", 9)])
def test_an_interrupted_search_in_batches_equals_an_uninterrupted_one(
    tmp_path: Path, in_batches: list[tuple], moment: tuple[str, int]
) -> None:
    class Killed(BaseException):
        pass

    def die(event: SearchEvent) -> None:
        if (event.kind, event.number) == moment:
            raise Killed

    with pytest.raises(Killed):
        drive(tmp_path, config=IN_BATCHES, on_event=die)
    assert essence(drive(tmp_path, config=IN_BATCHES, jitter_s=0.1)[1]) == in_batches


class InTurns(Executor):
    """Runs pairs of trials one after the other, the faster one first, without a process."""

    def __init__(self, on_report: OnReport, *, faster: int) -> None:
        super().__init__(n_slots=2, on_report=on_report)
        self._faster, self._jobs, self._cancelled = faster, dict[int, Job](), set[int]()

    def submit(self, job: Job) -> None:
        self._jobs[job.number] = job

    def poll(self, timeout_s: float) -> list[Finished]:
        ended = [self._run(number) for number in sorted(self._jobs, key=lambda n: n % 2 != self._faster)]
        self._jobs.clear()
        return ended

    def _run(self, number: int) -> Finished:
        value = self._jobs[number].payload["value"]
        for epoch in range(1, 7):
            if number in self._cancelled:
                return Finished(number, TrialOutcome(outcome="stopped"), 0.0)
            self._on_report(number, {"epoch": epoch, "val_loss": value + 1 / epoch})
        return Finished(number, TrialOutcome(outcome="complete", value=value), 0.0)

    def cancel(self, number: int) -> None:
        self._cancelled.add(number)

    def close(self) -> None:
        self._jobs.clear()


@pytest.mark.parametrize("faster", [0, 1])
def test_in_batches_a_trial_is_judged_by_those_of_earlier_batches_alone(tmp_path: Path, faster: int) -> None:
    n_forced = len(forced_rows(toy_grid()))
    n = 6 * math.ceil((n_forced + 1) / 6)
    # at the rung there is room for n / 3 and one place is left: alone either of the pair takes it
    earlier = {k: 0.1 if k < n // 3 - 1 else 0.9 for k in range(n)}
    config = pruned_search(
        n + 4,
        n_random=n - n_forced,
        executor="process",
        n_workers=2,
        execution="deterministic_batches",
    )
    _, study = drive(
        tmp_path,
        config=config,
        behaviours={**earlier, n: 0.3, n + 1: 0.2, n + 2: 0.95, n + 3: 0.95},
        epochs=6,
        executor=functools.partial(InTurns, faster=faster),
    )
    ends = [trial.state for trial in study.trials[n:]]
    assert ends == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED] * 2
