"""How an attempt at a trial ended: a typed record, whatever happened inside."""

import math
import signal
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from finscale.archgrid.out_of_memory import is_out_of_memory
from finscale.core.config import Record

__all__ = ["TrialOutcome", "of_dead_process", "of_exception", "read_outcome"]


class TrialOutcome(Record):
    """The end of one attempt.

    Parameters
    ----------
    outcome : str
        ``complete`` (with a finite ``value``), ``pruned`` (the driver gave it up), ``diverged`` (the loss
        left the real numbers), ``oom``, ``failed`` (with a ``reason``), ``lost`` (what it ran on went away)
        or ``stopped`` (asked to; its checkpoint resumes).
    value : float or None
        The loss that the search minimises.
    reason : str
        What went wrong, in one line.
    metrics : dict
        JSON values recorded with the trial.
    """

    outcome: Literal["complete", "pruned", "diverged", "oom", "failed", "lost", "stopped"]
    value: float | None = None
    reason: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete_means_finite(self) -> Self:
        if self.outcome == "complete" and (self.value is None or not math.isfinite(self.value)):
            raise ValueError(f"a complete trial must have a finite value, got {self.value}")
        return self

    @property
    def is_final(self) -> bool:
        """Whether another attempt would end in the same way."""
        return self.outcome in ("complete", "pruned", "diverged")


def read_outcome(values: Any) -> TrialOutcome:
    """Read what a trial function returned; a complete trial without a finite value has diverged."""
    value = values.get("value")
    if values.get("outcome") == "complete" and (value is None or not math.isfinite(value)):
        values = {**values, "outcome": "diverged", "value": None, "reason": f"the loss was {value}"}
    return TrialOutcome.read(values, subject="outcome")


def of_exception(error: BaseException) -> TrialOutcome:
    """Type an exception that left a trial function."""
    message = " ".join(str(error).split())[:500]
    reason = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if is_out_of_memory(error):
        return TrialOutcome(outcome="oom", reason=reason)
    return TrialOutcome(outcome="failed", reason=reason)


def of_dead_process(exit_code: int | None) -> TrialOutcome:
    """Type the death of a child without an outcome; -9 that we did not send is the kernel's memory killer."""
    if exit_code == -signal.SIGKILL:
        return TrialOutcome(outcome="oom", reason="the process was killed by signal 9 (SIGKILL)")
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return TrialOutcome(
            outcome="failed", reason=f"the process was killed by signal {-exit_code} ({name})"
        )
    return TrialOutcome(outcome="failed", reason=f"the process ended with code {exit_code} and no outcome")
