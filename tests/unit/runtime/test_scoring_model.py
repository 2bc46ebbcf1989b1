"""The winner of a cell as a tracked model: bars in, what `finscale.predict` says out."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

import finscale
from finscale.runtime.listeners import log_winner
from finscale.training.winner import SeedRun


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture
def tracking(store: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A store of its own, with a run under way; yields the run's id."""
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    name = request.node.name
    experiment = mlflow.create_experiment(name, artifact_location=f"file://{store}/{name}")
    with mlflow.start_run(experiment_id=experiment) as run:
        yield run.info.run_id
    mlflow.set_tracking_uri(before)


def loaded(run_id: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mlflow.pyfunc.load_model(f"runs:/{run_id}/winner")


def seed_run(run: Any, *, loss: float, fold: int = 0, evaluated: bool = True) -> SeedRun:
    spec = run.spec.model_copy(update={"fold": fold})
    result = run.result.model_copy(update={"best_val_loss": loss})
    return SeedRun(spec, result, object() if evaluated else None)  # type: ignore[arg-type]


def test_of_the_last_fold_the_best_seed_that_ended_well_is_the_model(
    tracking: str, daily_run: Any, finish_run: Callable[..., Any], store: Path
) -> None:
    bars, good = daily_run.bars, finish_run(daily_run.bars, horizon=2)
    runs = [
        seed_run(daily_run, loss=0.1),
        seed_run(daily_run, loss=0.7, fold=1),
        seed_run(good, loss=0.6, fold=1),
        seed_run(daily_run, loss=0.2, fold=1, evaluated=False),
    ]
    folders = [daily_run.folder, daily_run.folder, good.folder, daily_run.folder]
    log_winner(runs, folders, daily_run.prepared)
    model = loaded(tracking)
    said = model.predict(bars.reset_index())
    pd.testing.assert_frame_equal(said, finscale.predict(good.folder, bars), check_exact=True)
    assert (said["probability"] != finscale.predict(daily_run.folder, bars)["probability"]).any()
    signature = model.metadata.signature
    assert signature.inputs.required_input_names() == ["session", "open", "high", "low", "close"]
    assert signature.outputs.input_names() == ["date", "at", "instrument", "probability"]
    stored = {path.name for path in store.rglob("*") if path.is_file()}
    assert {"best.safetensors", "inputs.json", "scoring_model.py"} <= stored
    assert not [name for name in stored if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]


def test_bars_that_the_signature_does_not_know_are_refused(tracking: str, daily_run: Any) -> None:
    log_winner([seed_run(daily_run, loss=0.1)], [daily_run.folder], daily_run.prepared)
    with pytest.raises(mlflow.MlflowException, match="missing inputs"):
        loaded(tracking).predict(daily_run.bars.reset_index().drop(columns="high"))


def test_instants_of_a_panel_and_its_instruments_are_columns(
    tracking: str, finish_run: Callable[..., Any]
) -> None:
    days = pd.bdate_range("2015-01-05", periods=100).repeat(8)
    opened_at = days + pd.Timedelta("14h30min") + pd.to_timedelta(np.tile(np.arange(8), 100), unit="h")
    close = 100 * np.exp(np.random.default_rng(3).normal(0, 0.004, 800).cumsum())
    prices = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close, "volume": 7}
    one = pd.DataFrame(prices, index=opened_at.tz_localize("UTC").rename("opened_at"))
    bars = pd.concat({"A": one, "B": one.iloc[::-1].set_axis(one.index)}, names=["instrument"])
    bars.attrs["sessions"] = {"bars_per_session": 8, "opens_at": "14:30", "timezone": "UTC"}
    run = finish_run(bars, timescale="intraday")
    log_winner([seed_run(run, loss=0.1)], [run.folder], run.prepared)
    model = loaded(tracking)
    table = bars.reset_index()
    table["opened_at"] = table["opened_at"].dt.tz_localize(None)
    said = model.predict(table)
    pd.testing.assert_frame_equal(said, finscale.predict(run.folder, bars), check_exact=True)
    assert set(model.predict(table.drop(columns="volume"))["instrument"]) == {"A", "B"}


def test_nothing_is_tracked_where_no_training_ended_well(tracking: str, daily_run: Any) -> None:
    log_winner([seed_run(daily_run, loss=0.1, evaluated=False)], [daily_run.folder], daily_run.prepared)
    assert mlflow.get_run(tracking).outputs is None or not mlflow.get_run(tracking).outputs.model_outputs
