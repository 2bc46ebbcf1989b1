"""A calibrated run says so everywhere: on its record and in its tables, predictions and exports."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import finscale
from finscale.core.errors import Fault, FinscaleError
from finscale.metrics.probabilistic import coverage
from finscale.metrics.tables import quantile_matrix
from finscale.prediction import run_files
from finscale.training.calibrated import Calibrated
from finscale.training.calibration import CALIBRATION, Calibration, load_calibration, should_calibrate
from finscale.training.config import ExecutionConfig
from finscale.training.evaluate import evaluate_run
from finscale.training.export import export_run
from finscale.training.export_config import ExportSettings
from finscale.training.quantile_tables import FORECASTS, quantile_rows, quantile_scores
from finscale.training.winner import SeedRun, calibrate_seed, run_rows
from finscale.windows.batches import DeviceWindows
from finscale.windows.plain_baselines import scaled_climatologies
from finscale.windows.regimes import REGIMES, volatility_regimes

CPU = ExecutionConfig(device="cpu")
HORIZONS, LEVELS = (1, 3), (0.05, 0.25, 0.5, 0.75, 0.95)
NAMES = ["q05", "q25", "q50", "q75", "q95"]


@pytest.fixture(autouse=True)
def _shapes_unchecked() -> Iterator[None]:
    """A check of shapes would turn a batch that is traced into a constant."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def run(finish_run: Callable[..., Any], daily_bars: pd.DataFrame) -> Any:
    options = {"task": "quantile", "horizons": HORIZONS, "quantile_levels": LEVELS}
    return finish_run(daily_bars, horizon=3, allow_few_positives=False, **options)


@pytest.fixture(scope="module")
def calibrated(run: Any) -> SeedRun:
    found = SeedRun(run.spec, run.result, evaluate_run(run.folder, run.data, execution=CPU))
    return calibrate_seed(found, run.data, directory=run.folder, conformal=True)


@pytest.fixture(scope="module")
def rows(run: Any, calibrated: SeedRun) -> pd.DataFrame:
    return quantile_rows([calibrated], [run.data])


def of(rows: pd.DataFrame, forecast: str, horizon: int, *, calibrated: bool = False) -> pd.DataFrame:
    same = (rows["forecast"] == forecast) & (rows["calibrated"] == calibrated)
    return rows[same & (rows["horizon"] == horizon)]


def test_offsets_are_fitted_on_val_score_alone(run: Any, calibrated: SeedRun) -> None:
    assert calibrated.calibration is not None
    assert calibrated.calibration.n == len(run.data.origins["val_score"])
    other = dataclasses.replace(run.data, targets=run.data.targets.copy())
    for split in ("val_select", "test"):
        other.targets[run.data.origins[split]] *= 9
    again = evaluate_run(run.folder, other, execution=CPU)
    found = calibrate_seed(SeedRun(run.spec, run.result, again), other, directory=run.folder, conformal=True)
    assert found.calibration == calibrated.calibration
    other.targets[run.data.origins["val_score"]] *= 9
    wilder = SeedRun(run.spec, run.result, evaluate_run(run.folder, other, execution=CPU))
    moved = calibrate_seed(wilder, other, directory=run.folder, conformal=True).calibration
    calibrate_seed(calibrated, run.data, directory=run.folder, conformal=True)
    assert moved is not None
    assert moved.offsets[0][-1] > calibrated.calibration.offsets[0][-1]


def test_on_the_rows_of_the_fit_every_interval_covers_what_it_names(run: Any, calibrated: SeedRun) -> None:
    assert calibrated.evaluation is not None
    assert calibrated.calibration is not None
    by_horizon = calibrated.evaluation.rows["val_score"].by_horizon
    raw = np.stack([quantile_matrix(columns, LEVELS) for columns in by_horizon], axis=1)
    moved = calibrated.calibration.apply(raw)
    assert (np.diff(moved, axis=2) >= 0).all()
    for place in range(len(HORIZONS)):
        for percent in (50, 90):
            found = coverage(by_horizon[place]["target"], moved[:, place], LEVELS, percent=percent)
            assert percent / 100 <= found < percent / 100 + 0.05


def test_raw_and_calibrated_rows_stand_beside_both_climatologies_at_every_horizon(
    run: Any, calibrated: SeedRun, rows: pd.DataFrame
) -> None:
    n = len(run.data.origins["test"])
    counts = rows.groupby(["forecast", "calibrated", "horizon"]).size()
    said = [("model", False), ("model", True), *((name, False) for name in FORECASTS[1:])]
    assert counts.to_dict() == {(*who, horizon): n for who in said for horizon in HORIZONS}
    assert calibrated.calibration is not None
    raw = np.stack([of(rows, "model", horizon)[NAMES].to_numpy() for horizon in HORIZONS], axis=1)
    moved = np.stack(
        [of(rows, "model", horizon, calibrated=True)[NAMES].to_numpy() for horizon in HORIZONS], axis=1
    )
    np.testing.assert_array_equal(moved, calibrated.calibration.apply(raw))
    scored = run.recorded[run.recorded["split"] == "test"]
    np.testing.assert_array_equal(of(rows, "model", 3)[NAMES], scored[NAMES])
    y = run.data.targets_at("test").astype(np.float64)
    np.testing.assert_array_equal(of(rows, "climatology", 1)["target"], y[:, 0])
    regimes = volatility_regimes(run.data, run.data.origins["test"])
    np.testing.assert_array_equal(of(rows, "climatology", 1)["regime"], regimes)
    scaled = scaled_climatologies(run.data, run.data.origins["test"])
    np.testing.assert_array_equal(of(rows, "scaled_climatology", 1)[NAMES], scaled[:, 0])


def test_the_quantiles_of_climatology_are_constant_once_they_are_returns(
    run: Any, rows: pd.DataFrame
) -> None:
    table = of(rows, "climatology", 3)
    returns = table[NAMES].mul(table["volatility"], axis=0)
    train = run.data.targets_at("train")[:, 1].astype(np.float64) * run.data.scale[run.data.origins["train"]]
    np.testing.assert_allclose(returns, np.tile(np.quantile(train, LEVELS), (len(returns), 1)), rtol=1e-6)


def test_scores_are_those_of_the_rows_by_horizon_and_regime(rows: pd.DataFrame) -> None:
    scores = quantile_scores(rows)
    keys = ["forecast", "calibrated", "horizon", "regime"]
    assert not scores.duplicated(keys).any()
    assert set(scores["regime"]) == {"all", *rows["regime"].unique()} <= {"all", *REGIMES}
    table = scores.set_index(keys).sort_index()
    one = of(rows, "model", 1, calibrated=True)
    inside = (one["q05"] <= one["target"]) & (one["target"] <= one["q95"])
    row = table.loc["model", True, 1, "all"]
    assert row["coverage_90"] == pytest.approx(inside.mean())
    assert row["width_50"] == pytest.approx((one["q75"] - one["q25"]).mean())
    assert row["n_under"] == (one["target"] < one["q05"]).sum()
    assert row[[f"pit_{number}" for number in range(10)]].sum() == pytest.approx(1)
    reference = table.loc["scaled_climatology", False, 1, "all"]
    assert row["skill"] == pytest.approx(1 - row["pinball_loss"] / reference["pinball_loss"])
    assert reference["skill"] == 0
    for horizon in HORIZONS:
        parts = table.loc["model", False, horizon].drop("all")
        assert parts["n"].sum() == table.loc[("model", False, horizon, "all"), "n"]
        mean = np.average(parts["pinball_loss"], weights=parts["n"])
        assert mean == pytest.approx(table.loc[("model", False, horizon, "all"), "pinball_loss"])


def test_other_tasks_have_empty_tables(finish_run: Callable[..., Any], daily_run: Any) -> None:
    found = SeedRun(daily_run.spec, daily_run.result, None)
    rows = quantile_rows([found], [daily_run.data])
    assert rows.empty
    assert quantile_scores(rows).empty
    assert not should_calibrate(None, daily_run.data.spec, n_rows=50)
    with pytest.raises(Fault, match=r"training\.conformal must be left out unless data\.task is quantile"):
        should_calibrate(True, daily_run.data.spec, n_rows=50)


def test_what_is_asked_decides_and_without_rows_nothing_can_be_fitted(run: Any) -> None:
    spec = run.data.spec
    asked = [should_calibrate(asked, spec, n_rows=50) for asked in (None, True, False)]
    assert asked == [True, True, False]
    assert not should_calibrate(None, spec, n_rows=0)
    with pytest.raises(Fault, match="validation is not divided"):
        should_calibrate(True, spec, n_rows=0)


def test_offsets_are_on_the_record_of_the_run(calibrated: SeedRun) -> None:
    table = run_rows([calibrated])
    assert calibrated.calibration is not None
    (found,) = json.loads(table["calibration"].iloc[0])
    assert found == calibrated.calibration.model_dump(mode="json")
    assert "calibration" not in run_rows([dataclasses.replace(calibrated, calibration=None)])


def test_predictions_are_calibrated_where_the_run_is(
    run: Any, calibrated: SeedRun, rows: pd.DataFrame, daily_bars: pd.DataFrame
) -> None:
    said = finscale.predict(run.folder, daily_bars)
    assert said.attrs["calibrated"]
    assert run_files(run.folder)[-1] == CALIBRATION
    shown = said.set_index("at").loc[run.data.dates_at("test")]
    np.testing.assert_array_equal(shown[NAMES], of(rows, "model", 3, calibrated=True)[NAMES])
    others = [f"{name}_h1" for name in NAMES]
    np.testing.assert_array_equal(shown[others], of(rows, "model", 1, calibrated=True)[NAMES])
    calibrate_seed(calibrated, run.data, directory=run.folder, conformal=False)
    plain = finscale.predict(run.folder, daily_bars)
    assert not plain.attrs["calibrated"]
    shown = plain.set_index("at").loc[run.data.dates_at("test")]
    np.testing.assert_array_equal(shown[NAMES], of(rows, "model", 3)[NAMES])
    calibrate_seed(calibrated, run.data, directory=run.folder, conformal=True)


def test_an_export_says_what_the_calibrated_run_says(
    run: Any, calibrated: SeedRun, rows: pd.DataFrame
) -> None:
    manifest = export_run(run.folder, run.data, ExportSettings(export=("onnx",)))
    assert manifest.calibrated
    assert (run.folder / "export" / CALIBRATION).read_text() == (run.folder / CALIBRATION).read_text()
    session = onnxruntime.InferenceSession(run.folder / "export/onnx/model.onnx")
    batch = DeviceWindows(run.data, "cpu").gather(torch.from_numpy(run.data.origins["test"]))
    assert batch.values is not None
    (found,) = session.run(["quantiles"], {"values": batch.values.numpy()})
    for place, horizon in enumerate(HORIZONS):
        expected = of(rows, "model", horizon, calibrated=True)[NAMES]
        np.testing.assert_allclose(found[:, place], expected, atol=1e-4)


def test_the_calibration_of_another_run_is_refused(run: Any, calibrated: SeedRun, tmp_path: Path) -> None:
    (tmp_path / CALIBRATION).write_text((run.folder / CALIBRATION).read_text())
    assert load_calibration(tmp_path, fingerprint=run.result.fingerprint) == calibrated.calibration
    with pytest.raises(FinscaleError, match="must have the fingerprint other of the run"):
        load_calibration(tmp_path, fingerprint="other")
    assert load_calibration(tmp_path / "empty", fingerprint="other") is None


@settings(max_examples=50, deadline=None)
@given(n_levels=st.integers(1, 8), seed=st.integers(0, 999))
def test_the_exported_arithmetic_is_that_of_the_tables(n_levels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    quantiles = np.sort(random.standard_normal((5, 2, n_levels)), axis=2)
    offsets = random.standard_normal((2, n_levels))
    calibration = Calibration(
        fingerprint="f",
        n=9,
        horizons=(1, 2),
        levels=tuple((np.arange(n_levels) + 1) / (n_levels + 1)),
        offsets=tuple(map(tuple, offsets.tolist())),
    )
    found = Calibrated(calibration)(torch.from_numpy(quantiles).float()).numpy()
    np.testing.assert_allclose(found, calibration.apply(quantiles), atol=1e-6)
