import json
from pathlib import Path

import pytest
from search_toys import IDENTITY, drive

from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.search.best import BEST_FILE, best_of, best_trial, read_best_params, rebuild_best, write_best
from finscale.search.config import SearchConfig

SIX = SearchConfig(n_trials=6, n_random=2, sampler="sample", executor="inline")
CELL = Cell.parse("20K", 1)
VALUES = {0: 0.7, 1: 0.6, 2: 0.5, 3: 0.5, 4: 0.65, 5: 0.66}


def test_best_params_has_the_published_form(tmp_path: Path) -> None:
    _, study = drive(tmp_path, config=SIX, behaviours=VALUES)
    write_best(study, tmp_path / BEST_FILE)
    found = json.loads((tmp_path / BEST_FILE).read_text())
    trial = study.trials[2]
    assert found["architecture"] == {
        **{name: trial.user_attrs[name] for name in ("d_model", "n_layers", "n_heads", "d_ff")},
        "param_count": trial.user_attrs["n_params"],
    }
    names = ("learning_rate", "epochs", "weight_decay", "warmup_steps", "dropout")
    known = {**trial.params, **trial.user_attrs}
    assert found["training"] == {name: known[name] for name in names}
    assert found["batch_config"] == {"batch_size": 128, "accumulation_steps": 1, "effective_batch_size": 128}
    assert (found["best_val_loss"], found["n_trials"], found["trial_number"]) == (0.5, 6, 2)
    assert (found["arch_id"], found["config_hash"]) == (trial.user_attrs["arch_id"], IDENTITY.config_hash)
    assert (found["study_name"], found["seed"], found["data_hash"]) == ("toy", 2, "d")
    assert (found["baselines"], found["stopped_epoch"]) == ({"base_rate": 0.7}, 1)
    assert found["timestamp"].endswith("Z")


def test_the_lowest_value_wins_and_the_earliest_among_equals(tmp_path: Path) -> None:
    _, study = drive(tmp_path, config=SIX, behaviours={**VALUES, 0: float("-inf")})
    best = best_trial(study)
    assert best is not None
    assert best.number == 2


def test_a_winner_with_a_halved_batch_shows_what_ran(tmp_path: Path) -> None:
    _, study = drive(
        tmp_path, config=SearchConfig(n_trials=1, executor="inline"), behaviours={0: "oom above 40"}
    )
    best = best_of(study)
    assert best is not None
    assert best.batch_config.model_dump() == {
        "batch_size": 32,
        "accumulation_steps": 4,
        "effective_batch_size": 128,
    }


def test_the_file_can_be_rebuilt_from_the_study_byte_for_byte(tmp_path: Path) -> None:
    _, study = drive(tmp_path, config=SIX)
    write_best(study, tmp_path / BEST_FILE)
    before = (tmp_path / BEST_FILE).read_bytes()
    (tmp_path / BEST_FILE).unlink()
    assert rebuild_best(tmp_path) == read_best_params(tmp_path, cell=CELL)
    assert (tmp_path / BEST_FILE).read_bytes() == before


def test_without_a_complete_trial_there_is_no_winner_and_no_file(tmp_path: Path) -> None:
    config = SearchConfig(n_trials=2, executor="inline", max_failures=0)
    _, study = drive(tmp_path, config=config, behaviours={0: float("nan"), 1: "raise"})
    assert write_best(study, tmp_path / BEST_FILE) is None
    assert not (tmp_path / BEST_FILE).exists()


def test_a_missing_winner_names_the_file_and_the_command_that_makes_it(tmp_path: Path) -> None:
    command = r"kedro run --pipeline hpo --params budget=20K,horizon=1"
    with pytest.raises(FinscaleError, match=rf"best_params\.json must exist, .*{command}$"):
        read_best_params(tmp_path, cell=CELL)
    with pytest.raises(FinscaleError, match=rf"{command},experiment=other$"):
        read_best_params(tmp_path, cell=CELL, experiment="other")


def test_a_winner_with_a_foreign_key_is_refused(tmp_path: Path) -> None:
    _, study = drive(tmp_path, config=SearchConfig(n_trials=1, executor="inline"))
    best = write_best(study, tmp_path / BEST_FILE)
    assert best is not None
    (tmp_path / BEST_FILE).write_text(json.dumps({**best.model_dump(mode="json"), "sede": 3}))
    with pytest.raises(FinscaleError, match="sede must be a known key"):
        read_best_params(tmp_path, cell=CELL)
