import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from finscale.core.errors import FinscaleError
from finscale.search.config import SearchConfig
from finscale.search.space import SearchSpace, center, draw, n_values, values_of

DEFAULT = SearchSpace().distributions()


def faults_of(space: dict) -> str:
    with pytest.raises(FinscaleError) as caught:
        SearchConfig.read({"space": space}, subject="hpo")
    return str(caught.value)


def test_the_default_space_is_the_published_one() -> None:
    assert dict(DEFAULT) == {
        "learning_rate": FloatDistribution(1e-4, 1e-3, log=True),
        "epochs": CategoricalDistribution((50, 75, 100)),
        "weight_decay": FloatDistribution(1e-4, 5e-3, log=True),
        "warmup_steps": CategoricalDistribution((100, 200, 300, 500)),
        "dropout": FloatDistribution(0.1, 0.3),
    }


def test_every_faulty_dimension_is_reported_at_once() -> None:
    message = faults_of(
        {
            "learning_rate": {"low": 0.0, "high": 1e-3, "log": True},
            "epochs": {"choices": []},
            "weight_decay": {"low": 5e-3, "high": 1e-4},
            "warmup_stepz": {"choices": [100]},
            "dropout": {"low": 0.1, "high": 1.0},
        }
    )
    for part in ("low > 0 where log", "at least one choice", "low < high", "'warmup_steps'", "[0, 1)"):
        assert part in message
    assert message.startswith("5 faults")


@pytest.mark.parametrize(
    ("dimension", "rule"),
    [
        ({}, "have choices, or both low and high"),
        ({"low": 0.1}, "both low and high"),
        ({"choices": [0.1], "low": 0.1}, "not both"),
        ({"choices": [0.1, 0.1]}, "each choice once"),
        ({"low": 0.1, "high": 0.1}, "low < high"),
        ({"low": 0.1, "high": 0.3, "step": 0.5}, "step above 0 that divides"),
        ({"low": 0.1, "high": 0.35, "step": 0.1}, "step above 0 that divides"),
        ({"low": 0.1, "high": 0.3, "step": -0.1}, "step above 0 that divides"),
        ({"low": 0.1, "high": 0.3, "step": 0.1, "log": True}, "either log or step"),
        ({"low": 0.1, "high": float("inf")}, "[0, 1)"),
    ],
)
def test_a_dimension_names_its_broken_rule(dimension: dict, rule: str) -> None:
    message = faults_of({"dropout": dimension})
    assert message.startswith("hpo.space.dropout must")
    assert rule in message


def test_epochs_and_warm_up_must_be_whole_numbers() -> None:
    assert "whole numbers" in faults_of({"epochs": {"choices": [50.5]}})
    assert "whole numbers" in faults_of({"warmup_steps": {"low": 0, "high": 100, "step": 0.5}})
    assert SearchSpace(epochs={"low": 10.0, "high": 20.0}).distributions()["epochs"] == IntDistribution(
        10, 20
    )


DISTRIBUTIONS = st.sampled_from(
    [
        *DEFAULT.values(),
        IntDistribution(10, 200, log=True),
        IntDistribution(0, 1000, step=250),
        IntDistribution(1, 3),
        FloatDistribution(0.1, 0.3, step=0.1),
    ]
)


@given(DISTRIBUTIONS, st.integers(0, 2**32))
def test_drawn_and_central_values_belong_to_the_distribution(distribution, seed: int) -> None:
    values = values_of(distribution)
    for value in (draw(distribution, np.random.default_rng(seed)), center(distribution)):
        assert distribution._contains(distribution.to_internal_repr(value))
        assert type(value) in (int, float)
        assert getattr(distribution, "log", False) or values is None or value in values


def test_log_draws_are_uniform_over_decades() -> None:
    rng = np.random.default_rng(0)
    draws = [draw(FloatDistribution(1e-4, 1.0, log=True), rng) for _ in range(4000)]
    shares = np.histogram(np.log10(draws), bins=4, range=(-4, 0))[0] / 4000
    assert shares == pytest.approx([0.25] * 4, abs=0.03)


def test_finite_distributions_are_counted() -> None:
    assert [n_values(found) for found in DEFAULT.values()] == [math.inf, 3, math.inf, 4, math.inf]
    assert n_values(IntDistribution(0, 10, step=5)) == 3


def test_inline_refuses_several_workers() -> None:
    with pytest.raises(FinscaleError, match=r"hpo.n_workers must be 1 where hpo.executor is inline, got 4"):
        SearchConfig.read({"executor": "inline", "n_workers": 4}, subject="hpo")
    assert (SearchConfig(executor="inline").n_slots, SearchConfig().n_slots) == (1, 2)
    assert SearchConfig(n_workers=3).n_slots == 3
