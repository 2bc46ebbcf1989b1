"""A cell small enough to be searched within a test: real windows, real models, real training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.budgets import Cell
from finscale.models.config import PatchTSTConfig
from finscale.search.config import SearchConfig
from finscale.search.run import SearchResult, run_search
from finscale.search.space import Dimension, SearchSpace
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import Provenance
from finscale.windows.data import WindowData, WindowSpec, save_windows
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.standardize import Standardizer

CONTEXT, FEATURES = 8, ("a", "b", "c")
CELL = Cell.parse("5K", 1)
EXPERIMENT = ExperimentConfig(
    name="tiny", title="Tiny", data=DataConfig(task="direction", context_length=CONTEXT)
)
SPACE = SearchSpace(epochs=Dimension(choices=(1, 2)), warmup_steps=Dimension(choices=(1, 2)))
DEFAULTS = {"effective_batch_size": 32, "patience": 5}
BASE = PatchTSTConfig(d_model=8, n_layers=2, n_heads=2, d_ff=16, patch_length=4, stride=2)


def small(**changes: Any) -> SearchConfig:
    usual = {"n_trials": 4, "n_random": 10, "executor": "inline", "space": SPACE, "batch_provider": "table"}
    return SearchConfig(**{**usual, **changes})


def few_rows() -> pd.DataFrame:
    return enumerate_grid(CELL.n_budget, n_features=len(FEATURES), context_length=CONTEXT, base=BASE).iloc[:6]


def write_windows(directory: Path, *, n_train: int = 120) -> None:
    n, random = n_train + 80, np.random.default_rng(0)
    splits = np.split(np.arange(CONTEXT - 1, n), [n_train, n_train + 30, n_train + 50])
    data = WindowData(
        values=random.standard_normal((n, len(FEATURES))).astype(np.float32),
        targets=(random.random(n) < 0.4).astype(np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(n) * np.timedelta64(1, "D"),
        origins=dict(zip(("train", "val_select", "val_score", "test"), splits, strict=True)),
        spec=WindowSpec(
            experiment="tiny",
            task="direction",
            touch="high",
            horizon=1,
            context_length=CONTEXT,
            features=FEATURES,
            data_hash="synthetic",
            title="Tiny",
        ),
        standardizer=Standardizer(mean=np.zeros(3), std=np.ones(3)),
    )
    save_windows(directory, data)


def search(
    directory: Path, rows: pd.DataFrame, windows: Path, config: SearchConfig | None = None, **changes: Any
) -> SearchResult:
    usual: Mapping[str, Any] = {
        "experiment": EXPERIMENT,
        "cell": CELL,
        "grid": rows,
        "tolerance": 0.25,
        "windows_directory": windows,
        "study_directory": directory,
        "execution": ExecutionConfig(device="cpu"),
        "training_defaults": DEFAULTS,
        "provenance": Provenance(data_hash="synthetic"),
        "baselines": {"base_rate": 0.68},
        "seed": 42,
    }
    return run_search(config or small(), **{**usual, **changes})
