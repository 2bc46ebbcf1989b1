"""One process per attempt: memory is returned, and a crash or an OOM ends the attempt alone.

On Linux a fork server that has imported the trial function, and torch with it, makes a process in tens of
milliseconds; elsewhere it is spawned afresh. Children run one OpenMP thread, ignore SIGINT and SIGTERM (the
driver tells them to stop) and die with the driver. An attempt of several processes is a group of children.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from finscale.search.attempts import Job, run_attempt
from finscale.search.executors import Executor, Finished, OnReport, unpaused
from finscale.search.groups import Ends, on_this_machine
from finscale.search.lifeline import die_with_driver, die_with_parent
from finscale.search.outcomes import TrialOutcome, of_dead_process, of_exception

__all__ = ["ProcessExecutor"]

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_JOIN_S = 10.0


@dataclass(frozen=True)
class _Child:
    process: BaseProcess
    connection: Connection


@dataclass(frozen=True)
class _Attempt:
    """Its children, by rank."""

    slot: int
    started_at: float
    ends: Ends
    children: list[_Child]


class ProcessExecutor(Executor):
    """Run every attempt in fresh processes.

    Parameters
    ----------
    n_processes : int
        That train one attempt together. The k-th of a slot takes the k-th of the slot's devices.
    should_pause : callable
        Asked at every `poll`; while it says so, attempts wait at their next step.
    """

    def __init__(
        self,
        *,
        n_slots: int,
        n_processes: int = 1,
        on_report: OnReport,
        should_pause: Callable[[], bool] = unpaused,
    ) -> None:
        super().__init__(n_slots=n_slots, on_report=on_report)
        self._n_processes = n_processes
        self._should_pause, self._is_paused = should_pause, False
        method = "forkserver" if sys.platform == "linux" else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        self._attempts: dict[int, _Attempt] = {}

    def submit(self, job: Job) -> None:
        """Start the processes of ``job``."""
        taken = {attempt.slot for attempt in self._attempts.values()}
        slot = next(slot for slot in itertools.count() if slot not in taken)
        parts = [job]
        if self._n_processes > 1:
            members = on_this_machine(self._n_processes, slot=slot)
            parts = [replace(job, member=member) for member in members]
        attempt = _Attempt(slot, time.monotonic(), Ends(len(parts)), [])
        self._attempts[job.number] = attempt
        with _environment_of_children(), _hidden_main_module():
            if sys.platform == "linux":
                module = job.function.partition(":")[0]
                self._context.set_forkserver_preload([module, "finscale.search.preload"])
                forkserver.ensure_running()
            attempt.children.extend(map(self._start, parts))
        if self._is_paused:
            self._send(job.number, "pause")

    def poll(self, timeout_s: float) -> list[Finished]:
        """Read what the children sent; a child that closed its pipe without an outcome has died."""
        self._pause_or_go_on()
        readers = {
            attempt.children[rank].connection: (number, rank)
            for number, attempt in self._attempts.items()
            for rank in attempt.ends.missing
        }
        for pipe in wait(list(readers), timeout_s):
            self._read(*readers[pipe])  # type: ignore[index]
        ended = [number for number, attempt in self._attempts.items() if attempt.ends.are_in]
        return [self._reap(number) for number in ended]

    def cancel(self, number: int) -> None:
        """Send the word; a child that is gone already shows in `poll`."""
        self._send(number, "stop")

    def close(self) -> None:
        """Kill every child."""
        children = [child for attempt in self._attempts.values() for child in attempt.children]
        for child in children:
            child.process.kill()
        for child in children:
            child.process.join(_JOIN_S)
            child.connection.close()
        self._attempts.clear()

    def _start(self, job: Job) -> _Child:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_child_main, args=(job, theirs), daemon=True)
        process.start()
        theirs.close()
        return _Child(process, ours)

    def _send(self, number: int, word: str) -> None:
        for child in self._attempts[number].children if number in self._attempts else ():
            with contextlib.suppress(OSError):
                child.connection.send(word)

    def _pause_or_go_on(self) -> None:
        if self._should_pause() != self._is_paused:
            self._is_paused = not self._is_paused
            for number in self._attempts:
                self._send(number, "pause" if self._is_paused else "go on")

    def _read(self, number: int, rank: int) -> None:
        """Pass reports on, until nothing waits or the outcome is there."""
        attempt = self._attempts[number]
        while (message := _next_message(attempt.children[rank])) is not None:
            if isinstance(message, TrialOutcome):
                attempt.ends.note(rank, message)
                return
            self._on_report(number, message)

    def _reap(self, number: int) -> Finished:
        """Wait for the processes that have ended, and kill those that are not waited for."""
        attempt = self._attempts.pop(number)
        for rank in attempt.ends.missing:
            attempt.children[rank].process.kill()
        for child in attempt.children:
            child.process.join(_JOIN_S)
            child.process.kill()
            child.connection.close()
        return Finished(number, attempt.ends.joined(), time.monotonic() - attempt.started_at)


def _next_message(child: _Child) -> Any:
    """Return what the child sent next, its death included; None where nothing waits."""
    try:
        return child.connection.recv() if child.connection.poll() else None
    # a killed child resets its socket (ConnectionResetError) as often as it closes it (EOFError)
    except (EOFError, OSError):
        child.process.join(_JOIN_S)
        return of_dead_process(child.process.exitcode)


@contextlib.contextmanager
def _environment_of_children() -> Iterator[None]:
    """Set what OpenMP reads when it is loaded, for the processes started inside."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _hidden_main_module() -> Iterator[None]:
    """Keep children from importing the script that started us (for a command line, a second of imports)."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _child_main(job: Job, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    die_with_driver()
    if job.member is not None:
        os.environ.update(job.member.environment)
    channel = _Channel(connection)
    connection.send(_run(job, channel))
    connection.close()


def _run(job: Job, channel: "_Channel") -> TrialOutcome:
    try:
        return run_attempt(job, should_stop=channel.should_stop, report=channel.report)
    except OSError as error:
        return of_exception(error)


class _Channel:
    """The child's end of the pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._word = connection, "go on"

    def should_stop(self) -> bool:
        """Whether the driver said stop, now or before; a driver that is gone counts as one that did.

        A pause is waited out in here.
        """
        try:
            while self._word != "stop" and (self._word == "pause" or self._connection.poll()):
                self._word = self._connection.recv()
        except (EOFError, OSError):
            self._word = "stop"
        return self._word == "stop"

    def report(self, values: Mapping[str, Any]) -> None:
        """Send values to the driver."""
        self._connection.send(dict(values))
