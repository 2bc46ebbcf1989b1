"""What a search would be is told before it is run, and whether a study is whole afterwards."""

import json
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from search_cells import DEFAULTS, EXPERIMENT, FEATURES, search, small

from finscale.core.errors import FinscaleError
from finscale.search.best import BEST_FILE
from finscale.search.driver import trial_directory
from finscale.search.planner import training_config
from finscale.search.space import SearchSpace
from finscale.search.study import load_study
from finscale.search.survey import Survey, survey_search
from finscale.search.verification import verify_study
from finscale.training.config import ExecutionConfig
from finscale.training.loop import train
from finscale.training.run_spec import read_run_spec
from finscale.windows.data import load_windows

FINITE: dict[str, Any] = {
    "learning_rate": {"choices": [1e-3, 3e-3]},
    "epochs": {"choices": [1, 2]},
    "weight_decay": {"choices": [0.0]},
    "warmup_steps": {"choices": [1]},
    "dropout": {"choices": [0.1]},
}
VIEWED: dict[str, Any] = {
    **FINITE,
    "features": {"choices": [["c", "a"], ["a", "c"], list(FEATURES)]},
    "context_length": {"choices": [8, 4]},
    "norm": {"choices": ["layer_norm", "rms_norm"]},
    "effective_batch_size": {"choices": [16, 32]},
    "optimizer": {"choices": ["adamw", "sgd"]},
    "momentum": {"choices": [0.9], "when": {"optimizer": "sgd"}},
}
GIVEN = {"patience": 5}


def space_of(values: dict[str, Any]) -> SearchSpace:
    return SearchSpace.read(values, subject="hpo.space")


def survey(
    directory: Path, rows: pd.DataFrame, windows: Path, *, given: Any = DEFAULTS, **config: Any
) -> Survey:
    found, _ = survey_search(
        small(**config),
        experiment=EXPERIMENT,
        grid=rows,
        tolerance=0.25,
        windows=load_windows(windows),
        study_directory=directory,
        training_defaults=given,
    )
    return found


def test_a_dry_run_counts_exactly_and_writes_nothing(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    found = survey(tmp_path, rows, windows, given=GIVEN, space=space_of(VIEWED))
    n_refused = sum(reason.n for reason in found.refused)
    assert found.n_product == len(rows) * 3 * 2 * 2
    assert found.n_candidates == found.n_product - found.n_duplicates - n_refused
    assert found.n_combinations == found.n_candidates * 2 * 2 * 2 * 2
    assert found.continuous == ()
    assert [len(reason.first) for reason in found.refused] == [min(3, reason.n) for reason in found.refused]
    assert list(tmp_path.iterdir()) == []
    endless = survey(tmp_path, rows, windows)
    assert (endless.n_combinations, endless.continuous) == (
        None,
        ("learning_rate", "weight_decay", "dropout"),
    )


def test_a_dry_run_raises_what_the_search_would_raise(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    config = {"space": space_of(FINITE), "n_trials": 1000}
    with pytest.raises(FinscaleError) as told:
        survey(tmp_path, rows, windows, **config)
    with pytest.raises(FinscaleError) as raised:
        search(tmp_path, rows, windows, small(**config))
    assert str(told.value) == str(raised.value)


def test_cost_is_counted_over_epochs_and_windows_as_far_as_the_caps_let_it(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    space = space_of({**FINITE, "epochs": {"choices": [4]}})
    origins = load_windows(windows).origins
    n_train, n_validation = len(origins["train"]), len(origins["val_select"])
    costs = rows[["flops_training", "flops_forward"]].mean()
    whole = survey(tmp_path, rows, windows, space=space)
    assert whole.flops_per_trial == pytest.approx(
        4 * (costs["flops_training"] * n_train + costs["flops_forward"] * n_validation)
    )
    assert whole.flops_left == pytest.approx(4 * whole.flops_per_trial)
    capped = survey(tmp_path, rows, windows, space=space, given={**DEFAULTS, "max_epochs": 2})
    assert capped.flops_per_trial == pytest.approx(whole.flops_per_trial / 2)
    stepped = survey(tmp_path, rows, windows, space=space, given={**DEFAULTS, "max_steps": 2})
    assert stepped.flops_per_trial == pytest.approx(
        costs["flops_training"] * 64 + costs["flops_forward"] * n_validation
    )


def test_hours_are_told_at_the_speed_of_the_trials_that_have_finished(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    assert survey(tmp_path, rows, windows).hours_left is None
    search(tmp_path, rows, windows, small(n_trials=2))
    found = survey(tmp_path, rows, windows, n_trials=5)
    assert found.n_finished == 2
    assert found.flops_left == pytest.approx(3 * found.flops_per_trial)
    costs = dict(zip(rows["arch_id"], rows["flops_training"], strict=True))
    known = [trial.user_attrs for trial in load_study(tmp_path).trials]
    done = sum(costs[each["arch_id"]] * each["n_steps"] * 32 for each in known)
    seconds = sum(each["seconds"] for each in known)
    assert found.hours_left == pytest.approx(found.flops_left / (done / seconds) / 3600)


def test_trials_read_their_view_and_all_that_was_drawn_and_their_files_repeat_them_exactly(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    config = small(space=space_of(VIEWED), n_trials=5, sampler="sample")
    search(tmp_path / "study", rows, windows, config, training_defaults=GIVEN)
    seen = set()
    for trial in load_study(tmp_path / "study").trials:
        known = trial.user_attrs
        spec = read_run_spec(trial_directory(tmp_path / "study", trial.number).with_suffix(".yaml"))
        view = spec.view.model_dump() if spec.view else {"features": None, "context_length": None}
        chosen = tuple(sorted(known["features"]))
        assert view["features"] == (None if chosen == FEATURES else chosen)
        assert view["context_length"] == (None if known["context_length"] == 8 else 4)
        assert spec.model.norm == known["norm"]
        assert spec.training == training_config(GIVEN, trial.params)
        assert spec.batch.effective_batch_size == trial.params["effective_batch_size"]
        assert spec.training.momentum == (0.9 if trial.params["optimizer"] == "sgd" else None)
        again = train(
            spec,
            load_windows(windows),
            directory=tmp_path / str(trial.number),
            execution=ExecutionConfig(device="cpu"),
        )
        assert again.best_val_loss == trial.value
        seen.add((view["features"], view["context_length"]))
    assert len(seen) > 1


def test_a_whole_study_has_no_faults_and_its_counts_are_told(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    search(tmp_path, rows, windows, small(n_trials=7))
    found, faults = verify_study(tmp_path, rows, forces_extremes=True)
    assert faults == ()
    assert found.states == {"COMPLETE": 7}
    assert sum(found.kinds.values()) == 7
    assert found.n_extremes == found.n_extremes_tried == found.kinds["extreme"]


def test_everything_that_is_wrong_with_a_study_is_told_at_once(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    search(tmp_path, rows, windows, small(n_trials=2, sampler="sample"))
    trial_directory(tmp_path, 0).with_suffix(".yaml").unlink()
    (tmp_path / BEST_FILE).write_text(json.dumps({"trial_number": 9}))
    study = load_study(tmp_path)
    attributes = {**study.trials[0].user_attrs, "arch_id": "strange"}
    study.add_trial(optuna.trial.create_trial(value=float("inf"), user_attrs=attributes))
    study.ask()
    found, faults = verify_study(tmp_path, rows, forces_extremes=True)
    told = [f"{fault.subject} must {fault.rule}" for fault in faults]
    best = min(study.trials[:2], key=lambda trial: trial.value or 0).number
    assert told == [
        "the study must have tried every extreme",
        "trial 0 must have its file",
        "trial 2 must have a finite value",
        "trial 2 must have an arch_id of the candidates",
        "trial 2 must have its file",
        "trial 3 must have ended",
        "trial 3 must have an arch_id of the candidates",
        "trial 3 must have its file",
        f"best_params.json must be of trial {best}, the best",
    ]
    assert found.states == {"COMPLETE": 3, "RUNNING": 1}


def test_a_missing_study_is_said_so(tmp_path: Path, rows: pd.DataFrame) -> None:
    with pytest.raises(FinscaleError, match=r"study\.db must exist"):
        verify_study(tmp_path, rows, forces_extremes=True)
