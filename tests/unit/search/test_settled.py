"""All of a space is known to work, or its faults are told at once, before the first trial."""

from typing import Any

import pandas as pd
import pytest

from finscale.archgrid.base import grid_base
from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.errors import FinscaleError
from finscale.search.settled import Settled, settle
from finscale.search.space import SearchSpace
from finscale.training.config import SharedTraining
from finscale.windows.experiment import DataConfig, ExperimentConfig

FEATURES = ("a", "b")
SGD = {"optimizer": {"choices": ["adamw", "sgd"]}}


@pytest.fixture(scope="module")
def grid() -> pd.DataFrame:
    base = grid_base("transformer", {})
    return enumerate_grid(300_000, n_features=2, context_length=20, base=base).iloc[:5]


@pytest.fixture
def settled(grid: pd.DataFrame) -> Any:
    def make(space: dict[str, Any], **given: Any) -> Settled:
        data = DataConfig(context_length=20)
        return settle(
            SearchSpace.read(space, subject="hpo.space"),
            experiment=ExperimentConfig(name="tiny", title="Tiny", data=data, model_family="transformer"),
            grid=grid,
            features=FEATURES,
            tolerance=0.25,
            training_defaults={**SharedTraining().model_dump(), **given},
        )

    return make


def faults_of(settled: Any, space: dict[str, Any], **given: Any) -> list[str]:
    with pytest.raises(FinscaleError) as caught:
        settled(space, **given)
    return [str(fault) for fault in caught.value.faults or (caught.value,)]


def test_every_two_choices_that_do_not_go_together_are_told_once(settled: Any) -> None:
    space = {
        **SGD,
        "momentum": {"choices": [0.5, 0.9]},
        "schedule": {"choices": ["cosine", "exponential", "onecycle"]},
        "warmup_steps": {"choices": [0, 100, 200]},
    }
    found = faults_of(settled, space)
    assert [fault.partition(",")[0] for fault in found] == [
        "momentum must be left out where optimizer=adamw",
        "momentum must be left out where optimizer=adamw",
        "decay_per_epoch must be given for schedule=exponential",
        "warmup_steps must be at least 2 where schedule=onecycle",
    ]


def test_the_worst_pair_is_found_though_neither_value_is_typical(settled: Any) -> None:
    space = {
        "schedule": {"choices": ["cosine", "onecycle"]},
        "warmup_steps": {"choices": [0, 100, 200, 300]},
    }
    assert len(faults_of(settled, space)) == 1


def test_conditions_make_a_sound_space_of_it(settled: Any) -> None:
    settled(
        {
            **SGD,
            "momentum": {"choices": [0.5, 0.9], "when": {"optimizer": "sgd"}},
            "nesterov": {"choices": [True, False], "when": {"momentum": [0.9]}},
            "schedule": {"choices": ["cosine", "exponential"]},
            "decay_per_epoch": {"low": 0.8, "high": 0.99, "when": {"schedule": "exponential"}},
        }
    )


def test_a_fault_behind_a_chain_of_conditions_is_found(settled: Any) -> None:
    space = {
        **SGD,
        "momentum": {"choices": [0.5, 0.9], "when": {"optimizer": "sgd"}},
        "nesterov": {"choices": [False, True], "when": {"momentum": 0.9}},
        "betas": {"choices": [[0.9, 0.95]], "when": {"nesterov": True}},
    }
    (fault,) = faults_of(settled, space)
    assert fault.startswith("betas must be left out where optimizer=sgd")


def test_a_fault_that_only_some_candidates_meet_is_found(settled: Any) -> None:
    space = {
        "norm": {"choices": ["layer_norm", "rms_norm"]},
        "momentum": {"choices": [0.9], "when": {"norm": "rms_norm"}},
    }
    (fault,) = faults_of(settled, space)
    assert fault.startswith("momentum must be left out where optimizer=adamw")


def test_a_linked_group_is_judged_index_by_index(settled: Any) -> None:
    linked = {"optimizer": ["adamw", "sgd"], "momentum": [None, 0.9]}
    settled({"linked": [linked]})
    (fault,) = faults_of(settled, {"linked": [{**linked, "momentum": [0.9, None]}]})
    assert fault.startswith("momentum must be left out where optimizer=adamw")


def test_what_every_training_shares_is_judged_with_what_is_searched(settled: Any) -> None:
    (fault,) = faults_of(settled, SGD, betas=(0.9, 0.95))
    assert fault.startswith("betas must be left out where optimizer=sgd")
    (fault,) = faults_of(settled, {}, patiense=3)
    assert "patiense must be a known key" in fault


def test_a_sound_space_is_bound_and_expanded(settled: Any, grid: pd.DataFrame) -> None:
    found = settled({"norm": {"choices": ["layer_norm", "rms_norm"]}})
    assert found.space.row_names == ("norm",)
    assert len(found.candidates.table) == 2 * len(grid)
