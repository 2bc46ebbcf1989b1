from pathlib import Path

import pytest

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.core.files import write_json
from finscale.models.config import PatchTSTConfig
from finscale.runtime import listeners, trackers
from finscale.runtime.listeners import SearchListener, log_seed_run
from finscale.runtime.progress import Tracker
from finscale.runtime.trackers import ChildRun
from finscale.search.driver import SearchEvent, trial_directory
from finscale.training.config import TrainingConfig
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
Logs = tuple[list[ChildRun], list[tuple[ChildRun, str]]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logs:
    """What MLflow and Weights & Biases are told."""
    mlflow, wandb = list[ChildRun](), list[tuple[ChildRun, str]]()
    monkeypatch.setattr(trackers, "log_child_run", mlflow.append)
    monkeypatch.setattr(listeners, "log_wandb_run", lambda run, *, project: wandb.append((run, project)))
    return mlflow, wandb


def _finish_a_trial(folder: Path, wandb_project: str | None, **epoch: object) -> None:
    row = {name: value for name, value in CURVE[0].model_dump().items() if name not in epoch}
    write_json(trial_directory(folder, 4) / "result.json", {"curve": [row]})
    listen = SearchListener(CELL, folder, Tracker("Search", 1), wandb_project=wandb_project)
    listen(SearchEvent("asked", 4, {"kind": "random", "d_model": 64}))
    listen(SearchEvent("finished", 4, {"value": 0.7, "outcome": "complete", "seconds": 3.0}))


def test_both_trackers_are_told_the_same_of_a_trial(tmp_path: Path, logged: Logs) -> None:
    mlflow, wandb = logged
    _finish_a_trial(tmp_path, "scaling")
    assert wandb == [(mlflow[0], "scaling")]
    assert mlflow[0].params == {"kind": "random", "d_model": 64, "outcome": "complete"}
    assert mlflow[0].metrics == {"val_select_loss": 0.7, "seconds": 3.0}
    assert mlflow[0].tags == {"cell": "20M_h3", "kind": "random"}
    assert mlflow[0].curve == {
        "train_loss": [(1, 0.8)],
        "val_loss": [(1, 0.7)],
        "learning_rate": [(1, 1e-3)],
        "samples_per_s": [(1, 90.0)],
        "mfu": [(1, 0.25)],
    }


def test_without_a_project_only_mlflow_is_told(tmp_path: Path, logged: Logs) -> None:
    mlflow, wandb = logged
    _finish_a_trial(tmp_path, None)
    assert len(mlflow) == 1
    assert not wandb


def test_the_curve_of_a_record_without_mfu_is_still_read(tmp_path: Path, logged: Logs) -> None:
    mlflow, _ = logged
    _finish_a_trial(tmp_path, None, mfu="left out")
    assert mlflow[0].curve["val_loss"] == [(1, 0.7)]
    assert mlflow[0].curve["mfu"] == [(1, None)]


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
def test_a_seed_is_told_to_the_trackers_of_its_experiment(logged: Logs, project: str | None) -> None:
    mlflow, wandb = logged
    log_seed_run(_seed_run(project))
    (run,) = mlflow
    assert wandb == ([(run, "scaling")] if project else [])
    assert (run.name, run.failed, run.tags) == ("20M_h3 seed 7", True, {"cell": "20M_h3", "kind": "final"})
    assert run.params["executed.optimizer"] == "AdamW"
    assert run.curve["mfu"] == [(1, 0.25)]
