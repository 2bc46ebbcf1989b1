"""The driver: it alone asks, tells and writes; workers only train.

Every trial enters the study whole (number, parameters, attributes) in one transaction, and is told once. A
killed driver leaves RUNNING trials; the next one adopts them under their numbers, and their directories hold
what they had reached. So ``n_trials`` is an exact total and numbers are contiguous, whatever happens between.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from finscale.archgrid.batching import BatchConfig
from finscale.core.hashing import content_hash
from finscale.search.attempts import Job
from finscale.search.executors import Executor, Finished
from finscale.search.outcomes import TrialOutcome
from finscale.search.proposals import Proposal, Proposer, is_counted

__all__ = ["Driver", "DriverResult", "SearchEvent", "TrialPlan", "ignore", "trial_directory"]

MAX_BATCH_HALVINGS = 3
_POLL_S = 0.5


@dataclass(frozen=True)
class SearchEvent:
    """What a driver tells its listener.

    ``kind``: ``asked`` or ``adopted`` (values: kind, architecture, training parameters), ``progress`` (as the
    trial reported it), ``retried`` (after an OOM; values: the smaller batch), ``finished`` (values: outcome,
    reason, seconds, value, n_finished, n_trials), ``interrupted`` (left for the next driver).
    """

    kind: str
    number: int
    values: Mapping[str, Any] = field(default_factory=dict)


def ignore(event: SearchEvent) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class TrialPlan:
    """What a trial will do: the payload of its function, with a ``batch``, and attributes to record."""

    payload: dict[str, Any]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class DriverResult:
    """Why a driver returned: ``complete``, ``stopped`` (asked to) or ``failed`` (failures spent)."""

    outcome: Literal["complete", "stopped", "failed"]
    reason: str


@dataclass(frozen=True)
class _Running:
    proposal: Proposal
    job: Job
    n_halvings: int


def trial_directory(directory: Path, number: int) -> Path:
    """Where a trial keeps its checkpoints."""
    return directory / "trials" / f"trial_{number:04d}"


class Driver:
    """Drive one study to its total of trials.

    Parameters
    ----------
    study : optuna.Study
        Open, and held under a lease.
    proposer : Proposer
        Says what comes next.
    executor : Executor
        Runs the attempts.
    function : str
        Import path of the trial function.
    plan : callable
        Of (trial number, proposal): a `TrialPlan`.
    directory : Path
        Of the study; a file ``STOP`` here finishes the running trials, starts no others, and is taken away.
    n_trials, max_failures : int
        See `SearchConfig`.
    after_tell : callable
        Called once a trial is told, before the listener hears of it.
    on_event, should_stop : callable
        Listener; and whether to stop at the next step, leaving trials to be adopted.
    """

    def __init__(
        self,
        study: optuna.Study,
        proposer: Proposer,
        executor: Executor,
        *,
        function: str,
        plan: Callable[[int, Proposal], TrialPlan],
        directory: Path,
        n_trials: int,
        max_failures: int,
        after_tell: Callable[[int], None],
        on_event: Callable[[SearchEvent], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._study, self._proposer, self._executor = study, proposer, executor
        self._function, self._plan, self._directory = function, plan, directory
        self._n_trials, self._max_failures = n_trials, max_failures
        self._after_tell, self._on_event, self._should_stop = after_tell, on_event, should_stop
        self._running: dict[int, _Running] = {}
        self._orphans: deque[FrozenTrial] = deque()
        self._n_failures = 0
        self._drained_because: DriverResult | None = None
        self._is_stopping = False

    def run(self) -> DriverResult:
        """Ask, train and tell until the total is reached, or until told to stop."""
        self._orphans.extend(trial for trial in self._trials() if trial.state == TrialState.RUNNING)
        while True:
            self._look_for_stops()
            self._fill()
            if not self._running:
                return self._result()
            for finished in self._executor.poll(_POLL_S):
                # an attempt may have heard of the stop before us
                self._look_for_stops()
                self._settle(finished)

    def _trials(self) -> list[FrozenTrial]:
        return list(self._study.get_trials(deepcopy=False))

    def _result(self) -> DriverResult:
        if sum(map(is_counted, self._trials())) >= self._n_trials:
            return DriverResult("complete", "")
        assert self._drained_because is not None
        return self._drained_because

    def _look_for_stops(self) -> None:
        if not self._is_stopping and self._should_stop():
            self._is_stopping = True
            self._drain("stopped", "asked to stop; running trials were checkpointed")
            for number in self._running:
                self._executor.cancel(number)
        if _take(self._directory / "STOP"):
            self._drain("stopped", "STOP file; running trials were finished")

    def _drain(self, outcome: Literal["stopped", "failed"], reason: str) -> None:
        """Start nothing more; the first reason stands."""
        self._drained_because = self._drained_because or DriverResult(outcome, reason)

    def _fill(self) -> None:
        """Use every free slot: trials of a dead driver first, then new ones."""
        while self._drained_because is None and len(self._running) < self._executor.n_slots:
            if self._orphans:
                self._adopt(self._orphans.popleft())
            elif not self._ask():
                return

    def _adopt(self, trial: FrozenTrial) -> None:
        proposal = self._proposer.read(trial)
        payload = {**self._plan(trial.number, proposal).payload, "batch": _batch_in(trial.user_attrs)}
        self._on_event(SearchEvent("adopted", trial.number, proposal.description))
        self._submit(trial.number, proposal, payload, n_halvings=trial.user_attrs["n_halvings"])

    def _ask(self) -> bool:
        """Enter the next trial and start it; False where nothing is left to ask."""
        trials = self._trials()
        if sum(is_counted(trial) or trial.state == TrialState.RUNNING for trial in trials) >= self._n_trials:
            return False
        proposal = self._proposer.next(trials)
        if proposal is None:
            self._drain("failed", "every configuration of the space was tried, and some failed")
            return False
        plan = self._plan(len(trials), proposal)
        self._enter(proposal, plan)
        self._on_event(SearchEvent("asked", len(trials), proposal.description))
        self._submit(len(trials), proposal, plan.payload, n_halvings=0)
        return True

    def _enter(self, proposal: Proposal, plan: TrialPlan) -> None:
        """Write a RUNNING trial, whole, in one transaction."""
        batch = _batch_in(plan.payload["batch"])
        tries = {"requested_micro_batch_size": batch["micro_batch_size"], "n_halvings": 0}
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=proposal.params,
            distributions=self._proposer.distributions,
            user_attrs={**proposal.attributes, **plan.attributes, **batch, **tries},
        )
        self._study.add_trial(trial)

    def _submit(self, number: int, proposal: Proposal, payload: dict[str, Any], *, n_halvings: int) -> None:
        directory = trial_directory(self._directory, number)
        job = Job(number, content_hash(proposal.id, number), self._function, payload, directory)
        self._running[number] = _Running(proposal, job, n_halvings)
        self._executor.submit(job)

    def _settle(self, finished: Finished) -> None:
        """Tell a trial, retry it with a smaller batch, or leave it to be adopted."""
        running = self._running.pop(finished.number)
        outcome = finished.outcome
        if self._is_stopping and not outcome.is_final:
            self._on_event(SearchEvent("interrupted", finished.number))
        elif outcome.outcome == "oom" and self._retry(running):
            return
        elif outcome.outcome == "stopped":
            self._tell(finished, TrialOutcome(outcome="failed", reason="the trial stopped unasked"))
        else:
            self._tell(finished, outcome)

    def _retry(self, running: _Running) -> bool:
        """Halve the micro-batch and start again; False where it cannot be halved any more."""
        batch = BatchConfig.model_validate(running.job.payload["batch"])
        if running.n_halvings >= MAX_BATCH_HALVINGS or batch.micro_batch_size == 1:
            return False
        smaller = _halved(batch)
        n_halvings = running.n_halvings + 1
        self._record(running.job.number, {**smaller, "n_halvings": n_halvings})
        job = replace(running.job, payload={**running.job.payload, "batch": smaller})
        self._running[job.number] = _Running(running.proposal, job, n_halvings)
        self._on_event(SearchEvent("retried", job.number, smaller))
        self._executor.submit(job)
        return True

    def _tell(self, finished: Finished, outcome: TrialOutcome) -> None:
        result = {"outcome": outcome.outcome, "reason": outcome.reason, "seconds": finished.seconds}
        self._record(finished.number, {**result, **outcome.metrics})
        if outcome.outcome == "complete":
            self._study.tell(finished.number, outcome.value)
        else:
            self._study.tell(finished.number, state=TrialState.FAIL)
        self._count_failure(outcome)
        self._after_tell(finished.number)
        self._on_event(SearchEvent("finished", finished.number, {**result, **self._standing(outcome)}))

    def _record(self, number: int, attributes: Mapping[str, Any]) -> None:
        trial = optuna.trial.Trial(self._study, self._trials()[number]._trial_id)
        for name, value in attributes.items():
            trial.set_user_attr(name, _json_number(value))

    def _count_failure(self, outcome: TrialOutcome) -> None:
        self._n_failures += not outcome.is_final
        if self._n_failures > self._max_failures:
            reason = f"{self._n_failures} trials failed, more than hpo.max_failures={self._max_failures}"
            self._drain("failed", f"{reason}; the last one: {outcome.reason}")

    def _standing(self, outcome: TrialOutcome) -> dict[str, Any]:
        counted = sum(map(is_counted, self._trials()))
        return {"value": outcome.value, "n_finished": counted, "n_trials": self._n_trials}


def _halved(batch: BatchConfig) -> dict[str, Any]:
    """Halve the micro-batch (rounding up) and double the accumulation; the effective batch stays."""
    micro = math.ceil(batch.micro_batch_size / 2)
    return {
        "micro_batch_size": micro,
        "accumulation_steps": math.ceil(batch.effective_batch_size / micro),
        "effective_batch_size": batch.effective_batch_size,
        "activation_checkpointing": batch.activation_checkpointing,
    }


def _batch_in(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in BatchConfig.model_fields if name in values}


def _take(path: Path) -> bool:
    """Remove a file that asks for something; whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _json_number(value: Any) -> Any:
    """Replace what JSON cannot hold: NaN and infinity become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
