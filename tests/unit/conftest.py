"""Finished trainings on bars, made in a fraction of a second."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finscale.archgrid.batching import split_batch
from finscale.features.compute import compute_features
from finscale.features.prepare import prepare_bars
from finscale.models.config import AnyConfig, PatchTSTConfig
from finscale.models.counting import arch_id, count_params
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.heads import with_head
from finscale.training.result import TrainingResult
from finscale.training.run_inputs import bar_facts, save_inputs
from finscale.training.run_spec import Provenance, RunSpec
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.view import WindowView, view_windows

FEATURES = ("return_5", "sma_12", "rsi_14")
TINY = PatchTSTConfig(d_model=8, n_layers=1, n_heads=2, d_ff=16, patch_length=5, stride=5, dropout=0.2)


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a run, the bars as a user has them, its windows, and its forecasts as recorded."""

    folder: Path
    bars: pd.DataFrame
    prepared: pd.DataFrame
    data: WindowData
    spec: RunSpec
    result: TrainingResult
    recorded: pd.DataFrame


@pytest.fixture(scope="session")
def daily_bars() -> pd.DataFrame:
    """700 business days."""
    rng = np.random.default_rng(7)
    close = 100 * np.exp(rng.normal(0, 0.01, 700).cumsum())
    prices = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
    return pd.DataFrame(prices, index=pd.bdate_range("2015-01-01", periods=700, name="session"))


@pytest.fixture(scope="session")
def finish_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FinishedRun]:
    """Train a tiny model for two epochs on bars as a user has them; keywords go to the data block."""

    def make(
        bars: pd.DataFrame,
        *,
        model: AnyConfig = TINY,
        features: tuple[str, ...] = FEATURES,
        horizon: int = 1,
        view: WindowView | None = None,
        **data: Any,
    ) -> FinishedRun:
        folder = tmp_path_factory.mktemp("run")
        block = DataConfig(**{"task": "direction", "context_length": 20, "allow_few_positives": True, **data})
        prepared = prepare_bars(bars, name="bars", timescale=block.timescale, start=block.start)
        table = compute_features(prepared, features, timescale=block.timescale).frame
        experiment = ExperimentConfig(name="tiny", title="Tiny", data=block)
        windows, _ = build_windows(table, prepared, experiment=experiment, horizon=horizon, data_hash="tiny")
        seen = view_windows(windows, view)
        spec = _spec(with_head(model, seen.spec), seen, experiment).model_copy(update={"view": view})
        return _finished(spec, windows, folder, bars, prepared)

    return make


@pytest.fixture(scope="session")
def daily_run(finish_run: Callable[..., FinishedRun], daily_bars: pd.DataFrame) -> FinishedRun:
    return finish_run(daily_bars)


def _spec(model: AnyConfig, windows: WindowData, experiment: ExperimentConfig) -> RunSpec:
    sizes = {"n_features": windows.n_features, "context_length": windows.spec.context_length}
    training = {"learning_rate": 3e-3, "epochs": 2, "weight_decay": 1e-2, "warmup_steps": 2}
    return RunSpec(
        experiment=experiment,
        budget="5K",
        horizon=windows.spec.horizon,
        arch_id=arch_id(model, **sizes),
        n_params=count_params(model, **sizes).total,
        model=model,
        training=TrainingConfig(effective_batch_size=64, **training),
        batch=split_batch(64, effective_batch_size=64),
        seed=1,
        provenance=Provenance(data_hash=windows.spec.data_hash),
    )


def _finished(
    spec: RunSpec, windows: WindowData, folder: Path, bars: pd.DataFrame, prepared: pd.DataFrame
) -> FinishedRun:
    from finscale.training.evaluate import evaluate_run
    from finscale.training.loop import train

    cpu = ExecutionConfig(device="cpu")
    result = train(spec, windows, directory=folder, execution=cpu)
    save_inputs(folder, view_windows(windows, spec.view), bar_facts(prepared))
    recorded = evaluate_run(folder, windows, execution=cpu).losses
    return FinishedRun(folder, bars, prepared, windows, spec, result, recorded)
