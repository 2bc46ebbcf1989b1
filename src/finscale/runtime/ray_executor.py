"""Attempts on the nodes of a Ray cluster: tasks of Ray core, nothing above it. Imports ray.

A task watches over one child process (`finscale.search.processes`), so that an attempt on a node is what it
is on a laptop: its memory is returned, and its death is typed by its signal. What happens to the task itself
(its node removed, its worker killed) is no fault of the trial: the attempt is ``lost``, and the driver alone
decides whether it starts again. Ray retries nothing.

A mailbox beside the driver carries reports one way, and the words ``stop`` and ``pause`` the other. Words
are sent whole at every poll, so that a mailbox that was restarted forgets no more than a few reports.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from finscale.search.attempts import Job
from finscale.search.executors import Executor, Finished, OnReport, unpaused
from finscale.search.outcomes import TrialOutcome, of_exception
from finscale.search.processes import ProcessExecutor

__all__ = ["Mailbox", "RayExecutor", "n_places", "places_on", "type_ray_error", "watch_over"]

_LISTEN_S: Final = 1.0
_LOST: Final = (WorkerCrashedError, NodeDiedError, ObjectLostError)

_BEGUN: Final = None
"""What stands in place of a report when an attempt begins."""


class Mailbox:
    """What passes between a driver and the attempts that run for it, by the key of the attempt."""

    def __init__(self) -> None:
        self._reports: list[tuple[int, Mapping[str, Any] | None]] = []
        self._words: Mapping[int, str] = {}

    def exchange(self, words: Mapping[int, str]) -> list[tuple[int, Mapping[str, Any] | None]]:
        """For the driver: leave a word for some attempts, and take what all have reported."""
        self._words = words
        taken, self._reports = self._reports, []
        return taken

    def report(self, key: int, values: Mapping[str, Any] | None) -> None:
        """For an attempt: leave a report."""
        self._reports.append((key, values))

    def word(self, key: int) -> str:
        """For an attempt: ask what it should do; ``go on`` where nothing was said."""
        return self._words.get(key, "go on")


def watch_over(job: Job, key: int, mailbox: Any) -> Finished:
    """Run one attempt in a child of this worker, and be its voice to the driver."""
    ray.get(mailbox.report.remote(key, _BEGUN))
    word = "go on"

    def on_report(_number: int, values: Mapping[str, Any]) -> None:
        ray.get(mailbox.report.remote(key, dict(values)))

    with ProcessExecutor(n_slots=1, on_report=on_report, should_pause=lambda: word == "pause") as hands:
        hands.submit(job)
        while True:
            before, word = word, ray.get(mailbox.word.remote(key))
            if word == "stop" != before:
                hands.cancel(job.number)
            for finished in hands.poll(_LISTEN_S):
                return finished


def n_places(*, n_gpus: float) -> int:
    """Return how many attempts the cluster has room for at the same time, node by node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(places_on(node, n_gpus=n_gpus) for node in nodes)


def places_on(node: Mapping[str, float], *, n_gpus: float) -> int:
    """Return how many attempts a node with these resources has room for."""
    cpus = int(node.get("CPU", 0))
    return min(cpus, int(node.get("GPU", 0) / n_gpus)) if n_gpus else cpus


@dataclass(frozen=True)
class _Attempt:
    key: int
    task: Any
    submitted_at: float
    has_begun: bool = False


class RayExecutor(Executor):
    """Run every attempt on some node of the cluster that this process is connected to.

    Parameters
    ----------
    n_gpus : float
        That an attempt claims beside one CPU.
    should_pause : callable
        Asked at every `poll`; while it says so, attempts wait at their next step.
    """

    def __init__(
        self,
        *,
        n_slots: int,
        n_gpus: float,
        on_report: OnReport,
        should_pause: Callable[[], bool] = unpaused,
    ) -> None:
        super().__init__(n_slots=n_slots, on_report=on_report)
        self._should_pause = should_pause
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        box = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Mailbox)
        self._mailbox = box.remote()
        self._watch = ray.remote(num_cpus=1, num_gpus=n_gpus, max_retries=0)(watch_over)
        self._keys = itertools.count()
        self._attempts: dict[int, _Attempt] = {}
        self._stopped: set[int] = set()

    def submit(self, job: Job) -> None:
        """Hand the attempt to the cluster; where no node is free, it waits there."""
        key = next(self._keys)
        task = self._watch.remote(job, key, self._mailbox)
        self._attempts[job.number] = _Attempt(key, task, time.monotonic())

    def poll(self, timeout_s: float) -> list[Finished]:
        """Pass words and reports on, and return the attempts whose tasks have ended."""
        if not self._attempts:
            return []
        self._exchange()
        numbers = {attempt.task: number for number, attempt in self._attempts.items()}
        ray.wait(list(numbers), timeout=timeout_s)
        ended, _ = ray.wait(list(numbers), num_returns=len(numbers), timeout=0)
        if ended:
            # a report lies in the mailbox before its task ends
            self._exchange()
        return [self._reap(numbers[task]) for task in ended]

    def cancel(self, number: int) -> None:
        """Leave the word; an attempt that waits for a node ends without having begun."""
        attempt = self._attempts[number]
        self._stopped.add(attempt.key)
        if not attempt.has_begun:
            ray.cancel(attempt.task)

    def close(self) -> None:
        """Kill the workers of all attempts, and their children with them."""
        for attempt in self._attempts.values():
            ray.cancel(attempt.task, force=True)
        self._attempts.clear()
        ray.kill(self._mailbox)

    def _exchange(self) -> None:
        paused = [attempt.key for attempt in self._attempts.values()] if self._should_pause() else []
        words = {**dict.fromkeys(paused, "pause"), **dict.fromkeys(self._stopped, "stop")}
        numbers = {attempt.key: number for number, attempt in self._attempts.items()}
        for key, values in ray.get(self._mailbox.exchange.remote(words)):
            # an attempt that was given up as lost may still speak
            if key in numbers:
                self._hear(numbers[key], values)

    def _hear(self, number: int, values: Mapping[str, Any] | None) -> None:
        if values is _BEGUN:
            self._attempts[number] = replace(self._attempts[number], has_begun=True)
        else:
            self._on_report(number, values)

    def _reap(self, number: int) -> Finished:
        attempt = self._attempts.pop(number)
        try:
            finished: Finished = ray.get(attempt.task)
        except RayError as error:
            outcome = type_ray_error(error)
            if outcome.outcome == "lost":
                self._stopped.add(attempt.key)
            return Finished(number, outcome, time.monotonic() - attempt.submitted_at)
        return finished


def type_ray_error(error: RayError) -> TrialOutcome:
    """Type the end of a task that returned nothing."""
    if isinstance(error, TaskCancelledError):
        return TrialOutcome(outcome="stopped")
    if isinstance(error, OutOfMemoryError):
        return TrialOutcome(outcome="oom", reason=_first_sentence(error))
    if isinstance(error, _LOST):
        return TrialOutcome(outcome="lost", reason=_first_sentence(error))
    return of_exception(error.cause if isinstance(error, RayTaskError) else error)


def _first_sentence(error: RayError) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.partition('. ')[0]}"[:300]
