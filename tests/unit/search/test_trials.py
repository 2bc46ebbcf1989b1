from pathlib import Path

import pandas as pd
from search_toys import drive

from finscale.search.config import SearchConfig
from finscale.search.study import load_study
from finscale.search.trials import TRIAL_COLUMNS, describe_trial, trials_table, write_trials

SIX = SearchConfig(n_trials=6, n_random=2, sampler="random", executor="inline")
ASKED = "number state kind value outcome arch_id d_model n_layers n_heads d_ff n_params learning_rate epochs "
ASKED += "weight_decay warmup_steps dropout micro_batch_size accumulation_steps effective_batch_size seconds "
ASKED += "stopped_epoch best_epoch n_steps seed started_at finished_at"


def test_the_table_holds_every_trial_with_what_ran(tmp_path: Path) -> None:
    _, study = drive(tmp_path, config=SIX, behaviours={1: "oom above 40", 2: "raise"})
    table = trials_table(study)
    assert set(ASKED.split()) <= set(table.columns)
    assert list(table["number"]) == list(range(7))
    assert list(table["outcome"]) == ["complete", "complete", "failed"] + ["complete"] * 4
    assert list(table["micro_batch_size"])[:2] == [128, 32]
    assert table["value"].isna().tolist() == [False, False, True] + [False] * 4
    assert (table["n_params"] > 15_000).all()
    assert (table["finished_at"] >= table["started_at"]).all()
    assert table["learning_rate"].tolist() == [trial.params["learning_rate"] for trial in study.trials]


def test_an_empty_and_a_running_study_have_the_same_columns(tmp_path: Path) -> None:
    _, study = drive(tmp_path, config=SIX, should_stop=lambda: True)
    empty = trials_table(study)
    assert (len(empty), list(empty.columns)) == (0, list(TRIAL_COLUMNS))
    polls = iter([False])
    _, study = drive(tmp_path, config=SIX, should_stop=lambda: next(polls, True))
    running = trials_table(study)
    assert running["state"].tolist() == ["RUNNING"]
    assert running["finished_at"].isna().all()
    assert (running.dtypes == empty.dtypes).all()


def test_the_table_survives_parquet(tmp_path: Path) -> None:
    _, study = drive(tmp_path, config=SIX)
    write_trials(study, tmp_path / "trials.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "trials.parquet"), trials_table(study))


def test_a_log_line_says_all_about_a_trial(tmp_path: Path) -> None:
    drive(tmp_path, config=SIX, behaviours={1: "raise"})
    first, second = (describe_trial(trial) for trial in load_study(tmp_path).trials[:2])
    assert first.startswith("trial 0 complete value=0.")
    for name in ("arch_id", "d_model", "n_layers", "n_heads", "d_ff", "n_params", "learning_rate", "epochs"):
        assert f" {name}=" in first
    for name in (
        "weight_decay",
        "warmup_steps",
        "dropout",
        "effective_batch_size",
        "seed",
        "kind",
        "seconds",
    ):
        assert f" {name}=" in first
    assert second.startswith("trial 1 failed kind=extreme")
    assert second.endswith("reason='RuntimeError: the toy broke'")
