"""Experiments: what conf says is legal, and faults are told in one grammar."""

import datetime
from pathlib import Path

import pytest
import yaml

from finscale.core.errors import FinscaleError
from finscale.windows.experiment import DataConfig, ExperimentConfig

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_experiments.yml"
BLOCKS = yaml.safe_load(CONF.read_text())["experiments"]
RARE = {"spy_daily_threshold_2pct", "spy_daily_threshold_3pct", "spy_daily_threshold_5pct"}
DAILY = RARE | {"spy_daily_direction", "spy_daily_threshold_1pct"}


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_in_conf_is_an_experiment(name: str) -> None:
    experiment = ExperimentConfig.read({"name": name, **BLOCKS[name]}, subject=name)
    assert ExperimentConfig.model_validate_json(experiment.model_dump_json()) == experiment


@pytest.mark.parametrize("name", sorted(DAILY))
def test_the_published_experiments_name_their_data(name: str) -> None:
    experiment = ExperimentConfig.read({"name": name, **BLOCKS[name]}, subject=name)
    assert experiment.data.source == "sp500"
    assert "S&P 500 index of package arch (source sp500)" in experiment.title
    assert experiment.data.task == name.removeprefix("spy_daily_")
    assert experiment.data.allow_few_positives == (name in RARE)


FAULTS = {
    "unknown key": ({"data": {"tsk": "direction"}}, "x.data.tsk must be a known key", "did you mean 'task'?"),
    "horizon": ({"horizon": 3}, "x.horizon must be a known key", ""),
    "task": ({"data": {"task": "foo"}}, "data.task must be direction, regression", "use one of: classes"),
    "fractions": (
        {"data": {"split": {"fractions": [0.7, 0.2, 0.2]}}},
        "data.split.fractions must be three positive shares that sum to 1, got (0.7, 0.2, 0.2)",
        "try [0.7, 0.15, 0.15]",
    ),
    "empty share": ({"data": {"split": {"fractions": [1.0, 0.0, 0.0]}}}, "three positive shares", ""),
    "gap": ({"data": {"split": {"gap": -1}}}, "x.data.split.gap must", "-1"),
    "context": ({"data": {"context_length": 0}}, "x.data.context_length must", "0"),
    "path missing": ({"data": {"source": "file"}}, "data.path must be given where data.source is file", ""),
    "path unused": ({"data": {"path": "x.csv"}}, "data.path must be absent where data.source is sp500", ""),
    "touch unused": (
        {"data": {"task": "direction", "touch": "close"}},
        "data.touch must be left out where data.task is direction",
        "choose a threshold task",
    ),
    "horizons unused": (
        {"data": {"task": "direction", "horizons": [1, 5]}},
        "data.horizons must be left out where data.task is direction, got (1, 5)",
        "remove it, or choose quantile",
    ),
    "horizons out of order": (
        {"data": {"task": "quantile", "horizons": [5, 1]}},
        "data.horizons must be",
        "",
    ),
    "horizon of nothing": ({"data": {"task": "quantile", "horizons": [0, 1]}}, "data.horizons must be", ""),
    "levels unused": (
        {"data": {"task": "regression", "quantile_levels": [0.5]}},
        "data.quantile_levels must be left out where data.task is regression",
        "choose quantile",
    ),
    "levels outside": (
        {"data": {"task": "quantile", "quantile_levels": [0.5, 1.0]}},
        "data.quantile_levels must be increasing levels between 0 and 1, got (0.5, 1.0)",
        "",
    ),
    "columns unused": (
        {"data": {"task": "quantile", "target_columns": ["OT"]}},
        "data.target_columns must be left out where data.task is quantile",
        "choose forecast or classes",
    ),
    "column twice": (
        {"data": {"task": "forecast", "target_columns": ["OT", "OT"]}},
        "data.target_columns must name each column once",
        "",
    ),
    "gate unused": (
        {"data": {"task": "regression", "allow_few_positives": True}},
        "data.allow_few_positives must be left out where data.task is regression",
        "choose direction or a threshold task",
    ),
    "session of one bar": (
        {"data": {"context_reach": "session"}},
        "data.context_reach must be series where data.timescale is daily",
        "use intraday bars",
    ),
    "shortest too long": (
        {"data": {"context_length": 20, "min_context_length": 21}},
        "data.min_context_length must be at most data.context_length (20), got 21",
        "lengthen the context",
    ),
    "timescale": ({"data": {"timescale": "4d"}}, "x.data.timescale must be 'daily', '2d', '3d'", "'4d'"),
    "no date": (
        {"data": {"start": "May 2010"}},
        "data.start must be an ISO date without a time zone",
        "2010",
    ),
    "zoned date": ({"data": {"end": "2010-01-01T00:00+01:00"}}, "data.end must be an ISO date without", ""),
    "end before start": (
        {"data": {"start": "2012-01-01", "end": "2011-01-01"}},
        "data.end must not be before data.start (2012-01-01), got '2011-01-01'",
        "",
    ),
    "one date": ({"data": {"split": {"dates": ["2010-01-01"]}}}, "data.split.dates must be the first", ""),
    "dates out of order": (
        {"data": {"split": {"dates": ["2012-01-01", "2011-01-01"]}}},
        "data.split.dates must be the first session of validation, of test",
        "two or three increasing dates",
    ),
    "dates and fractions": (
        {"data": {"split": {"dates": ["2010-01-01", "2011-01-01"], "fractions": [0.6, 0.2, 0.2]}}},
        "data.split.dates must be the only division of the sessions, without data.split.fractions",
        "keep one of them",
    ),
    "walk-forward and fractions": (
        {"data": {"split": {"walk_forward": {"n_folds": 3}, "fractions": [0.6, 0.2, 0.2]}}},
        "data.split.walk_forward must be the only division of the sessions, without data.split.fractions",
        "keep one of them",
    ),
    "walk-forward and dates": (
        {"data": {"split": {"walk_forward": {"n_folds": 3}, "dates": ["2010-01-01", "2011-01-01"]}}},
        "without data.split.dates",
        "",
    ),
    "one fold": ({"data": {"split": {"walk_forward": {"n_folds": 1}}}}, "walk_forward.n_folds must", "1"),
    "embargo without effect": (
        {"data": {"split": {"walk_forward": {"n_folds": 3, "embargo": 5}}}},
        "data.split.walk_forward.embargo must be 0 where n_folds is 3",
        "use at least 4 folds",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_name_field_rule_and_remedy(case: str) -> None:
    block, rule, remedy = FAULTS[case]
    with pytest.raises(FinscaleError) as found:
        ExperimentConfig.read({"name": "x", "title": "t", **block}, subject="x")
    assert rule in str(found.value)
    assert remedy in str(found.value)


def test_a_record_survives_its_own_json() -> None:
    experiment = ExperimentConfig.read({"name": "x", **BLOCKS["spy_daily_direction"]})
    assert ExperimentConfig.model_validate_json(experiment.model_dump_json()) == experiment


def test_all_faults_of_a_block_are_told_at_once() -> None:
    data = {"task": "direction", "touch": "close", "horizons": [3], "source": "file", "context_length": 0}
    with pytest.raises(FinscaleError) as found:
        ExperimentConfig.read({"name": "x", "title": "t", "data": data}, subject="x")
    for subject in ("data.touch", "data.horizons", "data.path", "x.data.context_length"):
        assert subject in str(found.value)


def test_dates_may_come_from_yaml_json_or_a_command_line() -> None:
    typed = {"start": datetime.date(2010, 1, 4), "split": {"dates": "2012-01-03 2014-01-02T12:00"}}
    data = DataConfig.read(typed)
    assert (data.start, data.split.dates) == ("2010-01-04", ("2012-01-03", "2014-01-02T12:00:00"))
    assert DataConfig.model_validate_json(data.model_dump_json()) == data


@pytest.mark.parametrize(
    "data",
    [
        {"task": "quantile", "horizons": [1, 5, 20], "quantile_levels": [0.1, 0.5, 0.9]},
        {"task": "forecast", "target_columns": ["OT"], "timescale": "intraday"},
        {"timescale": "intraday", "context_reach": "session", "min_context_length": 5},
        {"split": {"walk_forward": {"n_folds": 4, "scheme": "rolling", "embargo": 5}}},
    ],
)
def test_settings_that_go_together_survive_their_own_json(data: dict[str, object]) -> None:
    config = DataConfig.read(data)
    assert DataConfig.model_validate_json(config.model_dump_json()) == config
