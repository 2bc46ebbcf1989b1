from pathlib import Path

import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial
from search_toys import IDENTITY, drive

from finscale.search.config import SearchConfig
from finscale.search.study import load_study, open_study
from finscale.search.trials import TRIAL_COLUMNS, describe_trial, trials_table, write_trials

SIX = SearchConfig(n_trials=6, n_random=2, sampler="sample", executor="inline")
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
    assert second.startswith("trial 1 failed kind=random")
    assert second.endswith("reason='RuntimeError: the toy broke'")


def further(trial_params: dict, attributes: dict) -> FrozenTrial:
    found = {
        "optimizer": CategoricalDistribution(("adamw", "sgd")),
        "momentum": FloatDistribution(0, 1),
        "betas": CategoricalDistribution(("0.9 0.99", "0.9 0.95")),
    }
    used = {name: found[name] for name in trial_params}
    shape = {"kind": "random", "outcome": "complete", "reason": "", **attributes}
    return create_trial(params=trial_params, distributions=used, value=0.5, user_attrs=shape)


FURTHER = ("optimizer", "momentum", "betas", "features", "positions")


def test_every_further_dimension_of_a_study_gets_a_typed_column(tmp_path: Path) -> None:
    study = open_study(tmp_path, name="s", identity=IDENTITY, attributes={"dimensions": list(FURTHER)})
    study.add_trial(further({"optimizer": "sgd", "momentum": 0.5}, {"features": ["a", "b"]}))
    study.add_trial(further({"optimizer": "adamw", "betas": "0.9 0.99"}, {"positions": "rope"}))
    write_trials(study, tmp_path / "trials.parquet")
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert list(table.columns) == [*TRIAL_COLUMNS, "momentum", "betas", "features", "positions"]
    assert table["momentum"].tolist()[0] == 0.5
    assert table["momentum"].isna().tolist() == [False, True]
    assert table["features"].tolist()[0] == "a b"
    assert table["betas"].tolist()[1] == "0.9 0.99"


def test_a_line_tells_what_was_asked_for_and_what_has_spaces_in_quotes() -> None:
    ran = {"optimizer": "AdamW", "features": ["a", "b"]}
    line = describe_trial(further({"optimizer": "adamw", "betas": "0.9 0.99"}, ran), FURTHER)
    assert " optimizer=adamw " in line
    assert ' betas="0.9 0.99"' in line
    assert ' features="a b"' in line
    assert "momentum" not in line
