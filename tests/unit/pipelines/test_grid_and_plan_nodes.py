"""From windows and the settings of a family to its grid, and from a winner to the runs that retrain it."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finscale.archgrid.base import grid_base
from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.models.config import DLinearConfig, parse_model_config
from finscale.models.counting import arch_id
from finscale.models.registry import build_meta_model
from finscale.pipelines.arch_grid.nodes import enumerate_architectures
from finscale.pipelines.training.nodes import plan_runs
from finscale.runtime.definition import GridSettings, TrainingSettings
from finscale.search.config import SearchConfig
from finscale.training.config import ExecutionConfig
from finscale.training.heads import head_fault
from finscale.windows.data import WindowData, WindowSpec
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.standardize import Standardizer

CELL, CONTEXT, FEATURES = Cell.parse("20K", 2), 12, ("a", "b", "c", "d", "e")
SETTINGS: dict[str, dict[str, Any]] = {
    "patchtst": {"patch_length": 4, "stride": 2},
    "transformer": {"conv_taps": 0},
}
TASKS: dict[str, dict[str, Any]] = {
    "direction": {},
    "quantile": {"horizons": (1, 2), "quantile_levels": (0.1, 0.5)},
    "forecast": {"target_columns": ("c", "a")},
}


def windows_of(task: str) -> WindowData:
    n, rows = 60, np.arange(CONTEXT - 1, 58)
    shape = {"quantile": (n, 2), "forecast": (n, 0)}.get(task, (n,))
    facts = {"experiment": "tiny", "touch": "high", "horizon": 2, "data_hash": "d", "title": "t"}
    return WindowData(
        values=np.zeros((n, len(FEATURES)), np.float32),
        targets=np.zeros(shape, np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(n) * np.timedelta64(1, "D"),
        origins=dict(zip(("train", "val_select", "val_score", "test"), np.array_split(rows, 4), strict=True)),
        spec=WindowSpec(task=task, context_length=CONTEXT, features=FEATURES, **facts, **TASKS[task]),
        standardizer=Standardizer(mean=np.zeros(len(FEATURES)), std=np.ones(len(FEATURES))),
    )


def base_of(family: str, **settings: Any) -> dict[str, Any]:
    return grid_base(family, {**SETTINGS[family], **settings}).model_dump(mode="json")


def grid_of(family: str, task: str = "direction") -> pd.DataFrame:
    return enumerate_architectures(CELL, windows_of(task), base_of(family), GridSettings())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", SETTINGS)
def test_every_row_is_a_model_of_the_family_that_answers_the_task_of_the_windows(
    family: str, task: str
) -> None:
    grid, spec = grid_of(family, task), windows_of(task).spec
    assert set(grid["model_family"]) == {family}
    for row in grid.iloc[[0, -1]].itertuples():
        config = parse_model_config(json.loads(str(row.config)))
        model = build_meta_model(config, n_features=len(FEATURES), context_length=CONTEXT)
        assert sum(weights.numel() for weights in model.parameters()) == row.n_params
        assert head_fault(config, spec) is None
        assert {**config.model_dump(mode="json"), **SETTINGS[family]} == config.model_dump(mode="json")


def test_grids_that_differ_are_filed_under_names_that_differ() -> None:
    tables = [grid_of(family, task) for family in SETTINGS for task in TASKS]
    assert len({table.attrs["variant"] for table in tables}) == len(tables)
    assert grid_of("patchtst").attrs["variant"] == ""
    assert grid_of("transformer").attrs["variant"] == "_transformer"


def test_a_family_without_a_grid_is_told_to_train_alone() -> None:
    model = DLinearConfig().model_dump(mode="json")
    with pytest.raises(FinscaleError, match=r"got 'dlinear'; train it alone, with --pipelines training"):
        enumerate_architectures(CELL, windows_of("direction"), model, GridSettings())


def planned(model: dict[str, Any], best: dict[str, Any]) -> Any:
    definition = ExperimentConfig(
        name="tiny", title="t", data=DataConfig(task="direction", context_length=CONTEXT)
    )
    return plan_runs(
        best,
        windows_of("direction"),
        definition,
        CELL,
        model,
        SearchConfig(batch_provider="table"),
        TrainingSettings(n_seeds=2),
        ExecutionConfig(device="cpu"),
        {},
        allow_defaults=False,
        run_spec=None,
    )


def winner_of(family: str) -> dict[str, Any]:
    row = grid_of(family).iloc[0]
    shape = {name: int(row[name]) for name in ("d_model", "n_layers", "n_heads", "d_ff")}
    batch = {"batch_size": 128, "accumulation_steps": 1, "effective_batch_size": 128}
    searched = {"learning_rate": 1e-3, "epochs": 1, "weight_decay": 0.0, "warmup_steps": 1, "dropout": 0.2}
    return {
        "architecture": {**shape, "param_count": int(row["n_params"])},
        "training": searched,
        "batch_config": batch,
        "best_val_loss": 0.6,
        "n_trials": 1,
        "timestamp": "2026-01-01T00:00:00Z",
        "study_name": "tiny",
        "trial_number": 0,
        "seed": 1,
        "data_hash": "d",
        "config_hash": "c",
        "stopped_epoch": 1,
        **{name: row[name] for name in ("arch_id", "model_family")},
    }


@pytest.mark.parametrize("family", SETTINGS)
def test_the_winner_of_a_grid_is_retrained_as_that_very_architecture(family: str) -> None:
    best = winner_of(family)
    specs = planned(base_of(family), best)
    assert len({spec.seed for spec in specs}) == 2
    sizes = {"n_features": len(FEATURES), "context_length": CONTEXT}
    for spec in specs:
        assert spec.model.family == family
        assert spec.arch_id == best["arch_id"] == arch_id(spec.model, **sizes)
        assert spec.model.dropout == 0.2


@pytest.mark.parametrize(
    ("family", "now"),
    [("transformer", base_of("patchtst")), ("patchtst", base_of("patchtst", pooling="last"))],
)
def test_a_winner_of_other_settings_than_those_of_today_is_refused(family: str, now: dict[str, Any]) -> None:
    with pytest.raises(FinscaleError, match=r"of 20K_h2 must hold .* under model\.patchtst"):
        planned(now, winner_of(family))
