"""Short contexts: the mask of the windows reaches the model, in training and when it is scored.

A transformer without positions, or with relative ones, must then say of a context padded at its beginning
exactly what it says of the bars alone.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.models.config import TransformerConfig
from finscale.models.contract import Batch
from finscale.training.config import TrainingConfig
from finscale.training.evaluate import load_best, observe_split
from finscale.training.gradients import accumulate_gradients
from finscale.training.run_spec import Provenance, RunSpec, plan_run
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig

CONTEXT, SHORTEST, SESSION = 8, 3, 10
CPU = torch.device("cpu")


@pytest.fixture
def sessions(make_data: Callable[..., WindowData]) -> WindowData:
    """Sessions of ten bars; a context ends with its session, so that most are shorter than eight bars."""
    data = make_data(n=600, signal=3.0)
    starts = np.arange(600) // SESSION * SESSION
    long_enough = np.flatnonzero(np.arange(600) - starts + 1 >= SHORTEST)
    splits = np.split(long_enough, [int(share * len(long_enough)) for share in (0.6, 0.75, 0.85)])
    reach = {"context_reach": "session", "min_context_length": SHORTEST, "timescale": "intraday"}
    return replace(
        data,
        context_starts=starts,
        origins=dict(zip(data.origins, splits, strict=True)),
        spec=data.spec.model_copy(update=reach),
    )


def spec_of(data: WindowData, *, causal: bool) -> RunSpec:
    reach = {"context_reach": "session", "min_context_length": SHORTEST, "timescale": "intraday"}
    asked = DataConfig(task="direction", context_length=CONTEXT, **reach)
    numbers: dict[str, Any] = {"learning_rate": 1e-2, "epochs": 3, "weight_decay": 0.0, "warmup_steps": 2}
    return plan_run(
        TransformerConfig(d_model=8, n_layers=2, n_heads=2, d_ff=16, conv_taps=0, causal=causal, dropout=0.0),
        TrainingConfig(**numbers, effective_batch_size=32),
        experiment=ExperimentConfig(name="tiny", title="t", model_family="transformer", data=asked),
        cell=Cell.parse("5K", 1),
        n_features=data.n_features,
        batch=split_batch(32, effective_batch_size=32),
        seed=1,
        provenance=Provenance(data_hash=data.spec.data_hash),
    )


class Unpadded:
    """The same windows one at a time, each as long as it is."""

    def __init__(self, data: WindowData) -> None:
        self.data, self.windows = data, DeviceWindows(data, CPU)

    def gather(self, origins: Tensor) -> Batch:
        (origin,) = origins.tolist()
        first = max(self.data.context_starts[origin], origin - CONTEXT + 1)
        return Batch(values=torch.from_numpy(self.data.values[first : origin + 1])[None])

    def targets(self, origins: Tensor) -> Tensor:
        return self.windows.targets(origins)


@pytest.mark.parametrize("causal", [True, False])
def test_what_is_scored_is_the_models_answer_to_the_bars_alone(
    sessions: WindowData, train_tiny: Callable[..., Any], tmp_path: Path, causal: bool
) -> None:
    result = train_tiny(spec_of(sessions, causal=causal), sessions)
    assert result.outcome == "complete"
    _, model = load_best(tmp_path / "run", sessions, device=CPU)
    padded = observe_split(model, sessions, "test", device=CPU).columns["probability"]
    alone = Unpadded(sessions)
    model.eval()
    with torch.no_grad():
        logits = [
            model(alone.gather(torch.tensor([origin]))).prediction["logits"]
            for origin in sessions.origins["test"]
        ]
    assert (sessions.origins["test"] % SESSION < CONTEXT - 1).mean() > 0.5
    np.testing.assert_allclose(padded, torch.cat(logits).sigmoid().flatten().double(), atol=1e-6)
    assert result.best_val_loss < result.base_rate_loss - 0.1


def test_the_gradient_of_padded_windows_is_that_of_their_bars_alone(sessions: WindowData) -> None:
    from finscale.training.evaluate import build_run_model

    model = build_run_model(spec_of(sessions, causal=True), sessions, CPU)
    origins = torch.from_numpy(sessions.origins["train"][:40])
    padded = gradient(model, DeviceWindows(sessions, CPU), origins, micro_batch_size=40)
    alone = gradient(model, Unpadded(sessions), origins, micro_batch_size=1)
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=1e-4)
    assert padded.abs().max() > 1e-3


def gradient(model: nn.Module, windows: Any, origins: Tensor, *, micro_batch_size: int) -> Tensor:
    model.zero_grad()
    loss = functools.partial(functional.binary_cross_entropy_with_logits, reduction="sum")
    accumulate_gradients(model, windows, origins, kind="binary", loss=loss, micro_batch_size=micro_batch_size)
    return torch.cat([weights.grad.flatten() for weights in model.parameters() if weights.grad is not None])
