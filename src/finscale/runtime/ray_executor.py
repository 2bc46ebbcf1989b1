"""Attempts on the nodes of a Ray cluster: tasks of Ray core, nothing above it. Imports ray.

A task watches over one child process (`finscale.search.processes`), so that an attempt on a node is what it
is on a laptop: its memory is returned, and its death is typed by its signal. What happens to the task itself
(its node removed, its worker killed) is no fault of the trial: the attempt is ``lost``, and the driver alone
decides whether it starts again. Ray retries nothing. An attempt of several processes is a task for each, in a
placement group of its own.

A mailbox beside the driver carries reports one way, and the words ``stop`` and ``pause`` the other. Words
are sent whole, and again every few seconds, so that a mailbox that was restarted forgets no more than a few
reports.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
from ray.util import get_node_ip_address
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from finscale.runtime.shared_store import SharedStore, StoreGone
from finscale.runtime.staging import staged
from finscale.search.attempts import Job
from finscale.search.executors import Executor, Finished, OnReport, unpaused
from finscale.search.groups import Ends, Member, free_port, on_nodes
from finscale.search.outcomes import TrialOutcome, of_exception
from finscale.search.processes import ProcessExecutor

__all__ = ["Mailbox", "RayExecutor", "n_places", "places_on", "type_ray_error", "watch_over"]

_LISTEN_S: Final = 1.0
_EXCHANGE_S: Final = 2.0
"""Reports and unchanged words pass this often: more would be the driver's main work while trials run long."""
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


def watch_over(job: Job, key: int, mailbox: Any, store: SharedStore | None) -> Finished:
    """Run one attempt in a child of this worker, and be its voice to the driver."""
    ray.get(mailbox.report.remote(key, _BEGUN))
    word = "go on"

    def on_report(_number: int, values: Mapping[str, Any]) -> None:
        ray.get(mailbox.report.remote(key, dict(values)))
        push()

    with (
        staged(job, store) as (local, push),
        ProcessExecutor(n_slots=1, on_report=on_report, should_pause=lambda: word == "pause") as hands,
    ):
        hands.submit(local)
        while True:
            before, word = word, ray.get(mailbox.word.remote(key))
            if word == "stop" != before:
                hands.cancel(job.number)
            for finished in hands.poll(_LISTEN_S):
                return finished


def watch_over_member(
    job: Job, rank: int, members: tuple[Member, ...], key: int, mailbox: Any, store: SharedStore | None
) -> Finished:
    """Run one process of an attempt, as one that is alone is run."""
    return watch_over(replace(job, member=members[rank]), key, mailbox, store)


def gather(room: PlacementGroup, *, sees_own_device_only: bool) -> tuple[Member, ...]:
    """Say where the processes of a placement group meet; run in the bundle of their leader."""
    nodes, address = placement_group_table(room)["bundles_to_node_id"], get_node_ip_address()
    return on_nodes(
        [nodes[rank] for rank in sorted(nodes)],
        sees_own_device_only=sees_own_device_only,
        address=address,
        port=free_port(address),
    )


def n_places(*, n_gpus: float, n_processes: int = 1) -> int:
    """Return how many attempts the cluster has room for at the same time; one may lie on several nodes."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(places_on(node, n_gpus=n_gpus) for node in nodes) // n_processes


def places_on(node: Mapping[str, float], *, n_gpus: float) -> int:
    """Return for how many processes, one CPU and ``n_gpus`` each, a node with these resources has room."""
    cpus = int(node.get("CPU", 0))
    return min(cpus, int(node.get("GPU", 0) / n_gpus)) if n_gpus else cpus


@dataclass
class _Attempt:
    """Its tasks, by rank; more than one lie in a placement group."""

    key: int
    ends: Ends
    submitted_at: float
    room: PlacementGroup | None = None
    tasks: list[Any] = field(default_factory=list)
    has_begun: bool = False
    is_withdrawn: bool = False
    seconds: float | None = None


class RayExecutor(Executor):
    """Run every attempt on some node of the cluster that this process is connected to.

    Parameters
    ----------
    n_processes : int
        That train one attempt together, on one node or several.
    n_gpus : float
        That each of them claims beside one CPU.
    should_pause : callable
        Asked at every `poll`; while it says so, attempts wait at their next step.
    store : SharedStore or None
        Where nodes find the files of attempts; None where they see those of this machine.
    """

    def __init__(
        self,
        *,
        n_slots: int,
        n_processes: int = 1,
        n_gpus: float,
        on_report: OnReport,
        should_pause: Callable[[], bool] = unpaused,
        store: SharedStore | None = None,
    ) -> None:
        super().__init__(n_slots=n_slots, on_report=on_report)
        self._store = store
        self._should_pause = should_pause
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        box = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Mailbox)
        self._mailbox = box.remote()
        self._n_processes, self._n_gpus = n_processes, n_gpus
        claim: dict[str, Any] = {"num_cpus": 1, "num_gpus": n_gpus, "max_retries": 0}
        self._watch = ray.remote(**claim)(watch_over)
        self._watch_member = ray.remote(**claim)(watch_over_member)
        self._gather = ray.remote(num_cpus=1, max_retries=0)(gather)
        self._keys = itertools.count()
        self._attempts: dict[int, _Attempt] = {}
        self._stopped: set[int] = set()
        self._said: Mapping[int, str] = {}
        self._exchange_at = 0.0

    def submit(self, job: Job) -> None:
        """Hand the attempt to the cluster; where no node is free, it waits there."""
        attempt = _Attempt(next(self._keys), Ends(self._n_processes), time.monotonic())
        self._attempts[job.number] = attempt
        if self._n_processes == 1:
            attempt.tasks.append(self._watch.remote(job, attempt.key, self._mailbox, self._store))
        else:
            self._start_together(job, attempt)

    def poll(self, timeout_s: float) -> list[Finished]:
        """Pass words and reports on, and return the attempts whose tasks have ended."""
        if not self._attempts:
            return []
        if self._words() != self._said or time.monotonic() >= self._exchange_at:
            self._exchange()
        places = {
            attempt.tasks[rank]: (number, rank)
            for number, attempt in self._attempts.items()
            for rank in attempt.ends.missing
        }
        ray.wait(list(places), timeout=timeout_s)
        ended, _ = ray.wait(list(places), num_returns=len(places), timeout=0)
        if ended:
            # a report lies in the mailbox before its task ends
            self._exchange()
        for task in ended:
            self._note(*places[task])
        over = [number for number, attempt in self._attempts.items() if attempt.ends.are_in]
        return [self._reap(number) for number in over]

    def cancel(self, number: int) -> None:
        """Leave the word; an attempt that waits for a node ends without having begun.

        Should it begin at this moment its worker ends with it: an interrupted one could be left with half of
        what it was importing.
        """
        attempt = self._attempts.get(number)
        # it may have ended in the poll whose other ends the driver is hearing
        if attempt is None:
            return
        self._stopped.add(attempt.key)
        if not attempt.has_begun:
            self._exchange()
        if not attempt.has_begun:
            attempt.is_withdrawn = True
            _end_tasks(attempt)

    def close(self) -> None:
        """Kill the workers of all attempts, and their children with them."""
        for attempt in self._attempts.values():
            _clear_away(attempt)
        self._attempts.clear()
        ray.kill(self._mailbox)

    def _start_together(self, job: Job, attempt: _Attempt) -> None:
        """Reserve room for all processes at once, and start them in it once it is there."""
        bundle = {"CPU": 1.0, **({"GPU": self._n_gpus} if self._n_gpus else {})}
        attempt.room = room = placement_group([bundle] * self._n_processes, strategy="PACK")
        places = [PlacementGroupSchedulingStrategy(room, rank) for rank in range(self._n_processes)]
        members = self._gather.options(scheduling_strategy=places[0]).remote(
            room, sees_own_device_only=self._n_gpus > 0
        )
        for rank, place in enumerate(places):
            watch = self._watch_member.options(scheduling_strategy=place)
            attempt.tasks.append(watch.remote(job, rank, members, attempt.key, self._mailbox, self._store))

    def _words(self) -> Mapping[int, str]:
        paused = [attempt.key for attempt in self._attempts.values()] if self._should_pause() else []
        return {**dict.fromkeys(paused, "pause"), **dict.fromkeys(self._stopped, "stop")}

    def _exchange(self) -> None:
        self._said, self._exchange_at = self._words(), time.monotonic() + _EXCHANGE_S
        numbers = {attempt.key: number for number, attempt in self._attempts.items()}
        for key, values in ray.get(self._mailbox.exchange.remote(self._said)):
            # an attempt that was given up as lost may still speak
            if key in numbers:
                self._hear(numbers[key], values)

    def _hear(self, number: int, values: Mapping[str, Any] | None) -> None:
        if values is _BEGUN:
            self._attempts[number].has_begun = True
        else:
            self._on_report(number, values)

    def _note(self, number: int, rank: int) -> None:
        attempt = self._attempts[number]
        try:
            finished: Finished = ray.get(attempt.tasks[rank])
        except RayError as error:
            stopped = TrialOutcome(outcome="stopped")
            attempt.ends.note(rank, stopped if attempt.is_withdrawn else type_ray_error(error))
            return
        attempt.ends.note(rank, finished.outcome)
        if rank == 0:
            attempt.seconds = finished.seconds

    def _reap(self, number: int) -> Finished:
        attempt = self._attempts.pop(number)
        outcome = attempt.ends.joined()
        if outcome.outcome == "lost":
            self._stopped.add(attempt.key)
        _clear_away(attempt)
        seconds = attempt.seconds
        return Finished(
            number, outcome, time.monotonic() - attempt.submitted_at if seconds is None else seconds
        )


def _clear_away(attempt: _Attempt) -> None:
    """End what has not ended, and give the room back."""
    _end_tasks(attempt)
    if attempt.room is not None:
        remove_placement_group(attempt.room)


def _end_tasks(attempt: _Attempt) -> None:
    for rank in attempt.ends.missing:
        ray.cancel(attempt.tasks[rank], force=True)


def type_ray_error(error: RayError) -> TrialOutcome:
    """Type the end of a task that returned nothing."""
    if isinstance(error, TaskCancelledError):
        return TrialOutcome(outcome="stopped")
    if isinstance(error, OutOfMemoryError):
        return TrialOutcome(outcome="oom", reason=_first_sentence(error))
    if isinstance(error, _LOST):
        return TrialOutcome(outcome="lost", reason=_first_sentence(error))
    if isinstance(error, RayTaskError) and isinstance(error.cause, StoreGone):
        return TrialOutcome(outcome="lost", reason=_first_sentence(error.cause))
    return of_exception(error.cause if isinstance(error, RayTaskError) else error)


def _first_sentence(error: RayError) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.partition('. ')[0]}"[:300]
