"""A quantile model says no more than its data do, and one that cannot learn is found out."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.models.config import PatchTSTConfig
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.evaluate import evaluate_run
from finscale.training.heads import head_for
from finscale.training.result import TrainingResult
from finscale.training.run_spec import Provenance, RunSpec, plan_run
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig

Trains = Callable[..., TrainingResult]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@pytest.fixture
def noise(make_data: Callable[..., WindowData]) -> WindowData:
    """Windows whose targets are normal and have nothing to do with what is shown."""
    made = make_data(1500)
    names = {"task": "quantile", "horizons": (1, 2), "quantile_levels": LEVELS}
    targets = np.random.default_rng(1).standard_normal((1500, 2)) * np.array([1.0, 1.4])
    spec = made.spec.model_copy(update=names)
    return dataclasses.replace(made, targets=targets.astype(np.float32), spec=spec)


def spec_of(data: WindowData, **training: Any) -> RunSpec:
    chosen = {"learning_rate": 2e-3, "epochs": 3, "weight_decay": 1e-2, "warmup_steps": 5}
    sizes = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16, "patch_length": 4, "stride": 2}
    length = data.spec.context_length
    block = DataConfig(task="quantile", context_length=length, horizons=(1, 2), quantile_levels=LEVELS)
    return plan_run(
        PatchTSTConfig(**sizes, dropout=0.1, head=head_for(data.spec)),
        TrainingConfig(effective_batch_size=64, **{**chosen, **training}),
        experiment=ExperimentConfig(name="tiny", title="Synthetic windows", data=block),
        cell=Cell.parse("5K", 1),
        n_features=data.n_features,
        batch=split_batch(64, effective_batch_size=64),
        seed=1,
        provenance=Provenance(data_hash=data.spec.data_hash),
    )


def test_on_noise_a_trained_model_is_climatology(
    noise: WindowData, train_tiny: Trains, tmp_path: Path
) -> None:
    result = train_tiny(spec_of(noise), noise)
    assert result.flags in ((), ("constant",))
    assert result.width_shares == pytest.approx((1, 1), abs=0.15)
    assert result.coverages == pytest.approx((0.9, 0.9), abs=0.05)
    scores = evaluate_run(tmp_path / "run", noise, execution=ExecutionConfig(device="cpu")).scores["test"]
    assert scores["pinball_loss"] == pytest.approx(scores["base_rate_loss"], rel=0.03)


@pytest.mark.parametrize("scale", [0.002, 50.0])
def test_a_head_that_starts_in_units_of_its_own_and_cannot_learn_has_collapsed(
    noise: WindowData, train_tiny: Trains, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    data = dataclasses.replace(noise, targets=noise.targets * np.float32(scale))
    spec = spec_of(data, learning_rate=1e-9, epochs=1)
    assert train_tiny(spec, data, name="begun").flags == ("constant",)
    monkeypatch.setattr("finscale.training.stepper.start_at_climatology", lambda model, data: None)
    result = train_tiny(spec, data, name="raw")
    assert result.flags == ("collapsed",)
    assert result.executed.first_quantiles is None


def test_a_run_whose_later_rows_are_ten_times_as_wild_is_flagged_there(
    noise: WindowData, train_tiny: Trains, tmp_path: Path
) -> None:
    targets = noise.targets.copy()
    targets[noise.origins["test"]] *= 10
    data = dataclasses.replace(noise, targets=targets)
    train_tiny(spec_of(data), data)
    flags = evaluate_run(tmp_path / "run", data, execution=ExecutionConfig(device="cpu")).flags
    assert "collapsed" in flags["test"]
    assert "collapsed" not in flags["val_score"]
