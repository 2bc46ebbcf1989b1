"""Where the right answer is known: a planted signal is found, and where there is none nothing is claimed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from finscale.metrics.classification import log_loss
from finscale.training import evaluate
from finscale.training.config import ExecutionConfig
from finscale.training.evaluate import Evaluation, evaluate_run
from finscale.training.result import TrainingResult
from finscale.training.run_spec import RunSpec
from finscale.training.winner import SeedRun, run_rows
from finscale.windows.data import WindowData

Specs = Callable[..., RunSpec]
Windows = Callable[..., WindowData]
Trains = Callable[..., TrainingResult]
CPU = ExecutionConfig(device="cpu")
WEIGHTS = np.array([1.5, -1.0, 0.5])


def _planted(data: WindowData, *, bias: float) -> tuple[WindowData, NDArray[np.float64]]:
    """Targets with logit = bias + w.x of the last bar, and their true probabilities, row by row."""
    p = 1 / (1 + np.exp(-(bias + data.values @ WEIGHTS)))
    drawn = np.random.default_rng(3).random(len(p)) < p
    return dataclasses.replace(data, targets=drawn.astype(np.float32)), p


def _flags(spec: RunSpec, result: TrainingResult, evaluation: Evaluation) -> set[str]:
    """Every flag of every split, as the record of the run says them."""
    rows = run_rows([SeedRun(spec, result, evaluation)])
    return {flag for flags in rows["flags"] for flag in flags}


def test_a_planted_linear_signal_is_learned_to_within_two_percent_of_the_bayes_loss_on_test_rows(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data, p = _planted(make_data(40_000), bias=0.3)
    spec = make_spec(
        data, dropout=0.0, micro_batch_size=128, effective_batch_size=128, learning_rate=1e-2, epochs=8
    )
    result = train_tiny(spec, data)
    evaluation = evaluate_run(tmp_path / "run", data, execution=CPU)
    rows = data.origins["test"]
    bayes = log_loss(data.targets[rows].astype(np.float64), p[rows])
    scores = evaluation.scores["test"]
    assert scores["log_loss"] < 1.02 * bayes
    assert scores["base_rate_loss"] > 1.2 * bayes
    assert scores["calibration_slope"] == pytest.approx(1.0, abs=0.15)
    assert "suspicious_skill" in _flags(spec, result, evaluation)


@pytest.mark.parametrize("bias", [0.0, 0.5, -2.0])
def test_pure_noise_ends_at_the_base_rate_and_is_flagged_neither_as_skill_nor_as_collapse(
    bias: float, make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data(12_000, bias=bias)
    spec = make_spec(data, epochs=6, weight_decay=0.1, micro_batch_size=128, effective_batch_size=128)
    result = train_tiny(spec, data)
    evaluation = evaluate_run(tmp_path / "run", data, execution=CPU)
    losses = evaluation.losses
    for split in ("val_select", "val_score", "test"):
        rows = losses[losses["split"] == split]
        y, said = rows["target"].to_numpy(), rows["log_loss"].to_numpy()
        b = data.base_rate
        excess = said + y * np.log(b) + (1 - y) * np.log1p(-b)
        error = excess.std() / np.sqrt(len(excess))
        assert abs(excess.mean()) < min(4 * error, 0.012)
    assert not {"suspicious_skill", "collapsed"} & _flags(spec, result, evaluation)


@pytest.mark.parametrize(("off", "flag"), [(0.0, "constant"), (1.0, "collapsed"), (-1.0, "collapsed")])
def test_a_model_stuck_on_one_answer_is_constant_at_the_base_rate_and_collapsed_anywhere_else(
    off: float,
    flag: str,
    make_data: Windows,
    make_spec: Specs,
    train_tiny: Trains,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_data(bias=-1.0)
    real = evaluate.build_run_model

    def stuck(*args: object) -> torch.nn.Module:
        model = real(*args)
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.fill_(np.log(data.base_rate / (1 - data.base_rate)) + off)
        return model

    monkeypatch.setattr("finscale.training.stepper.build_run_model", stuck)
    spec = make_spec(data, learning_rate=1e-9, epochs=1)
    result = train_tiny(spec, data)
    evaluation = evaluate_run(tmp_path / "run", data, execution=CPU)
    assert result.flags == (flag,)
    assert result.spread == pytest.approx(0.0, abs=1e-6)
    assert _flags(spec, result, evaluation) == {flag}
