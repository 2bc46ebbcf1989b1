"""The driver: it alone asks, tells and writes; workers only train.

Every trial enters the study whole (number, parameters, attributes) in one transaction, and is told once. A
killed driver leaves RUNNING trials; the next one adopts them under their numbers, and their directories hold
what they had reached. So ``n_trials`` is an exact total and numbers are contiguous, whatever happens between.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from finscale.archgrid.batching import BatchConfig, split_batch
from finscale.core.hashing import content_hash
from finscale.search.attempts import Job
from finscale.search.config import SearchConfig
from finscale.search.executors import Executor, Finished
from finscale.search.ledger import Ledger
from finscale.search.outcomes import TrialOutcome
from finscale.search.proposals import Proposal, Proposer, is_counted, is_under_way
from finscale.search.pruning import Pruner
from finscale.search.retries import MAX_BATCH_HALVINGS, MAX_LOSSES, OomPolicy, smaller_batch
from finscale.search.supplemental import Supplements

__all__ = ["Driver", "DriverResult", "SearchEvent", "TrialPlan", "ignore", "trial_directory"]

_POLL_S = 0.5
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchEvent:
    """What a driver tells its listener.

    ``kind``: ``asked`` or ``adopted`` (values: kind, architecture, training parameters), ``progress`` (as the
    trial reported it), ``retried`` (after an OOM; values: the smaller batch), ``moved`` (its worker went
    away; values: reason), ``pruned`` (told to end; values: epoch), ``finished`` (values: outcome, reason,
    seconds, value, n_finished, n_trials and the ``trial`` as recorded), ``interrupted`` (left for the next
    driver).
    """

    kind: str
    number: int
    values: Mapping[str, Any] = field(default_factory=dict)


def ignore(event: SearchEvent) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class TrialPlan:
    """What a trial will do: the payload of its function, with a ``batch``, and attributes to record.

    Among the attributes are ``epochs``, the length of its schedule.
    """

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
    n_losses: int


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
        Runs the attempts; its reports go to `on_report`.
    config : SearchConfig
        Of it are read ``n_trials``, ``max_failures``, ``oom_policy``, ``execution`` and the pruner.
    supplements : Supplements, optional
        What to run once the total is reached, on top of it.
    function : str
        Import path of the trial function.
    plan : callable
        Of (trial number, proposal, batch that earlier attempts came down to or None): a `TrialPlan`.
    directory : Path
        Of the study; a file ``STOP`` here finishes the running trials, starts no others, and is taken away.
    after_tell : callable
        Called with all trials and the number of one that was told, before the listener hears of it.
    on_event, should_stop : callable
        Listener; and whether to stop at the next step, leaving trials to be adopted.
    """

    def __init__(
        self,
        study: optuna.Study,
        proposer: Proposer,
        executor: Executor,
        *,
        config: SearchConfig,
        supplements: Supplements | None = None,
        function: str,
        plan: Callable[[int, Proposal, BatchConfig | None], TrialPlan],
        directory: Path,
        after_tell: Callable[[Sequence[FrozenTrial], int], None],
        on_event: Callable[[SearchEvent], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._ledger, self._proposer, self._executor = Ledger(study), proposer, executor
        self._supplements = supplements
        self._config, self._function, self._plan, self._directory = config, function, plan, directory
        self._after_tell, self._on_event, self._should_stop = after_tell, on_event, should_stop
        self._pruner = Pruner(config.pruner, config.pruning_min_epochs, config.pruning_reduction)
        self._in_batches = config.execution == "deterministic_batches"
        self._running: dict[int, _Running] = {}
        self._orphans: deque[FrozenTrial] = deque()
        self._ended: list[Finished] = []
        self._pruned: dict[int, int] = {}
        self._n_failures = 0
        self._drained_because: DriverResult | None = None
        self._is_stopping = False

    def run(self) -> DriverResult:
        """Ask, train and tell until the total is reached, or until told to stop."""
        self._orphans.extend(trial for trial in self._ledger.trials() if trial.state == TrialState.RUNNING)
        while True:
            self._look_for_stops()
            self._fill()
            if not self._running:
                return self._result()
            for finished in self._executor.poll(_POLL_S):
                # an attempt may have heard of the stop before us
                self._look_for_stops()
                self._receive(finished)

    def on_report(self, number: int, values: Mapping[str, Any]) -> None:
        """Hear what a running trial reports, and end it if it is behind."""
        self._on_event(SearchEvent("progress", number, values))
        if self._config.pruner != "none" and number not in self._pruned:
            self._judge(number, epoch=values["epoch"], loss=values["val_loss"])

    def _judge(self, number: int, *, epoch: int, loss: float) -> None:
        self._ledger.report(number, epoch=epoch, loss=loss)
        # in batches, who reports first is chance: rivals are the trials of earlier batches
        rivals_below = self._first_of_batch(number) if self._in_batches else float("inf")
        if self._pruner.is_hopeless(self._ledger.trials(), number, epoch=epoch, rivals_below=rivals_below):
            self._ledger.record(number, {"pruned_epoch": epoch, "pruned_loss": loss})
            self._pruned[number] = epoch
            self._executor.cancel(number)
            self._on_event(SearchEvent("pruned", number, {"epoch": epoch}))

    def _first_of_batch(self, number: int) -> int:
        return number - number % self._executor.n_slots

    def _result(self) -> DriverResult:
        trials = self._ledger.trials()
        is_full = sum(map(is_counted, trials)) >= self._proposer.n_trials
        is_running = any(trial.state == TrialState.RUNNING for trial in trials)
        if is_full and not is_running and not (self._supplements and self._supplements.left(trials)):
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
        proposal, found = self._proposer.read(trial), trial.user_attrs
        if "pruned_epoch" in found:
            self._pruned[trial.number] = found["pruned_epoch"]
        plan = self._plan(trial.number, proposal, _batch_of(trial, self._config.oom_policy))
        self._on_event(SearchEvent("adopted", trial.number, proposal.description))
        _logger.info("Trial %d was left by an earlier driver: it goes on", trial.number)
        n_losses = found.get("n_losses", 0)
        self._start(trial.number, proposal, plan, n_halvings=found["n_halvings"], n_losses=n_losses)

    def _ask(self) -> bool:
        """Enter the next trial and start it; False where nothing is to be asked now."""
        trials = self._ledger.trials()
        proposal = None if self._must_wait(len(trials)) else self._next(trials)
        if proposal is None:
            return False
        plan = self._plan(len(trials), proposal, None)
        self._enter(proposal, plan)
        self._on_event(SearchEvent("asked", len(trials), proposal.description))
        self._start(len(trials), proposal, plan, n_halvings=0, n_losses=0)
        return True

    def _next(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        """Return what the search proposes, and once it has its total what was named on top."""
        if sum(map(is_under_way, trials)) >= self._proposer.n_trials:
            return self._supplements.next(trials) if self._supplements else None
        proposal = self._proposer.next(trials)
        if proposal is None:
            self._drain("failed", "every configuration of the space was tried, and some failed")
        return proposal

    def _must_wait(self, number: int) -> bool:
        """Whether trial ``number`` begins a batch while one is under way."""
        return self._in_batches and bool(self._running) and number == self._first_of_batch(number)

    def _enter(self, proposal: Proposal, plan: TrialPlan) -> None:
        batch = plan.payload["batch"]
        asked = {f"requested_{name}": batch[name] for name in ("micro_batch_size", "effective_batch_size")}
        attributes = {**proposal.attributes, **plan.attributes, **batch, **asked, "n_halvings": 0}
        self._ledger.enter(proposal.params, self._proposer.distributions, attributes)

    def _start(
        self, number: int, proposal: Proposal, plan: TrialPlan, *, n_halvings: int, n_losses: int
    ) -> None:
        directory = trial_directory(self._directory, number)
        job = Job(number, content_hash(proposal.id, number), self._function, plan.payload, directory)
        self._submit(_Running(proposal, job, n_halvings, n_losses))

    def _submit(self, running: _Running) -> None:
        number = running.job.number
        self._running[number] = running
        self._executor.submit(running.job)
        if number in self._pruned:
            self._executor.cancel(number)

    def _receive(self, finished: Finished) -> None:
        """Retry an attempt, or tell it; in batches once the last one of the batch has ended."""
        running = self._running.pop(finished.number)
        if self._goes_on(running, finished.outcome):
            return
        self._ended.append(finished)
        if self._in_batches and self._running:
            return
        for ended in sorted(self._ended, key=lambda ended: ended.number):
            self._settle(ended)
        self._ended.clear()

    def _settle(self, finished: Finished) -> None:
        """Tell a trial, or leave it to be adopted."""
        outcome = finished.outcome
        if finished.number in self._pruned:
            self._tell(finished, _given_up(outcome, epoch=self._pruned[finished.number]))
        elif self._is_stopping and not outcome.is_final:
            self._on_event(SearchEvent("interrupted", finished.number))
        elif outcome.outcome == "stopped":
            self._tell(finished, TrialOutcome(outcome="failed", reason="the trial stopped unasked"))
        elif outcome.outcome == "lost":
            reason = f"its worker went away {MAX_LOSSES + 1} times; the last one: {outcome.reason}"
            self._tell(finished, TrialOutcome(outcome="failed", reason=reason))
        else:
            self._tell(finished, outcome)

    def _goes_on(self, running: _Running, outcome: TrialOutcome) -> bool:
        """Start an attempt again that ended by no fault of its settings; False where it is to be told."""
        if running.job.number in self._pruned or self._is_stopping:
            return False
        if outcome.outcome == "oom":
            return self._retry(running, outcome.reason)
        return outcome.outcome == "lost" and self._move(running, outcome.reason)

    def _move(self, running: _Running, reason: str) -> bool:
        """Start again as it was, on another worker; False where it has lost its share of workers."""
        number, n_losses = running.job.number, running.n_losses + 1
        if n_losses > MAX_LOSSES:
            return False
        self._ledger.record(number, {"n_losses": n_losses})
        _logger.warning("Trial %d lost its worker: %s; it starts again from its checkpoint", number, reason)
        self._on_event(SearchEvent("moved", number, {"reason": reason}))
        self._submit(replace(running, n_losses=n_losses))
        return True

    def _retry(self, running: _Running, reason: str) -> bool:
        """Halve the micro-batch and start again; False where it cannot be halved."""
        number = running.job.number
        batch = BatchConfig.model_validate(running.job.payload["batch"])
        if running.n_halvings >= MAX_BATCH_HALVINGS or batch.micro_batch_size == 1:
            return False
        plan = self._plan(number, running.proposal, smaller_batch(batch, self._config.oom_policy))
        smaller, n_halvings = plan.payload["batch"], running.n_halvings + 1
        self._ledger.record(number, {**smaller, "n_halvings": n_halvings})
        told = "Trial %d ran out of memory: %s; it starts again with micro-batches of %d"
        _logger.warning(told, number, reason, smaller["micro_batch_size"])
        self._on_event(SearchEvent("retried", number, smaller))
        self._start(number, running.proposal, plan, n_halvings=n_halvings, n_losses=running.n_losses)
        return True

    def _tell(self, finished: Finished, outcome: TrialOutcome) -> None:
        number = finished.number
        result = {"outcome": outcome.outcome, "reason": outcome.reason, "seconds": finished.seconds}
        self._ledger.record(number, {**result, **outcome.metrics})
        self._ledger.tell(number, outcome)
        self._count_failure(outcome)
        self._after_tell(self._ledger.trials(), number)
        self._on_event(SearchEvent("finished", number, {**result, **self._standing(number, outcome)}))

    def _count_failure(self, outcome: TrialOutcome) -> None:
        self._n_failures += not outcome.is_final
        if self._n_failures > self._config.max_failures:
            allowed = f"hpo.max_failures={self._config.max_failures}"
            reason = f"{self._n_failures} trials failed, more than {allowed}; the last one: {outcome.reason}"
            self._drain("failed", reason)

    def _standing(self, number: int, outcome: TrialOutcome) -> dict[str, Any]:
        trials = self._ledger.trials()
        counted = {"n_finished": sum(map(is_counted, trials)), "n_trials": self._proposer.n_trials}
        return {"value": outcome.value, **counted, "trial": trials[number]}


def _given_up(outcome: TrialOutcome, *, epoch: int) -> TrialOutcome:
    """Return the end of a trial that was told to end, whatever its attempt still reached."""
    reason = f"behind its rivals at epoch {epoch}"
    return TrialOutcome(outcome="pruned", reason=reason, metrics=outcome.metrics)


def _batch_of(trial: FrozenTrial, policy: OomPolicy) -> BatchConfig:
    """Return what the attempts at a trial came down to; once it has ended its attributes say what ran."""
    found = trial.user_attrs
    batch = split_batch(
        found["requested_micro_batch_size"],
        effective_batch_size=found["requested_effective_batch_size"],
        activation_checkpointing=found["activation_checkpointing"],
    )
    for _ in range(found["n_halvings"]):
        batch = smaller_batch(batch, policy)
    return batch


def _take(path: Path) -> bool:
    """Remove a file that asks for something; whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
