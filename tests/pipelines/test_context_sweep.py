"""The command as a user types it: a cell's model with each context kept, again without work, and mistakes."""

import json

import pandas as pd

RUN = ("run", "--env", "test", "--pipelines", "context_sweep")
KEPT = ("--params", "allow_defaults=true,context_sweep.seeds=0,training.max_steps=1")


def test_a_sweep_leaves_table_verdict_figure_and_page_and_a_second_one_trains_nothing(project):
    done = project.kedro(*RUN, *KEPT)
    assert done.code == 0, done.out
    assert "Context sweep of 5K_h1" in done.out
    data = project.folder / "data/test"
    scores = pd.read_parquet(data / "07_model_output/sp500_test/5K_h1/context_scores.parquet")
    assert set(zip(scores["kind"], scores["context_length"], scores["seed"], strict=True)) == {
        *(("trained", 10, 0), ("trained", 20, 0), ("hidden", 10, 0)),
    }
    assert all("allow_defaults" in flags for flags in scores["flags"])
    folder = data / "08_reporting/sp500_test/context_sweep/5K_h1"
    verdict = json.loads((folder / "verdict.json").read_text())
    assert [split["split"] for split in verdict["splits"]] == ["val_score", "test"]
    assert "context_5K_h1" in (folder / "context_sweep.html").read_text()
    assert json.loads((folder / "section.json").read_text())["figures"]
    results = sorted((data / "06_models/context_sweep/sp500_test/5K_h1").rglob("result.json"))
    assert [path.parent.parent.name for path in results] == ["bars_10", "bars_20"]
    before = [path.stat().st_mtime_ns for path in results]
    again = project.kedro(*RUN, *KEPT)
    assert again.code == 0, again.out
    assert [path.stat().st_mtime_ns for path in results] == before
    assert json.loads((folder / "verdict.json").read_text()) == verdict


def test_faulty_lengths_are_told_all_at_once_before_anything_is_written(project):
    asked = "allow_defaults=true,context_sweep.context_lengths=5 10 10 13 33"
    done = project.kedro(*RUN, "--params", asked)
    assert done.code == 1
    parts = ("4 faults", "named once each", "one patch of 10 bars, got 5", "at most the 20 bars", "try 15")
    assert all(part in done.out for part in parts), done.out
    assert list((project.folder / "data").rglob("*.parquet")) == []
