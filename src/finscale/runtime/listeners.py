"""What the shell does with the domain's events: progress, MLflow, Weights & Biases, STOP files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.core.files import read_json
from finscale.runtime import trackers
from finscale.runtime.progress import Tracker, track
from finscale.runtime.stopping import STOP
from finscale.runtime.wandb_runs import log_wandb_run
from finscale.search.best import BEST_FILE
from finscale.search.driver import SearchEvent, trial_directory
from finscale.search.study import load_study
from finscale.search.trials import trial_row
from finscale.training.answer_table import answer_names
from finscale.training.event_log import read_events
from finscale.training.events import EpochEnd, Event
from finscale.training.run_inputs import load_inputs
from finscale.training.run_spec import RunSpec
from finscale.training.winner import SeedRun

__all__ = [
    "SearchListener",
    "SeedsListener",
    "log_missing_trials",
    "log_seed_run",
    "log_winner",
    "watch_training",
]

_TYPES = {"i": "long", "f": "double"}
_TRIAL_KEY = ("config_hash", "number", "started_at")
_CURVE = ("train_loss", "val_loss", "learning_rate", "samples_per_s", "mfu")


class SearchListener:
    """Follow one search: progress per trial, a tracked run per finished trial, ``data/STOP``."""

    def __init__(
        self, cell: Cell, study_folder: Path, tracker: Tracker, *, wandb_project: str | None
    ) -> None:
        self._cell, self._folder, self._tracker = cell, study_folder, tracker
        self._wandb_project = wandb_project
        self._is_first = True

    def __call__(self, event: SearchEvent) -> None:
        """Receive one event of the driver."""
        if STOP.stop_file is not None and STOP.stop_file.exists():
            (self._folder / "STOP").touch()
        if event.kind == "progress" and "epoch" in event.values:
            epoch, epochs, loss = (event.values[name] for name in ("epoch", "epochs", "val_loss"))
            note = f"trial {event.number}: epoch {epoch}/{epochs}, loss {loss:.4f}"
            self._tracker.show(self._tracker.done, note)
        elif event.kind == "finished":
            self._finish(event)

    def _finish(self, event: SearchEvent) -> None:
        value, outcome = event.values.get("value"), event.values["outcome"]
        if self._is_first:
            self._tracker.resume(event.values["n_finished"] - 1)
            self._is_first = False
        shown = f"{value:.4f}" if value is not None else outcome
        self._tracker.advance(f"trial {event.number}: {shown}{self._best_so_far()}")
        _log(_trial_run(self._cell, event.values["trial"], self._folder), self._wandb_project)

    def _best_so_far(self) -> str:
        """Of the whole study, which an earlier session may have begun."""
        try:
            return f", best {read_json(self._folder / BEST_FILE)['best_val_loss']:.4f}"
        except FinscaleError:
            return ""


def _log(run: trackers.ChildRun, wandb_project: str | None) -> None:
    trackers.log_child_run(run)
    if wandb_project is not None:
        log_wandb_run(run, project=wandb_project)


def log_missing_trials(cell: Cell, study_folder: Path) -> None:
    """Record every ended trial of a study that MLflow does not know: the study and its folders are the truth.

    A driver that was killed, or a tracking server that was away or lost, leaves such trials behind.
    """
    ended = [trial for trial in load_study(study_folder).trials if trial.state.is_finished()]
    runs = [_trial_run(cell, trial, study_folder) for trial in ended]
    trackers.log_missing_runs(runs, key=_TRIAL_KEY)


def _trial_run(cell: Cell, trial: FrozenTrial, study_folder: Path) -> trackers.ChildRun:
    """Say of a trial what its study and its events say; a trial without a value has failed, unless pruned."""
    row = {name: value for name, value in trial_row(trial).items() if value is not None}
    scores = {"val_select_loss": row["value"]} if "value" in row else {}
    return trackers.ChildRun(
        f"{cell.id} trial {trial.number:04d}",
        params={name: value for name, value in row.items() if name not in ("value", "seconds")},
        metrics={**scores, "seconds": row["seconds"]},
        curve=_curve(trial_directory(study_folder, trial.number)),
        tags={"cell": cell.id, "kind": row["kind"]},
        failed=trial.state == TrialState.FAIL,
    )


def _curve(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Return the epochs of a run from its events; of an epoch that ran twice the second one."""
    epochs = {said["epoch"]: said for said in read_events(folder) if said["event"] == "EpochEnd"}
    return {name: [(epoch, epochs[epoch][name]) for epoch in sorted(epochs)] for name in _CURVE}


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


def log_seed_run(run: SeedRun, *, kind: str = "final") -> None:
    """Record a training in every tracker, filed under its kind, with its curve and scores."""
    curve = {name: [(row.epoch, getattr(row, name)) for row in run.result.curve] for name in _CURVE}
    scores = run.evaluation.scores if run.evaluation else {}
    child = trackers.ChildRun(
        f"{run.spec.cell.id} seed {run.spec.seed}" + (f" fold {run.spec.fold}" if run.spec.fold else ""),
        params={
            **run.spec.model.leaves("model"),
            **run.spec.training.leaves("training"),
            **run.result.executed.leaves("executed"),
            "arch_id": run.spec.arch_id,
            "n_params": run.result.n_params,
            "seed": run.spec.seed,
            **(run.spec.view.leaves("view") if run.spec.view else {}),
        },
        metrics={
            f"{split}_{name}": value for split, found in scores.items() for name, value in found.items()
        },
        curve=curve,
        tags={"cell": run.spec.cell.id, "kind": kind},
        failed=run.result.outcome != "complete",
    )
    _log(child, run.spec.experiment.wandb_project)


def log_winner(runs: Sequence[SeedRun], folders: Sequence[Path], bars: pd.DataFrame) -> None:
    """Record one finished training as a model that scores bars: of the last fold the best on ``val_select``.

    Parameters
    ----------
    runs, folders
        The trainings of a cell, and where they lie.
    bars : DataFrame
        Prepared bars, whose columns the model asks for; a panel's instruments and the times become columns.
    """
    last = max(run.spec.fold for run in runs)
    able = [
        (run.result.best_val_loss, folder)
        for run, folder in zip(runs, folders, strict=True)
        if run.spec.fold == last and run.evaluation is not None and run.result.best_val_loss is not None
    ]
    if not able:
        return
    _, folder = min(able)
    spec = load_inputs(folder).spec
    columns = bars.columns.drop(["session", "slot"], errors="ignore")
    instrument = {"instrument": "string"}
    trackers.log_scoring_model(
        folder,
        inputs={
            **(instrument if "instrument" in bars.index.names else {}),
            spec.time_name: "datetime",
            **{str(name): _TYPES[bars[name].dtype.kind] for name in columns},
        },
        optional=("volume", "vix"),
        outputs={
            **{"date": "datetime", "at": "datetime", **instrument},
            **dict.fromkeys(answer_names(spec), "double"),
        },
    )
