"""Train the seeds of a winner side by side, through the same executors as a search."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finscale.core.errors import Fault
from finscale.core.hashing import content_hash
from finscale.search.attempts import Job
from finscale.search.executors import Executor
from finscale.training.config import ExecutionConfig
from finscale.training.event_log import logged
from finscale.training.events import EpochEnd, Event
from finscale.training.run_spec import RunSpec, fingerprint
from finscale.windows.data import load_windows

__all__ = ["train_final", "train_side_by_side"]

_FUNCTION = "finscale.search.finals:train_final"
_POLL_S = 0.5


def train_side_by_side(
    specs: Sequence[RunSpec],
    directories: Sequence[Path],
    *,
    windows_directories: Sequence[Path],
    execution: ExecutionConfig,
    executor: Executor,
    should_stop: Callable[[], bool],
) -> bool:
    """Train every specification in its own directory, as many at a time as the executor has slots.

    Parameters
    ----------
    directories, windows_directories : sequence of Path
        Where each training writes, and the windows that each reads.

    Returns
    -------
    bool
        False when asked to stop before all had ended; checkpoints hold what they had reached.

    Raises
    ------
    Fault
        When a training failed, with its reason; the others are stopped at their next step.
    """
    jobs = [
        _job(number, spec, directory, windows, execution)
        for number, (spec, directory, windows) in enumerate(
            zip(specs, directories, windows_directories, strict=True)
        )
    ]
    waiting, running = deque(jobs), dict[int, Job]()
    while waiting or running:
        if should_stop():
            waiting.clear()
            for number in running:
                executor.cancel(number)
        while waiting and len(running) < executor.n_slots:
            job = waiting.popleft()
            running[job.number] = job
            executor.submit(job)
        for finished in executor.poll(_POLL_S):
            job = running.pop(finished.number)
            if finished.outcome.outcome in ("failed", "oom", "lost"):
                remedy = f"see {job.directory}, mend it and run again"
                raise Fault(
                    f"training of seed {specs[job.number].seed}", "end", finished.outcome.reason, remedy
                )
    return not should_stop()


def _job(number: int, spec: RunSpec, directory: Path, windows: Path, execution: ExecutionConfig) -> Job:
    payload = {
        "spec": spec.model_dump(mode="json"),
        "windows": str(windows),
        "execution": execution.model_dump(mode="json"),
    }
    caps = (spec.training.max_steps, spec.training.max_epochs)
    return Job(number, content_hash(fingerprint(spec), caps), _FUNCTION, payload, directory)


def train_final(
    payload: Mapping[str, Any],
    directory: Path,
    *,
    should_stop: Callable[[], bool],
    report: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Train one seed and keep everything: weights, checkpoints and record (a `TrialFunction`)."""
    from finscale.training.loop import train

    def listen(event: Event) -> None:
        if isinstance(event, EpochEnd):
            report(asdict(event))

    result = train(
        RunSpec.read(payload["spec"], subject="run_spec"),
        load_windows(Path(payload["windows"])),
        directory=directory,
        execution=ExecutionConfig.read(payload["execution"], subject="execution"),
        on_event=logged(directory, listen),
        should_stop=should_stop,
    )
    value = result.best_val_loss if result.outcome == "complete" else None
    return {"outcome": result.outcome, "value": value}
