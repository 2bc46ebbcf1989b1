"""Before its first step a quantile head says the training quantiles, of any window, in every family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.models.config import (
    DLinearConfig,
    MigtTvdtConfig,
    PatchTSTConfig,
    TransformerConfig,
    reads_calendar,
)
from finscale.models.contract import Batch
from finscale.models.head_config import QuantileHead
from finscale.models.layers.heads import as_prediction, numbers_of_quantiles
from finscale.models.registry import build_model
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.evaluate import load_best
from finscale.training.first_quantiles import start_at_climatology
from finscale.training.heads import head_for
from finscale.training.result import TrainingResult
from finscale.training.run_spec import Provenance, RunSpec, plan_run
from finscale.training.stepper import Stepper
from finscale.windows.data import SPLITS, WindowData, WindowSpec
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.standardize import Standardizer

CONTEXT, N_FEATURES = 8, 3
HORIZONS, LEVELS = (1, 4), (0.05, 0.25, 0.5, 0.75, 0.95)
CPU = torch.device("cpu")
SIZES = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16}
FAMILIES: dict[str, Callable[[QuantileHead], Any]] = {
    "patchtst": lambda head: PatchTSTConfig(**SIZES, patch_length=4, stride=2, head=head),
    "patchtst, channels apart": lambda head: PatchTSTConfig(
        **SIZES, patch_length=4, stride=2, channels="independent", pooling="flatten", head=head
    ),
    "transformer": lambda head: TransformerConfig(**SIZES, conv_taps=0, head=head),
    "migt_tvdt": lambda head: MigtTvdtConfig(**SIZES, session_bars=1, head=head),
    "dlinear": lambda head: DLinearConfig(average_bars=3, head=head),
}


def make_data(*, scale: float = 1.0, shift: float = 0.3, seed: int = 0) -> WindowData:
    """Skewed targets, wider at the second horizon, on noise that says nothing; later rows are others."""
    random, n = np.random.default_rng(seed), 400
    rows = np.arange(CONTEXT - 1, n - max(HORIZONS))
    origins = dict(zip(SPLITS, np.split(rows, [200, 260, 320]), strict=True))
    targets = scale * (shift + random.gumbel(size=(n, 2)) * np.array([1.0, 3.0]))
    targets[origins["val_select"][0] :] *= 5
    return WindowData(
        values=random.standard_normal((n, N_FEATURES)).astype(np.float32),
        targets=targets.astype(np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(n) * np.timedelta64(1, "D"),
        origins=origins,
        spec=WindowSpec(
            experiment="tiny",
            task="quantile",
            touch="high",
            horizon=4,
            context_length=CONTEXT,
            features=("a", "b", "c"),
            data_hash="synthetic",
            title="Synthetic windows",
            horizons=HORIZONS,
            quantile_levels=LEVELS,
        ),
        standardizer=Standardizer(mean=np.zeros(N_FEATURES), std=np.ones(N_FEATURES)),
    )


def run_spec(data: WindowData, family: str = "patchtst", **training: Any) -> RunSpec:
    chosen = {"learning_rate": 1e-2, "epochs": 2, "weight_decay": 0.0, "warmup_steps": 1}
    return plan_run(
        FAMILIES[family](head_for(data.spec)),
        TrainingConfig(effective_batch_size=64, **{**chosen, **training}),
        experiment=ExperimentConfig(
            name="tiny",
            title="Synthetic windows",
            data=DataConfig(
                task="quantile", context_length=CONTEXT, horizons=HORIZONS, quantile_levels=LEVELS
            ),
        ),
        cell=Cell.parse("5K", 4),
        n_features=N_FEATURES,
        batch=split_batch(64, effective_batch_size=64),
        seed=3,
        provenance=Provenance(data_hash="synthetic"),
    )


def said(model: torch.nn.Module, values: Tensor) -> Tensor:
    calendar = torch.ones(*values.shape[:2], 4, dtype=torch.int64)
    with torch.no_grad():
        batch = Batch(values=values, calendar=calendar if reads_calendar(model.config) else None)
        return model.eval()(batch).prediction["quantiles"].double()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0])
def test_the_first_quantiles_are_those_of_training_whatever_the_window_holds(
    family: str, scale: float
) -> None:
    data = make_data(scale=scale)
    model = build_model(FAMILIES[family](head_for(data.spec)), n_features=3, context_length=CONTEXT, seed=0)
    recorded = start_at_climatology(model, data)
    expected = np.quantile(data.targets_at("train").astype(np.float64), LEVELS, axis=0).T
    assert recorded == tuple(map(tuple, expected.tolist()))
    random = torch.Generator().manual_seed(0)
    for size in (0.0, 1.0, 1e3):
        found = said(model, size * torch.randn(4, CONTEXT, N_FEATURES, generator=random)).numpy()
        tolerance = 0.05 * (expected[:, -1:] - expected[:, :1])
        assert (np.abs(found - expected) <= tolerance).all()
        assert np.abs(found - expected).max() < 1e-4 * scale * 20


@pytest.mark.parametrize("family", FAMILIES)
def test_from_the_second_step_on_every_weight_learns(family: str) -> None:
    data = make_data()
    stepper = Stepper(run_spec(data, family), data, execution=ExecutionConfig(device="cpu"), device=CPU)
    before = {name: p.detach().clone() for name, p in stepper.model.named_parameters()}
    for _ in range(3):
        stepper.update(torch.from_numpy(data.origins["train"]))
    still = [name for name, p in stepper.model.named_parameters() if torch.equal(p, before[name])]
    assert still == []
    assert stepper.executed().first_quantiles == stepper.first_quantiles is not None


def test_later_rows_and_the_seed_do_not_change_how_a_run_starts() -> None:
    first = start_at_climatology(_model(0), make_data())
    other = make_data()
    other.targets[other.origins["val_select"][0] :] = 7.0
    assert start_at_climatology(_model(1), other) == first
    assert start_at_climatology(_model(0), make_data(scale=2.0)) != first


def _model(seed: int) -> torch.nn.Module:
    config = FAMILIES["patchtst"](QuantileHead(horizons=HORIZONS, levels=LEVELS))
    return build_model(config, n_features=3, context_length=CONTEXT, seed=seed)


def test_a_resumed_and_a_loaded_run_keep_what_was_learned(
    train_tiny: Callable[..., TrainingResult], tmp_path: Path
) -> None:
    data = make_data()
    whole = train_tiny(run_spec(data), data, name="whole")
    polls = iter(range(10**9))
    part = train_tiny(run_spec(data), data, name="part", should_stop=lambda: next(polls) >= 5)
    resumed = train_tiny(run_spec(data), data, name="part")
    assert (part.outcome, resumed.outcome) == ("stopped", "complete")
    assert resumed.best_val_loss == whole.best_val_loss
    assert resumed.executed.first_quantiles == whole.executed.first_quantiles
    _, loaded = load_best(tmp_path / "part", data, device=CPU)
    values = torch.zeros(1, CONTEXT, N_FEATURES)
    assert not np.allclose(said(loaded, values)[0], np.array(whole.executed.first_quantiles), atol=1e-3)


@settings(max_examples=100, deadline=None)
@given(
    n_levels=st.integers(1, 8),
    scale=st.sampled_from([1e-4, 1.0, 300.0]),
    seed=st.integers(0, 999),
)
def test_the_numbers_of_quantiles_are_the_inverse_of_the_head(n_levels: int, scale: float, seed: int) -> None:
    levels = tuple((k + 1) / (n_levels + 1) for k in range(n_levels))
    random = np.random.default_rng(seed)
    steps = random.uniform(0.1, 1.0, (2, n_levels)).cumsum(axis=1) - random.uniform(0, 3)
    quantiles = torch.from_numpy(scale * steps)
    numbers = numbers_of_quantiles(quantiles).flatten()[None]
    found = as_prediction(QuantileHead(horizons=(1, 3), levels=levels), numbers)["quantiles"][0]
    torch.testing.assert_close(found, quantiles, rtol=1e-6, atol=1e-6 * scale)


def test_quantiles_that_coincide_start_a_hair_apart() -> None:
    quantiles = torch.tensor([[-1.0, 0.0, 0.0, 0.0, 1.0], [2.0] * 5], dtype=torch.float64)
    head = QuantileHead(horizons=(1, 2), levels=LEVELS)
    found = as_prediction(head, numbers_of_quantiles(quantiles).flatten()[None])["quantiles"][0]
    assert torch.isfinite(found).all()
    assert (found - quantiles).abs().max() < 0.01
