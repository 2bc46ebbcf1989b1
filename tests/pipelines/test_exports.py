"""What a cell leaves for others to run: seeds that score bars, a tracked model, exports."""

import json
import warnings

import mlflow
import pandas as pd
import pytest

import finscale
from finscale.datasets.bars import BarsDataset
from finscale.windows.origins import ORIGIN


@pytest.fixture
def sp500() -> pd.DataFrame:
    return BarsDataset(source={"kind": "arch", "symbol": "sp500"}).load()


def trainings(swept, cell):
    return swept.folder / "data/test/06_models/training/sp500_test" / cell


@pytest.mark.parametrize("cell", ["5K_h1", "20K_h1"])
def test_a_seed_repeats_its_recorded_forecasts_from_the_bars_alone(swept, sp500, cell):
    recorded = pd.read_parquet(
        swept.folder / f"data/test/07_model_output/sp500_test/{cell}/date_losses.parquet"
    )
    folders = {
        json.loads((path / "run_spec.json").read_text())["seed"]: path
        for path in trainings(swept, cell).glob("seed_*")
    }
    assert len(folders) == 2
    for seed, rows in recorded.groupby("seed"):
        said = rows[[*ORIGIN]].merge(finscale.predict(folders[seed], sp500), on=list(ORIGIN), how="left")
        assert said["probability"].tolist() == rows["probability"].tolist()


def test_the_best_seed_is_tracked_as_a_model_that_scores_bars(swept, sp500):
    mlflow.set_tracking_uri(f"sqlite:///{swept.folder}/mlflow.db")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("finscale")
    runs = client.search_runs([experiment.experiment_id], "tags.cell = '5K_h1'", max_results=1000)
    found = [run.info.run_id for run in runs if run.outputs and run.outputs.model_outputs]
    assert found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mlflow.pyfunc.load_model(f"runs:/{found[0]}/winner")
    results = {
        path: json.loads((path / "result.json").read_text())
        for path in trainings(swept, "5K_h1").glob("seed_*")
    }
    best = min(results, key=lambda path: results[path]["best_val_loss"])
    said = model.predict(sp500.reset_index())
    pd.testing.assert_frame_equal(said, finscale.predict(best, sp500), check_exact=True)
    assert model.metadata.signature.inputs.required_input_names() == [
        "session",
        "open",
        "high",
        "low",
        "close",
    ]
    assert model.metadata.signature.outputs.input_names() == [*said.columns]


def test_exports_are_written_for_every_seed_when_asked_for(swept):
    spec = next(trainings(swept, "20K_h1").glob("seed_*")) / "run_spec.json"
    asked = f"run_spec={spec},training.export=onnx dropout"
    done = swept.kedro("run", "--env", "test", "--pipelines", "training", "--params", asked)
    assert done.code == 0, done.out
    (manifest,) = json.loads((trainings(swept, "20K_h1") / "reproduced_exports.json").read_text())
    (folder,) = trainings(swept, "20K_h1").glob("run_spec_*/export")
    assert json.loads((folder / "export.json").read_text()) == manifest
    assert [export["kind"] for export in manifest["exports"]] == ["onnx", "dropout"]
    assert (folder / "onnx/model.onnx").stat().st_size == manifest["exports"][0]["files"][0]["n_bytes"]
    assert json.loads((trainings(swept, "20K_h1") / "exports.json").read_text()) == []


def test_an_export_that_no_model_of_the_experiment_has_is_refused_before_anything_is_written(project):
    done = project.kedro(
        "run", "--env", "test", "--pipelines", "training", "--params", "training.export=generative"
    )
    assert done.code == 1
    assert "training.export generative must have a causal transformer" in done.out
    assert "Traceback" not in done.out
    assert not (project.folder / "data/test").exists()
