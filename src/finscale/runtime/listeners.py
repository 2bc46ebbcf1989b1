"""What the shell does with the domain's events: progress, MLflow, STOP files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.core.files import read_json
from finscale.runtime import trackers
from finscale.runtime.progress import Tracker, track
from finscale.runtime.stopping import STOP
from finscale.search.driver import SearchEvent, trial_directory
from finscale.training.events import EpochEnd, Event
from finscale.training.run_spec import RunSpec
from finscale.training.winner import SeedRun

__all__ = ["SearchListener", "SeedsListener", "log_seed_run", "watch_training"]

_CURVE = {"train_loss": "train_loss", "val_loss": "val_loss", "learning_rate": "learning_rate"}


class SearchListener:
    """Follow one search: progress per trial, a nested MLflow run per finished trial, ``data/STOP``."""

    def __init__(self, cell: Cell, study_folder: Path, tracker: Tracker) -> None:
        self._cell, self._folder, self._tracker = cell, study_folder, tracker
        self._attributes: dict[int, dict[str, Any]] = {}
        self._best: float | None = None

    def __call__(self, event: SearchEvent) -> None:
        """Receive one event of the driver."""
        if STOP.stop_file is not None and STOP.stop_file.exists():
            (self._folder / "STOP").touch()
        if event.kind in ("asked", "adopted"):
            self._attributes[event.number] = dict(event.values)
        elif event.kind == "progress" and "epoch" in event.values:
            epoch, epochs, loss = (event.values[name] for name in ("epoch", "epochs", "val_loss"))
            note = f"trial {event.number}: epoch {epoch}/{epochs}, loss {loss:.4f}"
            self._tracker.show(self._tracker.done, note)
        elif event.kind == "finished":
            self._finish(event)

    def _finish(self, event: SearchEvent) -> None:
        value, outcome = event.values.get("value"), event.values["outcome"]
        if value is not None:
            self._best = value if self._best is None else min(self._best, value)
        shown = f"{value:.4f}" if value is not None else outcome
        best = f", best {self._best:.4f}" if self._best is not None else ""
        self._tracker.advance(f"trial {event.number}: {shown}{best}")
        attributes = self._attributes.get(event.number, {})
        trackers.log_child_run(
            f"{self._cell.id} trial {event.number:04d}",
            params={**attributes, "outcome": outcome},
            metrics={"val_select_loss": value, "seconds": event.values["seconds"]}
            if value is not None
            else {},
            curve=_curve(trial_directory(self._folder, event.number) / "result.json"),
            tags={"cell": self._cell.id, "kind": str(attributes.get("kind", "trial"))},
            failed=value is None,
        )


def _curve(path: Path) -> dict[str, list[tuple[int, float]]]:
    try:
        epochs = read_json(path)["curve"]
    except (FinscaleError, KeyError):
        return {}
    return {name: [(row["epoch"], row[key]) for row in epochs] for name, key in _CURVE.items()}


class SeedsListener:
    """Follow several seeds that train at the same time: one line of progress over all their epochs."""

    def __init__(self, cell_id: str, specs: Sequence[RunSpec]) -> None:
        self._label, self._specs = f"Train {cell_id}, {len(specs)} runs", specs
        self._epochs = dict.fromkeys(range(len(specs)), 0)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        total = sum(spec.training.max_epochs or spec.training.epochs for spec in self._specs)
        self._tracker = self._open.enter_context(track(self._label, total))
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def __call__(self, number: int, values: Mapping[str, Any]) -> None:
        """Receive one epoch of one seed."""
        self._epochs[number] = values["epoch"]
        self._tracker.show(
            sum(self._epochs.values()),
            f"seed {self._specs[number].seed}: epoch {values['epoch']}, loss {values['val_loss']:.4f}",
        )


@contextmanager
def watch_training(label: str, n_epochs: int) -> Iterator[Any]:
    """Show the epochs of one training; yields its listener."""
    with track(label, n_epochs) as tracker:

        def listen(event: Event) -> None:
            if isinstance(event, EpochEnd):
                note = f"loss {event.val_loss:.4f}, best {event.best_val_loss:.4f} (epoch {event.best_epoch})"
                tracker.show(event.epoch, note)

        yield listen


def log_seed_run(run: SeedRun) -> None:
    """Record a final training as a nested MLflow run, with its curve and scores."""
    curve = {
        name: [(row.epoch, getattr(row, key)) for row in run.result.curve] for name, key in _CURVE.items()
    }
    scores = run.evaluation.scores if run.evaluation else {}
    trackers.log_child_run(
        f"{run.spec.cell.id} seed {run.spec.seed}" + (f" fold {run.spec.fold}" if run.spec.fold else ""),
        params={
            **run.spec.model.leaves("model"),
            **run.spec.training.leaves("training"),
            **run.result.executed.leaves("executed"),
            "arch_id": run.spec.arch_id,
            "n_params": run.result.n_params,
            "seed": run.spec.seed,
        },
        metrics={
            f"{split}_{name}": value for split, found in scores.items() for name, value in found.items()
        },
        curve=curve,
        tags={"cell": run.spec.cell.id, "kind": "final"},
        failed=run.result.outcome != "complete",
    )
