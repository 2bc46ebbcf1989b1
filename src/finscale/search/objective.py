"""What a trial of a cell does: load the windows, train the run specification, type the end."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finscale.search.groups import leads
from finscale.training.checkpoint import clear_checkpoints
from finscale.training.config import ExecutionConfig
from finscale.training.event_log import logged
from finscale.training.events import EpochEnd, Event
from finscale.training.loop import train
from finscale.training.result import TrainingResult
from finscale.training.run_spec import RunSpec, fingerprint, read_run_spec
from finscale.windows.data import load_windows

__all__ = ["train_trial"]

_RECORDED = (
    "n_params",
    "best_epoch",
    "stopped_epoch",
    "n_steps",
    "seconds",
    "base_rate_loss",
    "peak_memory_bytes",
    "device",
    "flags",
)
_EXECUTED = ("optimizer", "schedule", "precision", "strategy", "n_processes")


def train_trial(
    payload: Mapping[str, Any],
    directory: Path,
    *,
    should_stop: Callable[[], bool],
    report: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Train one trial, going on from its checkpoint.

    Parameters
    ----------
    payload : mapping
        ``spec`` (a `RunSpec`), ``batch`` (the micro-batch of this attempt), ``windows`` (a directory) and
        ``execution``.
    directory : Path
        Of the trial; once it has finished its records and its best weights stay.
    should_stop, report
        See `finscale.search.attempts.TrialFunction`; every epoch is reported.
    """
    spec = RunSpec.read({**payload["spec"], "batch": payload["batch"]}, subject="trial")
    if leads():
        _forget_another_run(spec, directory)
    windows = load_windows(Path(payload["windows"]))
    result = train(
        spec,
        windows,
        directory=directory,
        execution=ExecutionConfig.read(payload["execution"], subject="execution"),
        on_event=logged(directory, lambda event: _report_epoch(event, report)),
        should_stop=should_stop,
    )
    if result.outcome != "stopped" and leads():
        clear_checkpoints(directory)
    return _outcome(result, n_rows=len(windows.origins["val_select"]))


def _forget_another_run(spec: RunSpec, directory: Path) -> None:
    """Drop what an attempt with a larger effective batch had reached: it was another run."""
    path = directory / "run_spec.json"
    if path.exists() and fingerprint(read_run_spec(path)) != fingerprint(spec):
        clear_checkpoints(directory)


def _report_epoch(event: Event, report: Callable[[Mapping[str, Any]], None]) -> None:
    if isinstance(event, EpochEnd):
        report(asdict(event))


def _outcome(result: TrainingResult, *, n_rows: int) -> dict[str, Any]:
    executed = result.executed.model_dump(mode="json", include=set(_EXECUTED))
    metrics = {**result.model_dump(mode="json", include=set(_RECORDED)), **executed, "val_select_n": n_rows}
    batch = result.batch.model_dump() if result.batch else {}
    reason = "the loss is not finite" if result.outcome == "diverged" else ""
    value = result.best_val_loss if result.outcome == "complete" else None
    return {"outcome": result.outcome, "value": value, "reason": reason, "metrics": {**metrics, **batch}}
