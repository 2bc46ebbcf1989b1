"""Intervals that say nothing, or too much, are flagged; honest ones are not."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from finscale.training.interval_monitor import horizon_health, interval_flags

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
TRUE = norm.ppf(LEVELS)
N = 2000

Vector = NDArray[np.float64]


def flags(q: Any, y: Vector | None = None, *, horizon: int = 1, levels: tuple[float, ...] = LEVELS) -> Any:
    """The flags of quantiles of a standard normal law whose training rows were 4000 draws of it."""
    random = np.random.default_rng(0)
    train, outcomes = random.standard_normal(4000), random.standard_normal(N)
    y = outcomes if y is None else y
    said = np.broadcast_to(q, (len(y), len(levels)))
    health = horizon_health(y, np.array(said), train=train, levels=levels, horizon=horizon)
    return interval_flags([health])


def wobble(size: float = 0.2) -> Vector:
    return size * np.random.default_rng(1).standard_normal((N, 1))


def test_honest_quantiles_raise_nothing_and_climatology_is_only_constant() -> None:
    assert flags(TRUE + wobble()) == ()
    assert flags(TRUE * np.exp(wobble(0.5))) == ()
    assert flags(TRUE) == ("constant",)
    assert flags(TRUE[[1]], levels=(0.25,)) == ("constant",)


@pytest.mark.parametrize(
    "q",
    [
        pytest.param(0.1 * TRUE + wobble(0.05), id="narrow"),
        pytest.param(TRUE + 4 + wobble(), id="elsewhere"),
        pytest.param(6 * TRUE + wobble(), id="wide"),
        pytest.param(0 * TRUE, id="a point"),
        pytest.param(TRUE + 0.3, id="constant and shifted"),
        pytest.param(1.6 * TRUE, id="constant and too wide"),
    ],
)
def test_intervals_that_say_nothing_have_collapsed(q: Any) -> None:
    assert flags(q) == ("collapsed",)


def test_narrow_intervals_that_cover_most_of_a_calm_market_but_not_as_named_have_collapsed() -> None:
    calm = 0.3 * np.random.default_rng(7).standard_normal(N)
    assert flags(0.2 * TRUE + wobble(0.01), calm) == ("collapsed",)
    assert flags(0.28 * TRUE + wobble(0.01), calm) == ()


def test_narrow_intervals_that_cover_as_they_should_are_skill_too_good_and_no_collapse() -> None:
    y = np.random.default_rng(2).standard_normal(N)
    sharp = y[:, None] + 0.1 * np.random.default_rng(3).standard_normal((N, 1)) + 0.1 * TRUE
    assert flags(sharp, y) == ("suspicious_skill",)


def test_a_wilder_market_is_no_collapse() -> None:
    wild = 1.8 * np.random.default_rng(4).standard_normal(N)
    assert flags(TRUE + wobble(), wild) == ()


@pytest.mark.parametrize(("correlation", "expected"), [(0.1, ()), (0.35, ("suspicious_skill",))])
def test_skill_of_the_median_is_suspicious_beyond_a_correlation_of_about_a_fifth(
    correlation: float, expected: tuple[str, ...]
) -> None:
    random = np.random.default_rng(5)
    signal = random.standard_normal(N)
    y = correlation * signal + np.sqrt(1 - correlation**2) * random.standard_normal(N)
    q = correlation * signal[:, None] + np.sqrt(1 - correlation**2) * TRUE
    assert flags(q, y) == expected
    # too few windows that do not overlap, or no median: nothing is asked
    assert flags(q, y, horizon=9) == ()
    assert flags(q[:, [0, 1, 3, 4]], y, levels=(0.05, 0.25, 0.75, 0.95)) == ()


def test_knowing_the_volatility_is_not_suspicious() -> None:
    random = np.random.default_rng(6)
    sigma = np.exp(0.6 * random.standard_normal(N))
    assert flags(sigma[:, None] * TRUE, sigma * random.standard_normal(N)) == ()


def test_one_collapsed_horizon_is_enough_and_all_must_be_constant() -> None:
    random = np.random.default_rng(0)
    train, y = random.standard_normal(4000), random.standard_normal(N)
    good, still, bad = (
        horizon_health(y, np.array(np.broadcast_to(q, (N, 5))), train=train, levels=LEVELS, horizon=1)
        for q in (TRUE + wobble(), TRUE, 0 * TRUE)
    )
    assert interval_flags([good, bad]) == interval_flags([still, bad]) == ("collapsed",)
    assert interval_flags([good, still]) == ()
    assert interval_flags([still, still]) == ("constant",)
