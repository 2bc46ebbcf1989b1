"""A study of transformers from bars to report, and a model without a grid trained on the same windows."""

import json

import pandas as pd
import pytest

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.models.config import DLinearConfig
from finscale.models.counting import count_params
from finscale.training.config import TrainingConfig
from finscale.training.run_spec import Provenance, plan_run, read_run_spec, write_run_spec
from finscale.windows.data import load_windows
from finscale.windows.experiment import DataConfig, ExperimentConfig

NAME, CELL = "sp500_test_transformer", "5K_h1"


@pytest.fixture(scope="module")
def studied(make_project):
    """A project in which one cell of transformers has been searched, trained and reported."""
    project = make_project()
    done = project.kedro(
        "run", "--env", "test", "--params", f"experiment={NAME},hpo.executor=inline,hpo.n_workers=1"
    )
    assert done.code == 0, done.out
    return project


def test_a_study_of_transformers_says_so_in_every_record(studied):
    data = studied.folder / "data/test"
    runs = pd.read_parquet(data / "07_model_output" / NAME / CELL / "runs.parquet")
    assert set(runs["model_family"]) == {"transformer"}
    assert set(runs["split"]) == {"val_select", "val_score", "test"}
    assert ((runs["n_params"] - 5000).abs() <= 1250).all()
    best = json.loads((data / "06_models/hpo" / NAME / CELL / "best_params.json").read_text())
    assert (best["model_family"], best["arch_id"]) == ("transformer", runs["arch_id"].iloc[0])
    trials = [
        read_run_spec(path) for path in (data / "06_models/hpo" / NAME / CELL / "trials").glob("*.yaml")
    ]
    assert len(trials) == 3
    grid = pd.read_parquet(data / "05_model_input/grid_5K_F25_T20_transformer.parquet")
    for spec in trials:
        assert (spec.model.family, spec.model.causal, spec.model.conv_taps) == ("transformer", True, 0)
        assert spec.arch_id in set(grid["arch_id"])
    report = (data / "08_reporting" / NAME / "report.md").read_text()
    assert "transformer (positions.kind rope, positions.base 10000.0, conv_taps 0, causal True" in report


def test_a_model_without_a_grid_is_trained_from_its_run_spec(studied):
    windows = load_windows(studied.folder / "data/test/05_model_input" / f"{NAME}_h1")
    asked = DataConfig(task="threshold_1pct", context_length=20)
    spec = plan_run(
        DLinearConfig(average_bars=5),
        TrainingConfig(learning_rate=1e-3, epochs=2, weight_decay=0.0, warmup_steps=2, max_steps=4),
        experiment=ExperimentConfig(name=NAME, title="t", model_family="dlinear", data=asked),
        cell=Cell.parse("5K", 1),
        n_features=windows.n_features,
        batch=split_batch(128, effective_batch_size=128),
        seed=1,
        provenance=Provenance(data_hash=windows.spec.data_hash),
    )
    path = studied.folder / "data/dlinear.json"
    write_run_spec(path, spec)
    done = studied.kedro("run", "--env", "test", "--pipelines", "training", "--params", f"run_spec={path}")
    assert done.code == 0, done.out
    runs = pd.read_parquet(
        studied.folder / f"data/test/07_model_output/{NAME}/{CELL}/reproduced_runs.parquet"
    )
    assert set(runs["model_family"]) == {"dlinear"}
    assert runs["log_loss"].notna().all()
    assert set(runs["n_params"]) == {count_params(spec.model, n_features=25, context_length=20).total}
