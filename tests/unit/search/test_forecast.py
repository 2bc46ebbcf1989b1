"""What a cell would cost is counted exactly, and nothing is written."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from search_cells import CELL, DEFAULTS, EXPERIMENT, FEATURES, search, small

from finscale.search import forecast as forecast_module
from finscale.search.forecast import Forecast, Span, forecast_cell
from finscale.search.pace import Pace
from finscale.search.planner import Planner
from finscale.search.space import SearchSpace
from finscale.search.study import load_study
from finscale.training import step_times
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import Provenance
from finscale.training.step_times import StepTimes
from finscale.windows.data import load_windows

SPACE = {"epochs": {"choices": [2, 4, 6]}, "warmup_steps": {"choices": [1]}}
N_TRAIN, N_VALIDATION = 120, 30
"""Windows of `search_cells.write_windows`."""


def planner(directory: Path, windows: Path) -> Planner:
    return Planner(
        experiment=EXPERIMENT,
        cell=CELL,
        windows_directory=windows,
        study_directory=directory,
        n_features=len(FEATURES),
        execution=ExecutionConfig(device="cpu"),
        training_defaults=DEFAULTS,
        provenance=Provenance(data_hash="synthetic"),
        batch_provider="table",
        n_sharing=1,
        seed=42,
    )


def forecast(
    directory: Path, rows: pd.DataFrame, windows: Path, *, n_seeds: int = 3, n_done: int = 0, **given: Any
) -> Forecast:
    usual = {"space": SearchSpace.read(SPACE, subject="hpo.space"), "n_trials": 20}
    return forecast_cell(
        small(**{**usual, **given}),
        planner(directory, windows),
        grid=rows,
        tolerance=0.25,
        folds=[load_windows(windows)],
        searches=True,
        n_seeds=n_seeds,
        n_done=n_done,
    )


def contents(folder: Path) -> dict[Path, bytes]:
    """Of every file but the database, beside which readers of SQLite lay files of their own."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("study.db"))
    return {path: path.read_bytes() for path in found}


def fixed_pace(monkeypatch: pytest.MonkeyPatch, *, layer_s: float = 0.0) -> None:
    """A window takes a second, and ``layer_s`` for every layer; one that is validated a tenth."""
    pace = Pace(source="told", window_s=(1.0, layer_s, 0), scored_s=(0.1, 0, 0), start_s=5.0)
    monkeypatch.setattr(forecast_module, "_timed_pace", lambda *_: pace)


def test_a_new_cell_is_its_trials_at_typical_epochs_and_at_most_at_the_most(
    tmp_path: Path, rows: pd.DataFrame, windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed_pace(monkeypatch)
    found = forecast(tmp_path, rows, windows)
    per_epoch = N_TRAIN + 0.1 * N_VALIDATION
    typical, longest = 5 + 4 * per_epoch, 5 + 6 * per_epoch
    assert (found.n_grid, found.n_trials, found.n_left, found.n_trainings) == (len(rows), 20, 20, 3)
    assert (found.source, found.epochs, found.most_epochs) == ("told", 4.0, 6)
    wanted = Span(least=20 * typical, expected=20 * typical, most=20 * longest)
    assert found.search.model_dump() == pytest.approx(wanted.model_dump())
    assert found.final.expected == pytest.approx(3 * typical)
    assert list(tmp_path.iterdir()) == []


def test_forced_extremes_count_as_what_they_are_and_the_rest_as_the_mean(
    tmp_path: Path, rows: pd.DataFrame, windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed_pace(monkeypatch, layer_s=1.0)
    seconds = 5 + 4 * ((1 + rows["n_layers"]) * N_TRAIN + 0.1 * N_VALIDATION)
    forced = forecast_module.forced_rows(rows)
    of_forced = [seconds[rows["arch_id"] == arch_id].iloc[0] for arch_id in forced]
    assert of_forced[0] != pytest.approx(seconds.mean())
    assert forecast(tmp_path, rows, windows, n_trials=1).search.expected == pytest.approx(of_forced[0])
    found = forecast(tmp_path, rows, windows, n_trials=len(forced) + 2)
    assert found.search.expected == pytest.approx(sum(of_forced) + 2 * seconds.mean())
    assert found.search.least == pytest.approx((len(forced) + 2) * seconds.min())
    listed = forecast(tmp_path, rows, windows, n_trials=len(forced) + 2, sampler="sample")
    assert listed.search.expected == pytest.approx((len(forced) + 2) * seconds.mean())


def test_caps_shorten_every_training(
    tmp_path: Path, rows: pd.DataFrame, windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed_pace(monkeypatch)
    monkeypatch.setitem(DEFAULTS, "max_epochs", 2)
    found = forecast(tmp_path, rows, windows)
    assert (found.epochs, found.most_epochs) == (2.0, 2)
    assert found.search.most == pytest.approx(20 * (5 + 2 * (N_TRAIN + 0.1 * N_VALIDATION)))


def test_where_trials_have_finished_speed_and_epochs_are_theirs_and_only_what_is_left_counts(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    space = SearchSpace.read(SPACE, subject="hpo.space")
    search(tmp_path, rows, windows, small(space=space, n_trials=3))
    before = contents(tmp_path)
    found = forecast(tmp_path, rows, windows, n_trials=5)
    known = [trial.user_attrs for trial in load_study(tmp_path).trials]
    assert found.source == "3 finished trials"
    assert found.n_left == 2
    assert found.epochs == pytest.approx(sum(each["stopped_epoch"] for each in known) / 3)
    typical = [each["seconds"] for each in known]
    assert 2 * min(typical) / 3 < found.search.expected < 2 * max(typical) * 3
    assert contents(tmp_path) == before


def test_of_a_finished_search_the_winner_alone_is_trained_and_no_seed_twice(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    space = SearchSpace.read(SPACE, subject="hpo.space")
    search(tmp_path, rows, windows, small(space=space, n_trials=3))
    found = forecast(tmp_path, rows, windows, n_trials=3, n_done=1)
    assert (found.n_left, found.n_trainings) == (0, 2)
    assert found.search == Span(least=0, expected=0, most=0)
    assert found.final.least == found.final.expected
    assert found.final_bytes <= found.trial_bytes
    assert forecast(tmp_path, rows, windows, n_trials=3, n_done=3).n_trainings == 0
    assert forecast(tmp_path, rows, windows, n_trials=4, n_done=3).n_trainings == 3


def test_a_new_cell_is_timed_by_real_steps_of_at_most_three_architectures(
    tmp_path: Path, rows: pd.DataFrame, windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []

    def time_steps(spec: Any, data: Any, execution: Any) -> StepTimes:
        timed.append(spec)
        return StepTimes(1.0, 0.1, 5.0)

    monkeypatch.setattr(step_times, "time_steps", time_steps)
    found = forecast(tmp_path, rows, windows)
    assert found.source == "steps timed on cpu"
    places = forecast_module.to_be_timed(rows)
    assert [spec.arch_id for spec in timed] == rows["arch_id"].iloc[places].tolist()
    assert {spec.training.effective_batch_size for spec in timed} == {32}
    assert found.search.expected == pytest.approx(20 * (5 + 4 * (N_TRAIN + 0.1 * N_VALIDATION)))
