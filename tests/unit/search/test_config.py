from typing import Any

import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from finscale.core.errors import FinscaleError
from finscale.search.config import SearchConfig
from finscale.search.space import Dimension, SearchSpace


def test_inline_refuses_several_workers() -> None:
    with pytest.raises(FinscaleError, match=r"hpo.n_workers must be 1 where hpo.executor is inline, got 4"):
        SearchConfig.read({"executor": "inline", "n_workers": 4}, subject="hpo")
    assert (SearchConfig(executor="inline").n_slots, SearchConfig().n_slots) == (1, 2)
    assert SearchConfig(n_workers=3).n_slots == 3


@pytest.mark.parametrize(
    ("written", "n_sharing"),
    [
        ({}, 2),
        ({"executor": "inline"}, 1),
        ({"executor": "ray"}, 4),
        ({"executor": "ray", "n_workers": 3}, 3),
        ({"executor": "ray", "n_workers": 30}, 4),
        ({"executor": "ray", "n_workers": 30, "n_gpus": 0.5}, 2),
        ({"executor": "ray", "n_gpus": 1}, 1),
    ],
)
def test_a_device_is_shared_by_the_attempts_on_it_and_a_node_by_those_on_the_cores_given_to_us(
    monkeypatch: pytest.MonkeyPatch, written: dict[str, Any], n_sharing: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 128)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {4, 5, 6, 7}, raising=False)
    assert SearchConfig.read(written, subject="hpo").n_sharing == n_sharing


@pytest.mark.parametrize(
    ("written", "has_conditions", "chosen"),
    [
        ({}, False, "gp"),
        ({}, True, "tpe"),
        ({"pruner": "asha"}, False, "tpe"),
        ({"n_trials": 501}, False, "tpe"),
        ({"n_trials": 500}, False, "gp"),
        ({"sampler": "qmc", "pruner": "median", "n_trials": 900}, True, "qmc"),
    ],
)
def test_the_sampler_is_chosen_by_what_it_has_to_cope_with(
    written: dict, has_conditions: bool, chosen: str
) -> None:
    assert SearchConfig(**written).chosen_sampler(has_conditions=has_conditions) == chosen


@pytest.mark.parametrize("sampler", ["gp", "sample"])
def test_a_sampler_that_pruning_has_no_use_for_is_refused_beside_it(sampler: str) -> None:
    with pytest.raises(FinscaleError, match=rf"hpo.sampler must not be {sampler} .*set hpo.pruner=none"):
        SearchConfig.read({"sampler": sampler, "pruner": "median"}, subject="hpo")


def test_a_former_search_space_loads() -> None:
    former = {
        "lr": [1e-5, 1e-2],
        "epochs": [10, 200],
        "weight_decay": {"min": 1e-6, "max": 1e-2},
        "warmup": {"low": 0, "high": 1000, "step": 250},
        "batch_size": {"min": 32, "max": 256},
        "dropout": {"choices": [0.1]},
    }
    space = SearchConfig.read({"search_space": former}, subject="hpo").space.bind("patchtst")
    assert space.distributions() | {"dropout": None} == {
        "effective_batch_size": IntDistribution(32, 256),
        "learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        "epochs": IntDistribution(10, 200),
        "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
        "warmup_steps": IntDistribution(0, 1000, step=250),
        "dropout": None,
    }


def test_a_former_name_beside_its_present_one_is_refused() -> None:
    both = {"space": {"epochs": {"choices": [1]}}, "search_space": {"epochs": {"choices": [2]}}}
    with pytest.raises(FinscaleError, match=r"hpo.search_space must be left out beside space"):
        SearchConfig.read(both, subject="hpo")
    twice = {"space": {"lr": {"choices": [1e-3]}, "learning_rate": {"choices": [1e-3]}}}
    with pytest.raises(FinscaleError, match=r"hpo.space.lr must be left out beside learning_rate"):
        SearchConfig.read(twice, subject="hpo")


def test_a_config_survives_being_written_and_read() -> None:
    space = SearchSpace(
        momentum=Dimension(choices=(0.5, None), when={"optimizer": "sgd"}),
        optimizer=Dimension(choices=("adamw", "sgd")),
        epochs=None,
        linked=({"d_model": (64, 128), "epochs": (50, 100)},),
    )
    config = SearchConfig(n_trials=7, space=space)
    written = config.model_dump(mode="json", exclude_unset=True)
    assert SearchConfig.model_validate(written) == config
    assert SearchConfig.model_validate(written).space.bind("patchtst") == space.bind("patchtst")
