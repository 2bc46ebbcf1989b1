"""The smallest complete study: every artefact is there, says what ran, and running again changes nothing."""

import json
import os
import re

import pandas as pd
import pytest

from finscale.datasets.results import COLUMNS

CELLS = ["5K_h1", "20K_h1"]


def data(swept):
    return swept.folder / "data" / "test"


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_leaves_every_artefact_of_its_search_and_training(swept, cell):
    search = data(swept) / "06_models" / "hpo" / "sp500_test" / cell
    results = data(swept) / "07_model_output" / "sp500_test" / cell
    names = {path.name for path in search.iterdir()}
    assert {"study.db", "best_params.json", "trials.parquet", "search_summary.json"} <= names
    assert len(list((search / "trials").glob("trial_*.yaml"))) == 3
    # another test may be reproducing a trial of this cell at the same time
    made = {path.name for path in results.iterdir() if not path.name.startswith("reproduced_")}
    # the last two have no rows: the task is not quantile
    names = {"runs", "date_losses", "quantile_rows", "quantile_scores"}
    assert made == {f"{name}.parquet" for name in names}
    seeds = list((data(swept) / "06_models" / "training" / "sp500_test" / cell).glob("seed_*"))
    assert len(seeds) == 2
    for seed in seeds:
        assert {"run_spec.json", "result.json", "best.safetensors"} <= {path.name for path in seed.iterdir()}


@pytest.mark.parametrize("cell", CELLS)
def test_best_params_have_their_published_form(swept, cell):
    best = json.loads((data(swept) / "06_models/hpo/sp500_test" / cell / "best_params.json").read_text())
    assert best["architecture"].keys() == {"d_model", "n_layers", "n_heads", "d_ff", "param_count"}
    assert best["training"].keys() == {"learning_rate", "epochs", "weight_decay", "warmup_steps", "dropout"}
    assert best["batch_config"].keys() == {"batch_size", "accumulation_steps", "effective_batch_size"}
    assert best["n_trials"] == 3
    trials = pd.read_parquet(data(swept) / "06_models/hpo/sp500_test" / cell / "trials.parquet")
    assert best["best_val_loss"] == trials["value"].min()
    assert trials["number"].tolist() == [0, 1, 2]


def test_records_tell_what_was_executed(swept):
    runs = pd.read_parquet(data(swept) / "07_model_output/sp500_test/5K_h1/runs.parquet")
    assert set(runs["split"]) == {"val_select", "val_score", "test"}
    assert (runs["n_steps"] == 4).all()
    assert runs["flags"].map(lambda flags: "capped" in flags).all()
    assert ((runs["n_params"] - 5000).abs() <= 1250).all()
    assert runs["seed"].nunique() == 2
    assert (runs["effective_batch_size"] == 128).all()
    assert runs["excess_loss"].to_numpy() == pytest.approx(
        (runs["base_rate_loss"] - runs["log_loss"]).to_numpy()
    )


def test_losses_by_date_average_to_the_recorded_loss(swept):
    folder = data(swept) / "07_model_output/sp500_test/20K_h1"
    keys = ["seed", "split"]
    by_date = pd.read_parquet(folder / "date_losses.parquet").groupby(keys)["log_loss"].mean()
    recorded = pd.read_parquet(folder / "runs.parquet").set_index(keys)["log_loss"]
    pd.testing.assert_series_equal(by_date.sort_index(), recorded.sort_index(), check_names=False)


def test_the_results_log_has_one_row_per_trial_and_per_training(swept):
    log = pd.read_csv(data(swept) / "07_model_output/sp500_test/experiment_results.csv")
    of_the_sweep = log.head(10)  # what reproduced runs of other tests append comes later
    is_final = of_the_sweep["run_type"] == "final"
    assert of_the_sweep.groupby(["cell", is_final]).size().tolist() == [3, 2, 3, 2]
    assert log["run_id"].is_unique
    assert log["config_hash"].notna().all()


def test_every_row_of_the_results_log_says_when_what_ran_where_on_which_rows_and_beside_which_baselines(
    swept,
):
    log = pd.read_csv(data(swept) / "07_model_output/sp500_test/experiment_results.csv")
    unlike = {"number", "error", "flags"}
    of_finals = {name for name in COLUMNS if "val_score" in name or "test" in name} | {"number"}
    assert log[[name for name in COLUMNS if name not in unlike | of_finals]].notna().all(axis=None)
    assert log.loc[log["run_type"] == "final", sorted(of_finals - {"number"})].notna().all(axis=None)
    began, ended = (pd.to_datetime(log[name], format="ISO8601") for name in ("started_at", "finished_at"))
    assert str(began.dtype).endswith("UTC]")
    assert (began < ended).all()
    assert (ended - began).dt.total_seconds().ge(log["seconds"] - 0.1).all()
    assert log["baselines"].map(json.loads).map(lambda by_split: set(*by_split.values())).map(len).min() == 5


def test_the_report_is_self_contained_and_gives_its_verdict_first(swept):
    folder = data(swept) / "08_reporting" / "sp500_test"
    html = (folder / "report.html").read_text()
    summary = json.loads((folder / "scaling_summary.json").read_text())
    assert summary["verdict"] == "not_enough_data"
    assert summary["headline"] in html
    assert html.index(summary["headline"]) < html.index("<table")
    page = re.sub(r"(<script[^>]*>).*?</script>", r"\1", html, flags=re.DOTALL)
    assert "<script" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:|//)|@import|url\(\s*["']?(https?:|//)""", page)
    assert any("capped" in warning or "cut short" in warning for warning in summary["warnings"])


def test_running_a_finished_cell_again_trains_nothing_and_changes_no_record(swept):
    watched = [
        *(data(swept) / "07_model_output").rglob("*.parquet"),
        *(data(swept) / "06_models").rglob("best.safetensors"),
    ]
    before = {path: path.read_bytes() for path in watched}
    done = swept.kedro("run", "--env", "test", "--pipelines", "training", "--params", "budget=5K")
    assert done.code == 0, done.out
    assert "make_windows: unchanged, skipped" in done.out
    said = (
        "kedro run --env test --pipelines scaling_analysis --params experiment=sp500_test,budget=5K,horizon=1"
    )
    assert said in done.out
    assert {path: path.read_bytes() for path in watched} == before


def test_mlflow_holds_a_run_per_cell_and_a_nested_run_per_trial_and_seed(swept):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{swept.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("finscale")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    cells = [run for run in parents if "hpo" in run.data.tags["mlflow.runName"]]
    assert {run.data.tags["cell"] for run in cells} == set(CELLS)
    for parent in cells:
        nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        kinds = [run.data.tags["kind"] for run in nested]
        assert len(nested) == 5
        assert kinds.count("final") == 2
        assert parent.data.params["hpo.n_trials"] == "3"
        assert all(run.info.status == "FINISHED" for run in nested)
    assert not [run for run in runs if run.info.status == "RUNNING"]


def test_a_trial_file_is_reproduced_exactly_and_is_no_result_of_the_cell(swept):
    search = data(swept) / "06_models/hpo/sp500_test/5K_h1"
    trials = pd.read_parquet(search / "trials.parquet")
    spec = search / "trials" / "trial_0001.yaml"
    runs_before = (data(swept) / "07_model_output/sp500_test/5K_h1/runs.parquet").read_bytes()
    done = swept.kedro("run", "--env", "test", "--pipelines", "training", "--params", f"run_spec={spec}")
    assert done.code == 0, done.out
    again = pd.read_parquet(data(swept) / "07_model_output/sp500_test/5K_h1/reproduced_runs.parquet")
    loss = again.loc[again["split"] == "val_select", "log_loss"].item()
    assert loss == pytest.approx(trials.loc[1, "value"], abs=1e-9)
    assert (data(swept) / "07_model_output/sp500_test/5K_h1/runs.parquet").read_bytes() == runs_before


def test_no_file_is_written_outside_the_data_folder(swept):
    allowed = {
        "data",
        "conf",
        "src",
        "mlflow.db",
        "mlartifacts",
        "pyproject.toml",
        ".telemetry",
        ".mlflow.lock",
        ".viz",
    }
    made = set(os.listdir(swept.folder)) - {"sweep.log", "interrupted.log"}
    assert made <= allowed
