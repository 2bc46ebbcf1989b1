"""Experiments: what conf says is legal, and faults are told in one grammar."""

from pathlib import Path

import pytest
import yaml

from finscale.core.errors import FinscaleError
from finscale.windows.experiment import ExperimentConfig

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_experiments.yml"
BLOCKS = yaml.safe_load(CONF.read_text())["experiments"]
RARE = {"spy_daily_threshold_2pct", "spy_daily_threshold_3pct", "spy_daily_threshold_5pct"}


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_in_conf_is_an_experiment_that_names_its_data(name: str) -> None:
    experiment = ExperimentConfig.read({"name": name, **BLOCKS[name]}, subject=name)
    assert experiment.data.source == "sp500"
    assert "S&P 500 index of package arch (source sp500)" in experiment.title
    assert experiment.data.task == name.removeprefix("spy_daily_")


def test_exactly_the_rare_rises_allow_few_positives() -> None:
    assert {n for n, block in BLOCKS.items() if block["data"].get("allow_few_positives")} == RARE
    assert set(BLOCKS) == RARE | {"spy_daily_direction", "spy_daily_threshold_1pct"}


FAULTS = {
    "unknown key": ({"data": {"tsk": "direction"}}, "x.data.tsk must be a known key", "did you mean 'task'?"),
    "horizon": ({"horizon": 3}, "x.horizon must be a known key", ""),
    "task": ({"data": {"task": "foo"}}, "data.task must be direction, or", "use one of: direction"),
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
