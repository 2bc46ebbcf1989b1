"""Where attempts run. An executor is a dumb pair of hands: the driver alone decides, asks and tells.

`Executor` is the contract; `InlineExecutor` runs in the driver's process, one attempt at a time;
`finscale.search.processes.ProcessExecutor` gives every attempt a process of its own.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from finscale.search.attempts import Job, run_attempt
from finscale.search.outcomes import TrialOutcome

__all__ = ["Executor", "Finished", "InlineExecutor", "OnReport", "once_resumed", "unpaused"]

OnReport = Callable[[int, Mapping[str, Any]], None]
_PAUSE_POLL_S = 0.5


def unpaused() -> bool:
    """Do not pause."""
    return False


def once_resumed(should_stop: Callable[[], bool], should_pause: Callable[[], bool]) -> Callable[[], bool]:
    """Return a ``should_stop`` that a pause holds up: training waits inside, unless it is to stop."""

    def ask() -> bool:
        while not (stopping := should_stop()) and should_pause():
            time.sleep(_PAUSE_POLL_S)
        return stopping

    return ask


@dataclass(frozen=True)
class Finished:
    """An attempt that ended; ``seconds`` is its wall time."""

    number: int
    outcome: TrialOutcome
    seconds: float


class Executor(ABC):
    """Run attempts, at most ``n_slots`` at a time.

    Parameters
    ----------
    n_slots : int
        Attempts that may run at the same time.
    on_report : callable
        Receives (trial number, values) for every report of a running attempt, in the driver's thread.
    """

    def __init__(self, *, n_slots: int, on_report: OnReport) -> None:
        self.n_slots, self._on_report = n_slots, on_report

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Start an attempt; the caller keeps within ``n_slots``."""

    @abstractmethod
    def poll(self, timeout_s: float) -> list[Finished]:
        """Return the attempts that ended, waiting up to ``timeout_s`` seconds for the first."""

    @abstractmethod
    def cancel(self, number: int) -> None:
        """Ask an attempt to stop at its next step; it still ends through `poll`."""

    @abstractmethod
    def close(self) -> None:
        """End whatever still runs, at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class InlineExecutor(Executor):
    """Run attempts in this process, inside `poll`; deterministic, and easy to debug.

    Parameters
    ----------
    should_stop : callable
        Asked by the running attempt, since nobody can call `cancel` while it runs.
    should_pause : callable
        Asked likewise; while it says so, the attempt waits.
    """

    def __init__(
        self,
        *,
        on_report: OnReport,
        should_stop: Callable[[], bool],
        should_pause: Callable[[], bool] = unpaused,
    ) -> None:
        super().__init__(n_slots=1, on_report=on_report)
        self._should_stop = once_resumed(should_stop, should_pause)
        self._waiting: deque[Job] = deque()
        self._cancelled: set[int] = set()

    def submit(self, job: Job) -> None:
        """Queue an attempt for the next `poll`."""
        self._waiting.append(job)

    def poll(self, timeout_s: float) -> list[Finished]:
        """Run the attempt that waits, however long it takes."""
        if not self._waiting:
            return []
        job = self._waiting.popleft()
        started = time.monotonic()
        outcome = run_attempt(
            job,
            should_stop=lambda: job.number in self._cancelled or self._should_stop(),
            report=lambda values: self._on_report(job.number, values),
        )
        self._cancelled.discard(job.number)
        return [Finished(job.number, outcome, time.monotonic() - started)]

    def cancel(self, number: int) -> None:
        """Make an attempt that waits, or runs, stop at its next step."""
        self._cancelled.add(number)

    def close(self) -> None:
        """Forget the attempts that wait."""
        self._waiting.clear()
