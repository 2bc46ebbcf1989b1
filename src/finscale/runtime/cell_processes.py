"""Cells of a sweep at the same time: each in a process of its own, its console in a file of its own.

The parent alone hears signals; a cell is told through its standard input, and ends with its parent, whose
end closes it. A cell answers with one line: how it ended. Until then nothing heavy is imported here, so that
all that a cell says goes to its file.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import finscale
from finscale.core.budgets import Cell
from finscale.search.lifeline import die_with_parent

if TYPE_CHECKING:
    from finscale.runtime.cell_runs import CellOutcome

__all__ = ["CellWork", "answer_parent", "run_side_by_side"]

_POLL_S, _JOIN_S = 0.2, 10.0
_STOP = b"stop\n"
_PROGRAM = f"from {__name__} import answer_parent; answer_parent()"


@dataclass(frozen=True)
class CellWork:
    """What a cell's process is asked to do.

    Parameters
    ----------
    pipelines : sequence of str
    env : str or None
        Kedro environment.
    params : mapping
        Of the session; of JSON's types.
    console : Path
        File that receives what the cell prints, behind what it holds.
    """

    cell: Cell
    pipelines: Sequence[str]
    env: str | None
    params: Mapping[str, Any]
    console: Path

    def to_line(self) -> bytes:
        """Return all that the process does not know otherwise, as one line."""
        asked = {"cell": self.cell.id, "names": list(self.pipelines), "env": self.env, "params": self.params}
        return json.dumps(asked).encode() + b"\n"


def run_side_by_side(
    works: Sequence[CellWork],
    *,
    at_once: int,
    may_begin: Callable[[], bool],
    must_stop: Callable[[], bool],
    on_begin: Callable[[CellWork], None],
) -> Generator[tuple[CellWork, "CellOutcome"]]:
    """Run cells in the order given, at most ``at_once`` at a time; yield each as it ends.

    Whoever leaves before the end leaves no process behind.

    Parameters
    ----------
    may_begin : callable
        Asked before every cell; once it says no, those that run come to their end.
    must_stop : callable
        Whether the cells that run should save and end now.
    on_begin : callable
        Told of every cell that begins.
    """
    waiting, running = deque(works), list[_Process]()
    try:
        while running or (waiting and may_begin()):
            while waiting and len(running) < at_once and may_begin():
                on_begin(waiting[0])
                running.append(_Process(waiting.popleft()))
            if must_stop():
                for process in running:
                    process.stop()
            ready = wait([process.answers.fileno() for process in running], _POLL_S)
            for process in [process for process in running if process.answers.fileno() in ready]:
                running.remove(process)
                yield process.work, process.outcome()
    finally:
        for process in running:
            process.kill()


class _Process:
    """The parent's end of a cell that runs."""

    def __init__(self, work: CellWork) -> None:
        self.work, self._is_told = work, False
        self._started = time.monotonic()
        work.console.parent.mkdir(parents=True, exist_ok=True)
        with work.console.open("ab") as console:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=console,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C of the terminal is the parent's to hear
            )
        self._say(work.to_line())

    @property
    def answers(self) -> IO[bytes]:
        """Where the outcome comes from, or the end of a process that has died."""
        assert self._process.stdout is not None
        return self._process.stdout

    def stop(self) -> None:
        """Ask the cell to save and end; it is told once, since a second word would end it at once."""
        if not self._is_told:
            self._is_told = True
            self._say(_STOP)

    def outcome(self) -> "CellOutcome":
        """Wait for the process that has answered or died, and say how the cell ended."""
        from finscale.runtime.cell_runs import CellOutcome

        line = self.answers.readline()
        self._end()
        if line:
            return CellOutcome(**json.loads(line))
        code, seconds = self._process.returncode, time.monotonic() - self._started
        killed = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else ""
        reason = killed or f"ended with code {code} and no outcome"
        return CellOutcome(self.work.cell.id, "failed", seconds, f"its process {reason}")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        """Leave no process and no pipe behind; one that cannot come to its end after its answer is killed."""
        try:
            self._process.wait(_JOIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                cast(IO[bytes], pipe).close()

    def _say(self, line: bytes) -> None:
        """A process that is gone shows by its silence."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line)
            self._process.stdin.flush()


def _environment() -> dict[str, str]:
    """Ours; the package is found where we found it, and a killed cell's last words are in its file."""
    places = (str(Path(finscale.__file__).parents[1]), os.environ.get("PYTHONPATH"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), "PYTHONUNBUFFERED": "1"}


def answer_parent(run: Callable[..., "CellOutcome"] | None = None) -> None:
    """Be a cell's process: read what to do, do it, answer with the outcome.

    Parameters
    ----------
    run : callable, optional
        Does it; None runs the cell's session.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    answers = os.dup(1)
    os.dup2(2, 1)
    words = io.FileIO(0, closefd=False)  # unbuffered: a thread waits in it while Python shuts down
    asked = json.loads(words.readline())
    threading.Thread(target=_listen, args=(words,), daemon=True).start()
    outcome = (run or _run)(**asked)
    os.write(answers, json.dumps(asdict(outcome)).encode() + b"\n")


def _listen(words: io.FileIO) -> None:
    """Pass the parent's word on; its end is ours."""
    from finscale.runtime.stopping import STOP

    if words.readline() == _STOP:
        STOP.request(signal.SIGTERM)
        words.readline()
    os.kill(os.getpid(), signal.SIGKILL)


def _run(cell: str, names: Sequence[str], env: str | None, params: Mapping[str, Any]) -> "CellOutcome":
    from kedro.framework.startup import bootstrap_project

    from finscale.runtime.cell_runs import run_cell
    from finscale.runtime.resolvers import project_root

    bootstrap_project(Path(project_root()))
    return run_cell(Cell.from_id(cell), names, env, params)
