import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from finscale.search.dimensions import (
    Dimension,
    broken_rules,
    center,
    choice_key,
    distribution,
    draw,
    n_values,
    values_of,
)
from finscale.search.space import PUBLISHED_SPACE

PUBLISHED = [distribution(found, whole=False) for found in PUBLISHED_SPACE.values()]


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ({}, "have choices, or both low and high"),
        ({"low": 0.1}, "both low and high"),
        ({"choices": []}, "at least one choice"),
        ({"choices": [0.1], "low": 0.1}, "not both"),
        ({"choices": [1, 1.0]}, "each choice once"),
        ({"low": 0.1, "high": 0.1}, "low < high"),
        ({"low": 0.2, "high": 0.1}, "low < high"),
        ({"low": 0.0, "high": 0.1, "log": True}, "low > 0 where log"),
        ({"low": 0.1, "high": 0.3, "step": 0.5}, "step above 0 that divides"),
        ({"low": 0.1, "high": 0.35, "step": 0.1}, "step above 0 that divides"),
        ({"low": 0.1, "high": 0.3, "step": -0.1}, "step above 0 that divides"),
        ({"low": 0.1, "high": 0.3, "step": 0.1, "log": True}, "either log or step"),
        ({"low": 0.1, "high": float("inf")}, "finite ends"),
    ],
)
def test_a_dimension_names_its_broken_rule(written: dict, rule: str) -> None:
    assert any(rule in broken for broken in broken_rules(Dimension(**written), whole=False))


def test_sound_dimensions_break_no_rule() -> None:
    choices = Dimension(choices=(1, True, "one", None, [1], [True]), when={"other": 1})
    assert not list(broken_rules(choices, whole=False))
    assert not list(broken_rules(Dimension(low=1, high=5, step=2), whole=True))
    assert list(broken_rules(Dimension(low=1, high=5.5), whole=True)) == ["hold whole numbers"]


def test_whole_numbers_make_an_integer_range() -> None:
    assert distribution(Dimension(low=10.0, high=20.0), whole=True) == IntDistribution(10, 20)
    assert distribution(Dimension(low=10.0, high=20.0), whole=False) == FloatDistribution(10, 20)


DISTRIBUTIONS = st.sampled_from(
    [
        *PUBLISHED,
        IntDistribution(10, 200, log=True),
        IntDistribution(0, 1000, step=250),
        IntDistribution(1, 3),
        FloatDistribution(0.1, 0.3, step=0.1),
        CategoricalDistribution(("adamw", None, True)),
    ]
)


@given(DISTRIBUTIONS, st.integers(0, 2**32))
def test_drawn_and_central_values_belong_to_the_distribution(found, seed: int) -> None:
    values = values_of(found)
    for value in (draw(found, np.random.default_rng(seed)), center(found)):
        assert found._contains(found.to_internal_repr(value))
        assert getattr(found, "log", False) or values is None or value in values


def test_the_center_is_the_lower_median_of_numbers_and_the_first_of_words() -> None:
    assert center(CategoricalDistribution((500, 100, 300, 200))) == 200
    assert center(CategoricalDistribution(("sgd", "adamw", "adam"))) == "sgd"
    assert center(FloatDistribution(1e-4, 1e-2, log=True)) == pytest.approx(1e-3)


def test_log_draws_are_uniform_over_decades() -> None:
    rng = np.random.default_rng(0)
    draws = [draw(FloatDistribution(1e-4, 1.0, log=True), rng) for _ in range(4000)]
    shares = np.histogram(np.log10(draws), bins=4, range=(-4, 0))[0] / 4000
    assert shares == pytest.approx([0.25] * 4, abs=0.03)


def test_finite_distributions_are_counted() -> None:
    assert [n_values(found) for found in PUBLISHED] == [math.inf, 3, math.inf, 4, math.inf]
    assert n_values(IntDistribution(0, 10, step=5)) == 3


def test_equal_choices_share_a_key_and_others_do_not() -> None:
    assert choice_key(1) == choice_key(1.0)
    assert choice_key((1, 2)) == choice_key([1, 2])
    assert len({choice_key(value) for value in (1, True, "1", None, [1], "true")}) == 6
