"""A real search: real windows, real models, real training, a few seconds long."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState
from search_cells import CELL, DEFAULTS, EXPERIMENT, search, small

from finscale.core.errors import FinscaleError
from finscale.search.best import read_best_params
from finscale.search.driver import SearchEvent, trial_directory
from finscale.search.space import Dimension, SearchSpace
from finscale.search.study import load_study
from finscale.training.config import ExecutionConfig
from finscale.training.loop import train
from finscale.training.run_spec import Provenance, read_run_spec
from finscale.windows.data import load_windows


def test_a_search_leaves_its_files_and_says_where_it_stands(
    tmp_path: Path, rows: pd.DataFrame, windows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[SearchEvent] = []
    with caplog.at_level(logging.INFO, logger="finscale.search"):
        result = search(tmp_path, rows, windows, on_event=events.append)
    assert (result.outcome, result.n_finished, result.counts) == ("complete", 4, {"complete": 4})
    assert "random trials; the analysis needs 10" in result.flags[0]
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert result.best == read_best_params(tmp_path, cell=CELL)
    assert result.best is not None
    assert result.best.best_val_loss == table["value"].min()
    assert result.best.baselines == {"base_rate": 0.68}
    assert (table["n_steps"] == table["stopped_epoch"] * 4).all()
    assert sum("value=" in line.message for line in caplog.records) == 4
    n_epochs = sum(event.kind == "progress" for event in events)
    assert n_epochs == table["stopped_epoch"].sum()


def test_a_trial_file_trains_again_to_the_same_loss(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    search(tmp_path / "study", rows, windows)
    for trial in load_study(tmp_path / "study").trials[-2:]:
        spec = read_run_spec(trial_directory(tmp_path / "study", trial.number).with_suffix(".yaml"))
        execution = ExecutionConfig(device="cpu")
        directory = tmp_path / f"again_{trial.number}"
        again = train(spec, load_windows(windows), directory=directory, execution=execution)
        assert again.best_val_loss == trial.value
        assert spec.provenance.config_hash == trial.user_attrs["config_hash"]
        assert spec.training.learning_rate == trial.params["learning_rate"]
        assert spec.model.dropout == trial.params["dropout"]


def test_processes_and_inline_find_the_same_losses(tmp_path: Path, rows: pd.DataFrame, windows: Path) -> None:
    config = small(n_trials=2)
    search(tmp_path / "a", rows, windows, config)
    search(tmp_path / "b", rows, windows, config.model_copy(update={"executor": "process", "n_workers": 2}))
    found = [[trial.value for trial in load_study(tmp_path / name).trials] for name in "ab"]
    assert found[0] == found[1]


def test_a_stopped_trial_goes_on_from_its_checkpoint(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    search(tmp_path / "whole", rows, windows, small(n_trials=1))

    def mid_epoch() -> bool:
        return next(asked) >= 4

    asked = iter(range(100))
    result = search(tmp_path / "parts", rows, windows, small(n_trials=1), should_stop=mid_epoch)
    assert (result.outcome, result.counts) == ("stopped", {"running": 1})
    assert (trial_directory(tmp_path / "parts", 0) / "checkpoints").is_dir()
    search(tmp_path / "parts", rows, windows, small(n_trials=1))
    whole, parts = (load_study(tmp_path / name).trials[0] for name in ("whole", "parts"))
    assert (parts.value, parts.state) == (whole.value, TrialState.COMPLETE)


def test_stop_now_stops_at_the_next_step_and_is_taken_away(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    def touch(event: SearchEvent) -> None:
        if event.kind == "asked" and event.number == 1:
            (tmp_path / "STOP_NOW").touch()

    result = search(tmp_path, rows, windows, on_event=touch)
    assert (result.outcome, result.counts) == ("stopped", {"complete": 1, "running": 1})
    assert search(tmp_path, rows, windows).outcome == "complete"


def test_finished_trials_keep_records_and_no_weights(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    search(tmp_path, rows, windows, small(n_trials=1))
    names = {path.name for path in trial_directory(tmp_path, 0).iterdir()}
    assert names == {".lock", "events.jsonl", "outcome.json", "result.json", "run_spec.json"}


def test_what_makes_trials_comparable_may_not_change(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    search(tmp_path, rows, windows, small(n_trials=1))
    split = EXPERIMENT.data.split.model_copy(update={"val_select_fraction": 0.4})
    data = EXPERIMENT.data.model_copy(update={"split": split})
    changes: list[tuple[str, dict[str, Any]]] = [
        ("space", {"config": small(n_trials=1, space=SearchSpace(epochs=Dimension(choices=(1, 2, 3))))}),
        ("experiment", {"experiment": EXPERIMENT.model_copy(update={"seed": 1})}),
        ("split", {"experiment": EXPERIMENT.model_copy(update={"data": data})}),
        ("grid", {"grid": rows.assign(grid_hash="other")}),
        ("training", {"training_defaults": {**DEFAULTS, "max_steps": 3}}),
    ]
    for part, change in changes:
        with pytest.raises(FinscaleError, match=rf"another {part}\).*hpo\.restart=true"):
            search(tmp_path, rows, windows, **change)


def test_how_it_is_searched_may_change(tmp_path: Path, rows: pd.DataFrame, windows: Path) -> None:
    search(tmp_path, rows, windows, small(n_trials=1))
    title = EXPERIMENT.model_copy(update={"title": "Another title", "wandb_project": "scaling"})
    config = small(n_trials=2, sampler="sample", n_random=3, max_failures=1)
    other = Provenance(data_hash="synthetic", environment="cluster", commit="abc")
    result = search(tmp_path, rows, windows, config, experiment=title, provenance=other)
    assert result.n_finished == 2


def test_a_restart_archives_the_old_study(tmp_path: Path, rows: pd.DataFrame, windows: Path) -> None:
    search(tmp_path, rows, windows, small(n_trials=2))
    changed = small(n_trials=1, restart=True, space=SearchSpace(epochs=Dimension(choices=(1,))))
    assert search(tmp_path, rows, windows, changed).n_finished == 1
    (archived,) = (tmp_path / "archive").iterdir()
    assert len(load_study(archived).trials) == 2
    assert json.loads((archived / "best_params.json").read_text())["n_trials"] == 2


def test_foreign_windows_and_bad_defaults_are_refused_before_the_first_trial(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    with pytest.raises(FinscaleError, match="data_hash must be that of the windows"):
        search(tmp_path, rows, windows, provenance=Provenance(data_hash="others"))
    with pytest.raises(FinscaleError, match=r"training\.epochs must not be searched as well, got 3"):
        search(tmp_path, rows, windows, training_defaults={"epochs": 3})
    with pytest.raises(FinscaleError, match=r"training\.patiense must be a known key.*'patience'"):
        search(tmp_path, rows, windows, training_defaults={"patiense": 3})
    assert not (tmp_path / "study.db").exists()


def test_the_winner_is_written_at_every_improvement(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    best: list[float] = []

    def read_best(event: SearchEvent) -> None:
        if event.kind == "finished":
            best.append(json.loads((tmp_path / "best_params.json").read_text())["best_val_loss"])

    search(tmp_path, rows, windows, on_event=read_best)
    values = [trial.value for trial in load_study(tmp_path).trials]
    assert best == list(np.minimum.accumulate(values))
