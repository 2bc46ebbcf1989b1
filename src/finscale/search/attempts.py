"""One attempt at one trial: lock its directory, run its function, type whatever comes out.

The same code runs in the driver's process (inline) and in a child. A final outcome is written beside the
trial's checkpoints before anyone is told, so that a driver killed between the two trains nothing twice.
Of an attempt of several processes (`finscale.search.groups`) each runs this; the leader alone writes.
"""

import fcntl
import importlib
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from finscale.core.errors import Fault, FinscaleError
from finscale.core.files import read_json, write_json, write_text
from finscale.search.groups import Member
from finscale.search.outcomes import TrialOutcome, of_exception, read_outcome

__all__ = ["Job", "TrialFunction", "resolve", "run_attempt"]

_OUTCOME_FILE = "outcome.json"


class TrialFunction(Protocol):
    """Train one trial.

    ``payload`` holds JSON values; ``directory`` belongs to the trial alone, over all its attempts;
    ``should_stop`` is asked at every step, and True means checkpoint and return ``{"outcome": "stopped"}``;
    ``report`` takes JSON values for whoever watches. Returns the fields of a `TrialOutcome`. Of several
    processes each calls it: the leader (`finscale.search.groups.leads`) alone writes, and is complete last.
    """

    def __call__(
        self,
        payload: Mapping[str, Any],
        directory: Path,
        *,
        should_stop: Callable[[], bool],
        report: Callable[[Mapping[str, Any]], None],
    ) -> Mapping[str, Any]:
        """Train, and return the fields of a `TrialOutcome`."""
        ...


@dataclass(frozen=True)
class Job:
    """One attempt, as an executor receives it.

    Parameters
    ----------
    number : int
        Trial number; one attempt per number runs at a time.
    identity : str
        Content hash of what is trained; an outcome on disk counts only for the same identity.
    function : str
        Import path ``module:function`` of a `TrialFunction`.
    payload, directory
        Its arguments.
    member : Member or None
        Which of the processes of this attempt is meant; None of an attempt of one.
    """

    number: int
    identity: str
    function: str
    payload: dict[str, Any]
    directory: Path
    member: Member | None = None

    @property
    def follows(self) -> bool:
        """Whether another process leads the attempt."""
        return self.member is not None and self.member.rank > 0


def resolve(path: str) -> TrialFunction:
    """Import ``module:function``."""
    module, _, name = path.partition(":")
    function = getattr(importlib.import_module(module), name, None)
    if not callable(function):
        raise Fault("trial function", "be an import path module:function", path)
    found: TrialFunction = function
    return found


def run_attempt(
    job: Job, *, should_stop: Callable[[], bool], report: Callable[[Mapping[str, Any]], None]
) -> TrialOutcome:
    """Run one attempt to its typed outcome; exceptions become outcomes, KeyboardInterrupt apart."""
    job.directory.mkdir(parents=True, exist_ok=True)
    if job.follows:
        return _saved_outcome(job) or _run_function(job, should_stop, _unheard)
    with _sole_user(job.directory):
        saved = _saved_outcome(job)
        if saved is not None:
            return saved
        outcome = _run_function(job, should_stop, report)
        if _may_be_saved(job, outcome):
            content = {"identity": job.identity, **outcome.model_dump(mode="json")}
            write_json(job.directory / _OUTCOME_FILE, content)
        return outcome


def _may_be_saved(job: Job, outcome: TrialOutcome) -> bool:
    """Whether it is the attempt's end, whatever becomes of the other processes."""
    return outcome.is_final if job.member is None else outcome.outcome == "complete"


def _unheard(values: Mapping[str, Any]) -> None:
    """Report to nobody."""


@contextmanager
def _sole_user(directory: Path) -> Any:
    """Wait until no earlier attempt, of a driver that was killed a moment ago, still writes here."""
    with (directory / ".lock").open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _saved_outcome(job: Job) -> TrialOutcome | None:
    path = job.directory / _OUTCOME_FILE
    if not path.exists():
        return None
    try:
        saved = dict(read_json(path))
        if saved.pop("identity") != job.identity:
            return None
        return read_outcome(saved)
    except (FinscaleError, KeyError, TypeError):
        return None


def _run_function(
    job: Job, should_stop: Callable[[], bool], report: Callable[[Mapping[str, Any]], None]
) -> TrialOutcome:
    try:
        function = resolve(job.function)
        returned = function(job.payload, job.directory, should_stop=should_stop, report=report)
        return read_outcome(dict(returned))
    # whatever a trial raises ends that trial and not the search
    except Exception as error:
        write_text(job.directory / _failure_file(job), traceback.format_exc())
        return of_exception(error)


def _failure_file(job: Job) -> str:
    return f"failure_{job.member.rank}.txt" if job.member and job.follows else "failure.txt"
