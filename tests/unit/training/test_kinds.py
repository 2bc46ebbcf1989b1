"""One loop trains every kind of task: planted linear signals are found, written down and scored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.stats import norm

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.metrics.probabilistic import pinball_loss
from finscale.models.config import DLinearConfig, PatchTSTConfig
from finscale.models.contract import Batch
from finscale.models.head_config import ForecastHead, LogitsHead
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.evaluate import evaluate_run, load_best, reference_rows
from finscale.training.heads import head_for
from finscale.training.result import TrainingResult
from finscale.training.run_spec import Provenance, RunSpec, plan_run
from finscale.training.winner import date_loss_rows, run_rows, train_seed
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import SPLITS, WindowData, WindowSpec
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.origins import ORIGIN
from finscale.windows.standardize import Standardizer

Trains = Callable[..., TrainingResult]
Array = NDArray[np.float64]

CPU = ExecutionConfig(device="cpu")
CONTEXT, N_FEATURES, NOISE, MEMORY = 8, 3, 0.5, 0.8
HORIZONS, LEVELS, PLACES = (1, 2), (0.1, 0.5, 0.9), [2, 0]
KINDS = ("regression", "quantile", "forecast")
COLUMNS = {
    "regression": ["prediction", "target", "squared_error"],
    "quantile": ["q10", "q50", "q90", "target", "pinball_loss"],
    "forecast": ["squared_error", "absolute_error"],
}
LOSSES = {"regression": "squared_error", "quantile": "pinball_loss", "forecast": "squared_error"}


def _experiment(task: str) -> ExperimentConfig:
    options: dict[str, Any] = {"task": task, "context_length": CONTEXT}
    if task == "quantile":
        options |= {"horizons": HORIZONS, "quantile_levels": LEVELS}
    if task == "forecast":
        options |= {"target_columns": ("c", "a")}
    return ExperimentConfig(name="tiny", title="Synthetic windows", data=DataConfig(**options))


def _values(random: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Three independent first-order autoregressions of unit variance."""
    shocks = random.standard_normal((n, N_FEATURES)) * np.sqrt(1 - MEMORY**2)
    values = np.zeros((n, N_FEATURES))
    for row in range(1, n):
        values[row] = MEMORY * values[row - 1] + shocks[row]
    return values.astype(np.float32)


def _targets(task: str, values: NDArray[np.float32], noise: Array) -> Array:
    """Half the last value of the first column, more noise at the second horizon; none to forecast."""
    signal = 0.5 * values[:, :1] + NOISE * noise * np.array(HORIZONS)
    return {"regression": signal[:, 0], "quantile": signal, "forecast": signal[:, :0]}[task]


def _data(task: str, *, n: int = 3000, empty: str = "") -> WindowData:
    random, options = np.random.default_rng(0), _experiment(task).data
    values = _values(random, n)
    rows = np.arange(CONTEXT - 1, n - max(HORIZONS))
    cuts = [int(share * len(rows)) for share in (0.6, 0.75, 0.85)]
    origins = dict(zip(SPLITS, np.split(rows, cuts), strict=True))
    return WindowData(
        values=values,
        targets=_targets(task, values, random.standard_normal((n, len(HORIZONS)))).astype(np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(n) * np.timedelta64(1, "D"),
        origins={split: rows[:0] if split == empty else rows for split, rows in origins.items()},
        spec=WindowSpec(
            experiment="tiny",
            task=task,
            touch="high",
            horizon=2,
            context_length=CONTEXT,
            features=("a", "b", "c"),
            data_hash=f"synthetic-{task}",
            title="Synthetic windows",
            horizons=options.horizons or (2,),
            quantile_levels=LEVELS if task == "quantile" else (),
            target_columns=("c", "a") if task == "forecast" else (),
        ),
        standardizer=Standardizer(mean=np.zeros(N_FEATURES), std=np.ones(N_FEATURES)),
    )


def _spec(data: WindowData, model: Any = None, **training: Any) -> RunSpec:
    chosen = {"learning_rate": 0.02, "epochs": 12, "weight_decay": 0.0, "warmup_steps": 5, "patience": 50}
    config = TrainingConfig(**{**chosen, "effective_batch_size": 64, **training})
    return plan_run(
        model or DLinearConfig(average_bars=3, head=head_for(data.spec)),
        config,
        experiment=_experiment(data.spec.task),
        cell=Cell.parse("5K", data.spec.horizon),
        n_features=data.n_features,
        batch=split_batch(40, effective_batch_size=config.effective_batch_size),
        seed=1,
        provenance=Provenance(data_hash=data.spec.data_hash),
    )


def _batch_norm_patchtst(data: WindowData) -> PatchTSTConfig:
    """Running statistics, dropout, moments of the window: what a resume could lose."""
    return PatchTSTConfig(
        d_model=8,
        n_layers=1,
        n_heads=2,
        d_ff=16,
        patch_length=4,
        stride=2,
        dropout=0.3,
        pad_end=True,
        channels="independent",
        instance_norm="revin",
        norm="batch_norm",
        norm_first=False,
        pooling="flatten",
        head=head_for(data.spec),
    )


def _ahead(data: WindowData, split: str) -> Array:
    """The next two rows (n, 2, 2) of the target columns."""
    return data.values[data.origins[split][:, None] + [1, 2]][..., PLACES].astype(np.float64)


def _best_possible(data: WindowData, split: str) -> float:
    """The loss, on these very rows, of the conditional distribution that the windows were drawn from."""
    last = data.values[data.origins[split]].astype(np.float64)
    if data.spec.task == "forecast":
        decays = MEMORY ** np.arange(1, 3)[:, None]
        return float(np.square(_ahead(data, split) - last[:, None, PLACES] * decays).mean())
    y, signal = data.targets_at(split).astype(np.float64), 0.5 * last[:, 0]
    if data.spec.task == "regression":
        return float(np.square(y - signal).mean())
    return float(
        np.mean(
            [
                pinball_loss(y[:, at], signal[:, None] + NOISE * horizon * norm.ppf(LEVELS), LEVELS)
                for at, horizon in enumerate(HORIZONS)
            ]
        )
    )


@pytest.mark.parametrize("task", KINDS)
def test_a_planted_linear_signal_is_learned_to_within_a_few_percent_of_the_best_possible(
    task: str, train_tiny: Trains
) -> None:
    data = _data(task)
    result = train_tiny(_spec(data), data)
    best = _best_possible(data, "val_select")
    assert 0.97 * best < result.best_val_loss < 1.05 * best
    assert result.best_val_loss < 0.9 * result.base_rate_loss
    assert result.curve[0].train_loss > result.curve[-1].train_loss
    # half the variance of a return is more than is believable of its median
    flags = {"quantile": ("suspicious_skill",)}.get(task, ())
    assert (result.outcome, result.flags) == ("complete", flags)


@pytest.mark.parametrize("task", KINDS)
def test_only_probabilities_have_a_spread_and_a_calibration_slope(task: str, train_tiny: Trains) -> None:
    data = _data(task, n=300)
    result = train_tiny(_spec(data, epochs=1), data)
    assert (result.spread, result.calibration_slope, result.curve[0].spread) == (None, None, None)


def test_the_reference_of_a_kind_is_the_climatology_of_training(train_tiny: Trains) -> None:
    found = {}
    for task in KINDS:
        data = _data(task)
        windows = DeviceWindows(data, "cpu")
        found[task] = reference_rows(data, "test", windows=windows, device=torch.device("cpu")).value
        assert found[task] == pytest.approx(_climatology_loss(data), rel=1e-6)
    result = train_tiny(_spec(data, epochs=1), data)
    on_select = reference_rows(data, "val_select", windows=windows, device=torch.device("cpu"))
    assert result.base_rate_loss == on_select.value != found["forecast"]


def _climatology_loss(data: WindowData) -> float:
    past, y = data.targets_at("train").astype(np.float64), data.targets_at("test").astype(np.float64)
    if data.spec.task == "forecast":
        mean = data.values[data.origins["train"]][:, PLACES].mean(axis=0, dtype=np.float64)
        return float(np.square(_ahead(data, "test") - mean).mean())
    if data.spec.task == "regression":
        return float(np.square(y - past.mean()).mean())
    columns = zip(past.T, y.T, strict=True)
    return float(
        np.mean([pinball_loss(b, np.tile(np.quantile(a, LEVELS), (len(b), 1)), LEVELS) for a, b in columns])
    )


@pytest.mark.parametrize("task", KINDS)
def test_evaluation_writes_the_columns_of_its_kind_and_their_means_are_the_scores(
    task: str, train_tiny: Trains, tmp_path: Path
) -> None:
    data = _data(task, n=700)
    result = train_tiny(_spec(data, epochs=2), data)
    evaluation = evaluate_run(tmp_path / "run", data, execution=CPU)
    losses, name = evaluation.losses, LOSSES[task]
    assert list(losses.columns) == [*ORIGIN, "split", *COLUMNS[task]]
    assert (losses.query("split == 'test'")["at"].to_numpy() == data.dates_at("test")).all()
    for split, scores in evaluation.scores.items():
        assert losses[losses["split"] == split][name].mean() == pytest.approx(scores[name], rel=1e-12)
        assert "spread" not in scores
    if task != "quantile":
        assert evaluation.scores["val_select"][name] == result.best_val_loss
        assert evaluation.scores["val_select"]["base_rate_loss"] == result.base_rate_loss


def test_quantiles_are_compared_at_the_scored_horizon_and_trained_on_all(
    train_tiny: Trains, tmp_path: Path
) -> None:
    data = _data("quantile", n=700)
    result = train_tiny(_spec(data, epochs=2), data)
    evaluation = evaluate_run(tmp_path / "run", data, execution=CPU)
    rows = evaluation.losses.query("split == 'val_select'")
    y = data.targets_at("val_select").astype(np.float64)
    assert rows["target"].to_numpy() == pytest.approx(y[:, HORIZONS.index(2)])
    assert rows["pinball_loss"].mean() > 1.2 * result.best_val_loss
    _, model = load_best(tmp_path / "run", data, device=torch.device("cpu"))
    with torch.no_grad():
        q = model.eval()(DeviceWindows(data, "cpu").gather(torch.from_numpy(data.origins["val_select"])))
    said = q.prediction["quantiles"].double().numpy()
    both = [pinball_loss(y[:, at], said[:, at], LEVELS) for at in range(2)]
    assert result.best_val_loss == pytest.approx(np.mean(both), rel=1e-6)
    assert rows["pinball_loss"].mean() == pytest.approx(both[1], rel=1e-6)


def test_a_forecast_is_scored_against_the_next_rows_in_any_chunking(
    train_tiny: Trains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _data("forecast", n=400)
    train_tiny(_spec(data, epochs=2), data)
    _, model = load_best(tmp_path / "run", data, device=torch.device("cpu"))
    contexts = np.stack([data.values[o - CONTEXT + 1 : o + 1] for o in data.origins["test"]])
    with torch.no_grad():
        said = model.eval()(Batch(values=torch.from_numpy(contexts))).prediction["forecast"]
    errors = said.double().numpy() - _ahead(data, "test")
    for chunk in (512, 7):
        monkeypatch.setattr("finscale.training.evaluate._CHUNK", chunk)
        scores = evaluate_run(tmp_path / "run", data, execution=CPU).scores["test"]
        assert scores["squared_error"] == pytest.approx(np.square(errors).mean(), rel=1e-5)
        assert scores["absolute_error"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)


@pytest.mark.parametrize("stops", [(1, 3), (5, 6)])
def test_a_resumed_forecast_equals_the_uninterrupted_one_bit_for_bit(
    stops: tuple[int, ...], train_tiny: Trains, tmp_path: Path
) -> None:
    data = _data("forecast", n=400)
    spec = _spec(data, _batch_norm_patchtst(data), epochs=4, optimizer="adam", clip_norm=None)
    whole = train_tiny(spec, data, name="whole")
    for n_steps in stops:
        polls = iter(range(10**9))
        part = train_tiny(
            spec, data, name="parts", should_stop=lambda polls=polls, n=n_steps: next(polls) >= n
        )
        assert part.outcome == "stopped"
    resumed = train_tiny(spec, data, name="parts")
    assert [e.val_loss for e in resumed.curve] == [e.val_loss for e in whole.curve]
    first, second = (load_file(tmp_path / name / "best.safetensors") for name in ("whole", "parts"))
    assert first.keys() == second.keys()
    assert any("running_mean" in name for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("task", KINDS)
def test_rows_hold_the_loss_of_their_kind_beside_its_reference(task: str, tmp_path: Path) -> None:
    data = _data(task, n=700, empty="val_score")
    run = train_seed(
        _spec(data, epochs=3), data, directory=tmp_path, execution=CPU, should_stop=lambda: False
    )
    assert run.evaluation is not None
    assert list(run.evaluation.scores) == list(run.evaluation.flags) == ["val_select", "test"]
    rows, name = run_rows([run]).set_index("split"), LOSSES[task]
    assert rows.loc["val_score", [name, "base_rate_loss", "excess_loss"]].isna().all()
    scores = run.evaluation.scores["test"]
    assert rows.loc["test", name] == scores[name]
    assert rows.loc["test", "excess_loss"] == pytest.approx(scores["base_rate_loss"] - scores[name])
    assert "log_loss" not in rows
    assert date_loss_rows([run]).groupby("split")[name].mean()["test"] == pytest.approx(scores[name])


@pytest.mark.parametrize("task", KINDS)
def test_a_run_that_leaves_the_finite_numbers_has_diverged(task: str, train_tiny: Trains) -> None:
    data = _data(task, n=300)
    result = train_tiny(_spec(data, learning_rate=3e38, warmup_steps=0, clip_norm=None), data)
    assert (result.outcome, result.best_val_loss) == ("diverged", None)


def test_a_model_with_the_head_of_another_task_is_refused_before_it_is_built(train_tiny: Trains) -> None:
    data = _data("forecast", n=300)
    for head in (
        LogitsHead(),
        ForecastHead(horizon=3, n_channels=2, columns=(2, 0)),
        ForecastHead(horizon=2, n_channels=2, columns=(0, 2)),
    ):
        spec = _spec(data, DLinearConfig(average_bars=3, head=head))
        with pytest.raises(FinscaleError, match=r"model\.head must be that of the windows \(kind='forecast'"):
            train_tiny(spec, data)
