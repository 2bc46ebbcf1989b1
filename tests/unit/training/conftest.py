"""Small windows and specifications that train in a fraction of a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finscale.archgrid.batching import split_batch
from finscale.models.config import PatchTSTConfig
from finscale.models.counting import arch_id, count_params
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.events import Event, ignore
from finscale.training.loop import never, train
from finscale.training.result import TrainingResult
from finscale.training.run_spec import Provenance, RunSpec
from finscale.windows.data import WindowData, WindowSpec
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.standardize import Standardizer

N_FEATURES, CONTEXT = 3, 8


@pytest.fixture
def make_data() -> Callable[..., WindowData]:
    """Windows whose target is Bernoulli(sigmoid(bias + signal * last value of feature 0))."""
    return _make_data


@pytest.fixture
def make_spec() -> Callable[..., RunSpec]:
    """The specification of a tiny PatchTST on given windows; keywords go to model and training."""
    return _make_spec


@pytest.fixture
def train_tiny(tmp_path: Path) -> Callable[..., TrainingResult]:
    """Train on the CPU in a folder of ``tmp_path``."""

    def run(
        spec: RunSpec,
        data: WindowData,
        *,
        name: str = "run",
        on_event: Callable[[Event], None] = ignore,
        should_stop: Callable[[], bool] = never,
        **execution: Any,
    ) -> TrainingResult:
        settings = ExecutionConfig(**{"device": "cpu", "checkpoint_every_s": 0.0, **execution})
        folder = tmp_path / name
        return train(
            spec, data, directory=folder, execution=settings, on_event=on_event, should_stop=should_stop
        )

    return run


def _make_data(
    n: int = 300, *, seed: int = 0, signal: float = 0.0, bias: float = 0.0, task: str = "direction"
) -> WindowData:
    random = np.random.default_rng(seed)
    values = random.standard_normal((n, N_FEATURES)).astype(np.float32)
    p = 1 / (1 + np.exp(-(bias + signal * values[:, 0])))
    rows = np.arange(CONTEXT - 1, n)
    cuts = [int(share * len(rows)) for share in (0.6, 0.75, 0.85)]
    splits = np.split(rows, cuts)
    return WindowData(
        values=values,
        targets=(random.random(n) < p).astype(np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(n) * np.timedelta64(1, "D"),
        origins=dict(zip(("train", "val_select", "val_score", "test"), splits, strict=True)),
        spec=WindowSpec(
            experiment="tiny",
            task=task,
            touch="high",
            horizon=1,
            context_length=CONTEXT,
            features=("a", "b", "c"),
            data_hash=f"synthetic-{n}-{seed}-{signal}-{bias}",
            title="Synthetic windows",
        ),
        standardizer=Standardizer(mean=np.zeros(N_FEATURES), std=np.ones(N_FEATURES)),
    )


def _make_spec(
    data: WindowData,
    *,
    dropout: float = 0.1,
    d_model: int = 8,
    n_layers: int = 1,
    pooling: str = "mean",
    micro_batch_size: int = 32,
    seed: int = 1,
    exact: bool = False,
    **training: Any,
) -> RunSpec:
    chosen = {"learning_rate": 3e-3, "epochs": 3, "weight_decay": 1e-2, "warmup_steps": 4, "patience": 50}
    config = TrainingConfig(**{**chosen, "effective_batch_size": 32, **training})
    model = PatchTSTConfig(
        d_model=d_model,
        n_layers=n_layers,
        n_heads=2,
        d_ff=16,
        patch_length=4,
        stride=2,
        dropout=dropout,
        pooling=pooling,
    )
    sizes = {"n_features": data.n_features, "context_length": data.spec.context_length}
    return RunSpec(
        experiment=ExperimentConfig(
            name="tiny",
            title="Synthetic windows",
            data=DataConfig(task=data.spec.task, context_length=data.spec.context_length),
        ),
        budget="5K",
        horizon=data.spec.horizon,
        arch_id=arch_id(model, **sizes),
        n_params=count_params(model, **sizes).total,
        model=model,
        training=config,
        batch=split_batch(micro_batch_size, effective_batch_size=config.effective_batch_size),
        seed=seed,
        exact=exact,
        provenance=Provenance(data_hash=data.spec.data_hash),
    )
