"""What a search costs beside training: asking, telling and every record, by trials that train nothing.

Run by ``bench_search.py --overhead``: the product's `run_search` on the 20M grid, with SQLite study, trial
files, event logs of 75 epochs, best_params.json and trials.parquet, with or without MLflow.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.budgets import Cell
from finscale.runtime.listeners import SearchListener
from finscale.runtime.progress import Tracker
from finscale.search import run
from finscale.search.config import SearchConfig
from finscale.search.driver import SearchEvent, ignore
from finscale.training.config import ExecutionConfig
from finscale.training.event_log import logged
from finscale.training.events import EpochEnd
from finscale.training.run_spec import Provenance
from finscale.windows.data import WindowData, WindowSpec, save_windows
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.standardize import Standardizer

_CELL = Cell.parse("20M", 1)
_FEATURES = tuple(f"feature_{k}" for k in range(25))
_CONTEXT = 60
_N_ROWS = 1_000
_N_EPOCHS = 75
_LAST = 20


def null_trial(
    payload: Mapping[str, Any],
    directory: Path,
    *,
    should_stop: Callable[[], bool],
    report: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Train nothing: log the epochs of a run, and return a loss that has a bowl to be found."""
    spec = payload["spec"]
    shape = np.log2(spec["model"]["d_model"] / spec["model"]["n_layers"])
    rate = np.log10(spec["training"]["learning_rate"] / 3e-4)
    value = float(
        0.65 + 0.001 * (shape - 4) ** 2 + 0.01 * rate**2 + 0.1 * (spec["model"]["dropout"] - 0.2) ** 2
    )
    listen = logged(directory, lambda event: None)
    for epoch in range(1, _N_EPOCHS + 1):
        listen(EpochEnd(epoch, _N_EPOCHS, epoch, 0.7, value, value, 1, 0.1, 1e-4, 1e3, None, 1.0, 10**6))
    return {"outcome": "complete", "value": value, "metrics": {"stopped_epoch": _N_EPOCHS, "n_steps": 100}}


def print_overhead(*, n_trials: int, with_mlflow: bool) -> None:
    """Print CPU seconds per trial, over the whole search and at its end."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with _tracking(directory) if with_mlflow else contextlib.nullcontext():
            marks = _search(directory, n_trials, with_mlflow=with_mlflow)
    mean, last = (marks[-1] - marks[0]) / n_trials, (marks[-2] - marks[-2 - _LAST]) / _LAST
    how = "with MLflow" if with_mlflow else "without MLflow"
    print(f"{n_trials} trials {how}: {mean:.3f} CPU-s a trial, {last:.3f} over the last {_LAST}", flush=True)


def _search(directory: Path, n_trials: int, *, with_mlflow: bool) -> list[float]:
    """Return the CPU time at the start, after every trial, and at the end."""
    _write_windows(directory / "windows")
    marks = [time.process_time()]
    tracker = Tracker("search", n_trials)
    listener = (
        SearchListener(_CELL, directory / "study", tracker, wandb_project=None) if with_mlflow else ignore
    )

    def listen(event: SearchEvent) -> None:
        listener(event)
        if event.kind == "finished":
            marks.append(time.process_time())

    run._FUNCTION = f"{__name__}:null_trial"
    run.run_search(
        SearchConfig(n_trials=n_trials, executor="inline", batch_provider="table"),
        experiment=_experiment(),
        cell=_CELL,
        grid=enumerate_grid(_CELL.n_budget, n_features=len(_FEATURES), context_length=_CONTEXT),
        tolerance=0.25,
        windows_directory=directory / "windows",
        study_directory=directory / "study",
        execution=ExecutionConfig(device="cpu"),
        training_defaults={},
        provenance=Provenance(data_hash="synthetic"),
        baselines={"base_rate": 0.68},
        seed=0,
        on_event=listen,
    )
    return [*marks, time.process_time()]


def _experiment() -> ExperimentConfig:
    data = DataConfig(task="direction", context_length=_CONTEXT)
    return ExperimentConfig(name="overhead", title="Overhead", data=data)


def _write_windows(directory: Path) -> None:
    rng = np.random.default_rng(0)
    data = WindowData(
        values=rng.standard_normal((_N_ROWS, len(_FEATURES))).astype(np.float32),
        targets=(rng.random(_N_ROWS) < 0.4).astype(np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(_N_ROWS) * np.timedelta64(1, "D"),
        origins=dict(
            zip(
                ("train", "val_select", "val_score", "test"),
                np.split(np.arange(_CONTEXT - 1, _N_ROWS), [600, 700, 800]),
                strict=True,
            )
        ),
        spec=WindowSpec(
            experiment="overhead",
            task="direction",
            touch="high",
            horizon=1,
            context_length=_CONTEXT,
            features=_FEATURES,
            data_hash="synthetic",
            title="Overhead",
        ),
        standardizer=Standardizer(mean=np.zeros(len(_FEATURES)), std=np.ones(len(_FEATURES))),
    )
    save_windows(directory, data)


@contextlib.contextmanager
def _tracking(directory: Path) -> Iterator[None]:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
    mlflow.set_experiment("overhead")
    with mlflow.start_run():
        yield
