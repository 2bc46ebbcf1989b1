"""A user's mistake is one screen of text with a remedy, a failing exit code, and nothing downstream."""

from pathlib import Path

import pandas as pd
import pytest

FIXTURE = Path(__file__).parents[1] / "fixtures" / "spy_daily_300.csv"


def files_of(project) -> list[str]:
    return sorted(
        str(path.relative_to(project.folder))
        for path in (project.folder / "data").rglob("*")
        if path.is_file()
    )


TYPED = {
    "budegt=20M": "budegt must be a known parameter, got '20M'; did you mean 'budget'?",
    "budget=30X": "budget must be a parameter count with K, M or B, got '30X'; write it like 20K",
    "budget=../../x": "budget must be a parameter count with K, M or B, got '../../x'",
    "horizon=0": "horizon must be a whole number of bars from 1 to 10000, got 0; try horizon=1",
    "data.task=foo": "data.task must be direction, regression, quantile, forecast, classes, or threshold_",
    "budget=30X,horizon=0,hpo.n_trails=3": "3 faults:",
    "experiment=../x": "experiment must be",
    "run_spec=absent.json": "absent.json must be a readable file",
}


@pytest.mark.parametrize("params", TYPED)
def test_a_faulty_parameter_is_explained_and_nothing_is_written(project, params):
    done = project.kedro("run", "--params", params)
    assert done.code == 1
    assert TYPED[params] in done.out
    assert "Traceback" not in done.out
    assert len(done.out.splitlines()) < 40
    assert files_of(project) == []


def spoil(bars: pd.DataFrame, how: str) -> pd.DataFrame:
    if how == "nan":
        bars.loc[10, "high"] = float("nan")
    elif how == "duplicate":
        bars.loc[11, "date"] = bars.loc[10, "date"]
    elif how == "unsorted":
        bars = bars.iloc[::-1]
    elif how == "negative":
        bars.loc[10, "low"] = -1.0
    elif how == "missing column":
        bars = bars.drop(columns="close")
    elif how == "one row":
        bars = bars.head(1)
    return bars


BARS = {
    "nan": "high",
    "duplicate": "unique",
    "unsorted": "increas",
    "negative": "low",
    "missing column": "close",
    "one row": "row",
}


@pytest.mark.parametrize("how", BARS)
def test_faulty_bars_are_refused_at_the_door(project, how):
    path = project.folder / "bars.csv"
    spoil(pd.read_csv(FIXTURE, comment="#"), how).to_csv(path, index=False)
    done = project.kedro("run", "--params", f"data.source=file,data.path={path}")
    assert done.code == 1
    assert "Error: " in done.out
    message = done.out[done.out.rindex("Error: ") :]
    assert " must " in message
    assert BARS[how] in message
    assert "Traceback" not in done.out
    assert files_of(project) == []


@pytest.mark.parametrize(("env", "device"), [("colab_a100", "cuda"), ("local_mps", "mps")])
def test_an_environment_without_its_device_stops_before_anything_is_written(project, env, device):
    import torch

    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has an MPS device")
    done = project.kedro("run", "--env", env)
    assert done.code == 1
    assert f"got '{device}'" in done.out
    assert "--params device=cpu" in done.out
    assert files_of(project) == []


def test_training_without_a_search_names_the_command_that_makes_one(project):
    done = project.kedro("run", "--env", "test", "--pipelines", "training")
    assert done.code == 1
    assert "kedro run --pipelines hpo --params budget=5K,horizon=1" in done.out
    assert "allow_defaults=true" in done.out


def test_an_unknown_pipeline_is_answered_with_the_nearest(project):
    done = project.kedro("run", "--pipelines", "trainig")
    assert done.code == 1
    assert "training" in done.out
    assert "Traceback" not in done.out
