"""Kill it, interrupt it, run it again: nothing finished is lost, and the totals are exact."""

import json
import signal
from pathlib import Path

import pandas as pd
import pytest

HPO = ("run", "--env", "test", "--pipelines", "hpo", "--params")
LONGER = "hpo.n_trials=4,hpo.n_random=0,hpo.space.epochs.choices=3,training.max_steps=78"


def study(project) -> Path:
    return project.folder / "data/test/06_models/hpo/sp500_test/5K_h1"


def finished_trials(project) -> dict[str, bytes]:
    found = study(project).glob("trials/trial_*/outcome.json")
    return {path.parent.name: path.read_bytes() for path in found}


def trials(project) -> pd.DataFrame:
    return pd.read_parquet(study(project) / "trials.parquet")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_search_ended_by_a_signal_keeps_its_trials_and_ends_with_the_exact_total(project, number):
    ended = project.interrupt(*HPO, LONGER, when=lambda: len(finished_trials(project)) >= 2, number=number)
    kept = finished_trials(project)
    assert 2 <= len(kept) < 4
    if number != signal.SIGKILL:
        assert ended.code == 128 + number
        assert "Continue with the same command: kedro run --env test" in ended.out
        assert "Traceback" not in ended.out
    again = project.kedro(*HPO, LONGER)
    assert again.code == 0, again.out
    table = trials(project)
    assert table["number"].tolist() == [0, 1, 2, 3]
    assert (table["outcome"] == "complete").all()
    after = finished_trials(project)
    assert {name: after[name] for name in kept} == kept


def test_a_killed_training_goes_on_from_its_checkpoint(project):
    shared = "training.max_steps=null,hpo.space.epochs.choices=60,training.patience=60"
    search = project.kedro(*HPO, f"hpo.n_trials=1,training.max_epochs=1,{shared}")
    assert search.code == 0, search.out
    training = project.folder / "data/test/06_models/training/sp500_test/5K_h1"
    command = ("run", "--env", "test", "--pipelines", "training", "--params")
    # a fast machine must not be through before it is killed
    params = f"training.n_seeds=1,{shared}"

    def has_checkpoint() -> bool:
        return any(training.glob("seed_*/checkpoints/*/*.json")) or any(
            training.glob("seed_*/checkpoints/*.json")
        )

    project.interrupt(*command, params, when=has_checkpoint, number=signal.SIGKILL)
    assert not list(training.glob("seed_*/result.json"))
    again = project.kedro(*command, params)
    assert again.code == 0, again.out
    (result,) = training.glob("seed_*/result.json")
    record = json.loads(result.read_text())
    assert record["outcome"] == "complete"
    assert [row["epoch"] for row in record["curve"]] == list(range(1, record["stopped_epoch"] + 1))
    runs = pd.read_parquet(project.folder / "data/test/07_model_output/sp500_test/5K_h1/runs.parquet")
    assert len(set(runs["seed"])) == 1


def test_a_sweep_goes_on_after_a_cell_that_fails_and_says_so(project):
    done = project.kedro(
        "sweep", "--env", "test", "-p", "dataset", "--budgets", "5K", "--horizons", "1,4000,2"
    )
    assert done.code == 1
    rows = {line.split("│")[1].strip(): line for line in done.out.splitlines() if line.startswith("│ 5K_h")}
    assert {cell: "failed" in row for cell, row in rows.items()} == {
        "5K_h1": False,
        "5K_h2": False,
        "5K_h4000": True,
    }
    assert "Traceback" not in done.out
    made = {path.parent.name for path in (project.folder / "data/test/05_model_input").glob("*/windows.json")}
    assert made == {"sp500_test_h1", "sp500_test_h2"}


def test_a_stop_file_ends_a_sweep_after_the_running_trials(project):
    stop = project.folder / "data/test/STOP"
    stop.parent.mkdir(parents=True)
    stop.touch()
    done = project.kedro("sweep", "--env", "test", "-p", "hpo")
    assert "STOP" in done.out
    assert done.code == 0
    assert not (study(project).parent / "20K_h1" / "study.db").exists()
