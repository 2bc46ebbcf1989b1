"""A task that is no yes-or-no question goes from search to report in its own loss."""

import json

import pandas as pd
import pytest


def test_a_quantile_cell_is_searched_trained_and_judged_in_pinball_loss(project):
    chosen = "experiment=spy_daily_direction,budget=5K,horizon=1,data.task=quantile,data.context_length=20"
    done = project.kedro("run", "--env", "test", "--params", f"{chosen},training.max_epochs=1,hpo.n_trials=2")
    assert done.code == 0, done.out
    (reports,) = (project.folder / "data/test/08_reporting").rglob("report.md")
    text = reports.read_text()
    record = json.loads((reports.parent / "scaling_summary.json").read_text())
    assert record["unit"] == "σ"
    for said in (text, json.dumps(record), done.out):
        assert not any(wrong in said for wrong in ("nats", "log loss", "log_loss", "few positives"))
    (folder,) = (project.folder / "data/test/06_models/hpo").rglob("best_params.json")
    best, trials = json.loads(folder.read_text()), pd.read_parquet(folder.parent / "trials.parquet")
    assert best["baselines"] == {"scaled_climatology": pytest.approx(trials["base_rate_loss"].iloc[0])}
    (found,) = (project.folder / "data/test/07_model_output").rglob("runs.parquet")
    runs = pd.read_parquet(found).set_index(["seed", "split"])
    dates = pd.read_parquet(found.parent / "date_losses.parquet").groupby(["seed", "split"])["pinball_loss"]
    assert runs["pinball_loss"].to_dict() == pytest.approx(dates.mean().to_dict())
    (row, *_) = record["tables"]["excess_loss_by_cell"]["rows"]
    low, high = row["test, 95 %"]
    assert low < row["test"] < high
