from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.core.files import write_json
from finscale.models.config import PatchTSTConfig
from finscale.runtime import listeners, trackers
from finscale.runtime.listeners import SearchListener, log_missing_trials, log_seed_run
from finscale.runtime.progress import Tracker
from finscale.runtime.trackers import ChildRun
from finscale.search.best import BEST_FILE
from finscale.search.driver import SearchEvent, trial_directory
from finscale.training.config import TrainingConfig
from finscale.training.event_log import logged
from finscale.training.events import EpochEnd
from finscale.training.result import EpochRecord, Executed, TrainingResult
from finscale.training.run_spec import Provenance, plan_run
from finscale.training.winner import SeedRun
from finscale.windows.experiment import ExperimentConfig

CELL = Cell.parse("20M", 3)
CURVE = (
    EpochRecord(
        epoch=1,
        step=6,
        train_loss=0.8,
        val_loss=0.7,
        learning_rate=1e-3,
        spread=0.1,
        seconds=2.0,
        samples_per_s=90.0,
        mfu=0.25,
    ),
)
Told = tuple[list[ChildRun], list[tuple[ChildRun, str]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What MLflow and Weights & Biases are told."""
    mlflow, wandb = list[ChildRun](), list[tuple[ChildRun, str]]()
    monkeypatch.setattr(trackers, "log_child_run", mlflow.append)
    monkeypatch.setattr(listeners, "log_wandb_run", lambda run, *, project: wandb.append((run, project)))
    return mlflow, wandb


@pytest.fixture
def store(tmp_path: Path) -> Iterator[None]:
    """An MLflow of the test's own."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.set_tracking_uri(before)


def _trial(number: int = 4, **changes: object) -> FrozenTrial:
    known = {"kind": "random", "d_model": 64, "outcome": "complete", "reason": "", "seconds": 3.0}
    usual = {
        "number": number,
        "state": TrialState.COMPLETE,
        "value": 0.7,
        "datetime_start": datetime(2026, 1, 31, 12, 0, number),
        "datetime_complete": datetime(2026, 1, 31, 12, 1),
        "params": {"learning_rate": 3e-4},
        "distributions": {"learning_rate": FloatDistribution(1e-4, 1e-3)},
        "user_attrs": {**known, "config_hash": "c", "micro_batch_size": 32},
        "system_attrs": {},
        "intermediate_values": {},
        "trial_id": number,
    }
    return FrozenTrial(**{**usual, **changes})


def _finish_a_trial(folder: Path, wandb_project: str | None, **changes: object) -> None:
    log = logged(trial_directory(folder, 4), lambda event: None)
    for epoch in CURVE:
        log(EpochEnd(**epoch.model_dump(), epochs=5, best_val_loss=0.7, best_epoch=1, memory_bytes=1))
    listen = SearchListener(CELL, folder, Tracker("Search", 1), wandb_project=wandb_project)
    trial = _trial(**changes)
    listen(SearchEvent("finished", 4, _finished(trial, n_finished=5)))


def _finished(trial: FrozenTrial, *, n_finished: int) -> dict[str, Any]:
    return {"value": trial.value, "outcome": "complete", "trial": trial, "n_finished": n_finished}


def test_progress_goes_on_where_an_earlier_session_stopped(tmp_path: Path, told: Told) -> None:
    write_json(tmp_path / BEST_FILE, {"best_val_loss": 0.125})
    tracker = Tracker("search", 20)
    listen = SearchListener(CELL, tmp_path, tracker, wandb_project=None)
    for number, n_finished in ((4, 6), (5, 7)):
        listen(SearchEvent("finished", number, _finished(_trial(number), n_finished=n_finished)))
        assert tracker.done == n_finished
    assert listen._best_so_far() == ", best 0.1250"


def test_both_trackers_are_told_the_same_of_a_trial(tmp_path: Path, told: Told) -> None:
    mlflow, wandb = told
    _finish_a_trial(tmp_path, "scaling")
    assert wandb == [(mlflow[0], "scaling")]
    assert mlflow[0].params.items() >= {"kind": "random", "d_model": 64, "micro_batch_size": 32}.items()
    assert mlflow[0].params["learning_rate"] == 3e-4
    assert mlflow[0].metrics == {"val_select_loss": 0.7, "seconds": 3.0}
    assert mlflow[0].tags == {"cell": "20M_h3", "kind": "random"}
    assert mlflow[0].curve == {
        "train_loss": [(1, 0.8)],
        "val_loss": [(1, 0.7)],
        "learning_rate": [(1, 1e-3)],
        "samples_per_s": [(1, 90.0)],
        "mfu": [(1, 0.25)],
    }


def test_without_a_project_only_mlflow_is_told(tmp_path: Path, told: Told) -> None:
    mlflow, wandb = told
    _finish_a_trial(tmp_path, None)
    assert len(mlflow) == 1
    assert not wandb


@pytest.mark.parametrize(("state", "failed"), [(TrialState.PRUNED, False), (TrialState.FAIL, True)])
def test_a_trial_without_a_result_has_no_score_and_has_failed_unless_pruned(
    tmp_path: Path, told: Told, state: TrialState, failed: bool
) -> None:
    mlflow, _ = told
    _finish_a_trial(tmp_path, None, state=state, value=0.9 if state == TrialState.PRUNED else None)
    assert mlflow[0].metrics == {"seconds": 3.0}
    assert mlflow[0].failed == failed
    assert mlflow[0].curve["val_loss"] == [(1, 0.7)]


def test_an_epoch_that_ran_twice_is_told_once_as_it_ran_last(tmp_path: Path, told: Told) -> None:
    mlflow, _ = told
    log = logged(trial_directory(tmp_path, 4), lambda event: None)
    once = {**CURVE[0].model_dump(), "epochs": 5, "best_val_loss": 0.9, "best_epoch": 1, "memory_bytes": 1}
    log(EpochEnd(**{**once, "val_loss": 0.9}))
    log(EpochEnd(**{**once, "epoch": 2}))
    _finish_a_trial(tmp_path, None)
    assert mlflow[0].curve["val_loss"] == [(1, 0.7), (2, 0.7)]


@pytest.mark.usefixtures("store")
def test_mlflow_is_told_what_it_missed_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [_trial(0), _trial(1, state=TrialState.PRUNED), _trial(2, state=TrialState.RUNNING)]
    monkeypatch.setattr(listeners, "load_study", lambda folder: SimpleNamespace(trials=trials))
    with mlflow.start_run(tags={"cell": CELL.id}) as session:
        trackers.log_child_run(listeners._trial_run(CELL, trials[0], tmp_path))
        for _ in range(2):
            log_missing_trials(CELL, tmp_path)
    runs = mlflow.search_runs([session.info.experiment_id], output_format="list")
    recorded = {run.info.run_name: run for run in runs}
    assert len(runs) == 3
    pruned = recorded["20M_h3 trial 0001"]
    assert pruned.data.params["state"] == "PRUNED"
    assert pruned.data.tags["mlflow.parentRunId"] == session.info.run_id
    assert "val_select_loss" not in pruned.data.metrics


@pytest.mark.usefixtures("store")
def test_a_trial_of_an_archived_study_does_not_stand_for_its_namesake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = iter(
        [SimpleNamespace(trials=[_trial(0, datetime_start=datetime(y, 1, 1))]) for y in (2026, 2027)]
    )
    monkeypatch.setattr(listeners, "load_study", lambda folder: next(studies))
    with mlflow.start_run() as session:
        for _ in range(2):
            log_missing_trials(CELL, tmp_path)
    assert len(mlflow.search_runs([session.info.experiment_id], output_format="list")) == 3


def _seed_run(wandb_project: str | None) -> SeedRun:
    spec = plan_run(
        PatchTSTConfig(d_model=16, n_layers=1, n_heads=2, d_ff=32),
        TrainingConfig(learning_rate=1e-3, epochs=1, weight_decay=0.0, warmup_steps=0),
        experiment=ExperimentConfig(name="asked", title="t", wandb_project=wandb_project),
        cell=CELL,
        n_features=3,
        batch=split_batch(32, effective_batch_size=128),
        seed=7,
        provenance=Provenance(data_hash="d"),
    )
    executed = Executed.model_construct(optimizer="AdamW")
    result = TrainingResult.model_construct(outcome="diverged", executed=executed, n_params=5, curve=CURVE)
    return SeedRun(spec, result, None)


@pytest.mark.parametrize("project", [None, "scaling"])
def test_a_seed_is_told_to_the_trackers_of_its_experiment(told: Told, project: str | None) -> None:
    log_seed_run(_seed_run(project))
    (run,) = told[0]
    assert told[1] == ([(run, "scaling")] if project else [])
    assert (run.name, run.failed, run.tags) == ("20M_h3 seed 7", True, {"cell": "20M_h3", "kind": "final"})
    assert run.params["executed.optimizer"] == "AdamW"
    assert run.curve["mfu"] == [(1, 0.25)]
