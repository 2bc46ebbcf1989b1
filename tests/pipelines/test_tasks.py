"""A task that is no yes-or-no question goes from search to report in its own loss."""

import json

import pandas as pd
import pytest


def test_a_quantile_cell_is_searched_trained_and_judged_in_pinball_loss(project):
    chosen = "experiment=sp500_test_quantiles,budget=20K,horizon=3"
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
    _check_quantiles(found.parent, pd.read_parquet(found))
    _check_section(reports.parent, record)


def _check_quantiles(folder, runs):
    """All horizons, raw and calibrated, stand beside climatology; the offsets are on the record."""
    rows, scores = (pd.read_parquet(folder / f"quantile_{name}.parquet") for name in ("rows", "scores"))
    assert set(rows["horizon"]) == set(scores["horizon"]) == {1, 3}
    assert set(zip(rows["forecast"], rows["calibrated"], strict=True)) == {
        ("model", False),
        ("model", True),
        ("climatology", False),
        ("scaled_climatology", False),
    }
    raw = scores.query("forecast == 'model' and not calibrated and horizon == 3 and regime == 'all'")
    tested = runs[runs["split"] == "test"].set_index("seed")
    assert raw.set_index("seed")["pinball_loss"].to_dict() == pytest.approx(tested["pinball_loss"].to_dict())
    (found,) = json.loads(tested["calibration"].iloc[0])
    assert (found["split"], found["horizons"], len(found["offsets"])) == ("val_score", [1, 3], 2)


def _check_section(folder, record):
    """The report shows the cell's quantiles at every trained horizon; its figures stand alone beside it."""
    assert list(record["quantiles"]) == ["20K_h3"]
    said, *_ = record["quantiles"]["20K_h3"]["sentences"]
    assert "at horizon 3 its calibrated quantiles" in said
    names = [
        f"{name}_20K_h3_h{horizon}" for name in ("quantile_fan", "reliability", "pit") for horizon in (1, 3)
    ]
    page, files = (folder / "report.html").read_text(), {path.stem for path in folder.rglob("figures/*.json")}
    assert {*names, "coverage_20K_h3", "width_20K_h3"} <= files
    assert all(f'id="{name}"' in page for name in names)
