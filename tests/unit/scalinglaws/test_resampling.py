import numpy as np
import pytest
from scipy import optimize

from finscale.scalinglaws.exponent import profile_alpha
from finscale.scalinglaws.forms import ALPHA_BOUNDS
from finscale.scalinglaws.joint import (
    HUBER_DELTA,
    fit_joint,
    minimise_joint,
    predict_joint,
    theta_of,
)
from finscale.scalinglaws.joint_objective import JointProblem
from finscale.scalinglaws.resampling import bootstrap_joint, bootstrap_power_law, bootstrap_weights

LADDER = np.array([2e6, 6e6, 2e7, 6e7])
LOSS = 1 + 0.5 * (LADDER / LADDER[0]) ** -0.3 + np.array([0.02, -0.03, 0.01, 0.015])
TRUTH = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}


def joint_points(n_points: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(6, 9, n_points), 10 ** rng.uniform(8, 11, n_points)
    return n, d, predict_joint(TRUTH, n, d) * np.exp(rng.normal(0, 0.01, n_points))


def test_weights_are_positive_with_mean_one() -> None:
    weights = bootstrap_weights(4, n_draws=2000, rng=np.random.default_rng(0))
    assert weights.min() > 0
    assert weights.mean(axis=1) == pytest.approx(1.0)
    assert weights.var(axis=0) == pytest.approx(3 / 5, rel=0.15)


def test_no_draw_of_the_power_law_lies_above_scipys() -> None:
    weights = bootstrap_weights(4, n_draws=25, rng=np.random.default_rng(1))
    found = bootstrap_power_law(LADDER, LOSS, weights=weights)
    ratio = np.log(LADDER / LADDER[0])
    bounds = ([-np.inf, 0.0, ALPHA_BOUNDS[0]], [np.inf, np.inf, ALPHA_BOUNDS[1]])
    for row, objective in zip(weights, found.objective, strict=True):

        def residuals(p: np.ndarray, row: np.ndarray = row) -> np.ndarray:
            return np.sqrt(row) * (p[0] + p[1] * np.exp(-p[2] * ratio) - LOSS)

        starts = [(0.5, 0.5, alpha) for alpha in (0.05, 0.3, 1.0)]
        best = min(2 * optimize.least_squares(residuals, s, bounds=bounds, xtol=1e-15).cost for s in starts)
        assert objective <= best * (1 + 1e-9)


def test_a_draw_of_the_power_law_has_the_objective_that_its_numbers_give() -> None:
    weights = bootstrap_weights(4, n_draws=300, rng=np.random.default_rng(2))
    found = bootstrap_power_law(LADDER, LOSS, weights=weights)
    floor, scale, alpha = (column[:, None] for column in found.values.T)
    rss = (weights * (LOSS - floor - scale * LADDER**-alpha) ** 2).sum(axis=1)
    assert found.objective == pytest.approx(rss, rel=1e-6)
    assert found.values[:, 1].min() >= 0
    assert alpha.min() >= ALPHA_BOUNDS[0]
    assert alpha.max() <= ALPHA_BOUNDS[1]


def test_equal_weights_give_the_estimate_itself() -> None:
    found = bootstrap_power_law(LADDER, LOSS, weights=np.ones((1, 4)))
    assert found.values[0] == pytest.approx(found.estimate, rel=1e-6)
    assert found.objective[0] == pytest.approx(float(profile_alpha(LADDER, LOSS).line.rss), rel=1e-9)
    n, d, y = joint_points()
    joint = bootstrap_joint(n, d, y, fitted=fit_joint(n, d, y), weights=np.ones((1, 60)))
    assert joint.values[0] == pytest.approx(joint.estimate, rel=1e-5)


def test_many_draws_are_fitted_as_each_alone() -> None:
    weights = bootstrap_weights(4, n_draws=4100, rng=np.random.default_rng(3))
    together = bootstrap_power_law(LADDER, LOSS, weights=weights)
    for k in (0, 1999, 2000, 4099):
        alone = bootstrap_power_law(LADDER, LOSS, weights=weights[k : k + 1])
        assert alone.values[0] == pytest.approx(together.values[k], rel=1e-6)


def test_a_whole_weight_is_a_repeated_point() -> None:
    n, d, y = joint_points()
    counts = np.random.default_rng(4).integers(1, 4, 60)
    weighted = bootstrap_joint(n, d, y, fitted=fit_joint(n, d, y), weights=counts[None, :].astype(float))
    repeated = fit_joint(*(np.repeat(column, counts) for column in (n, d, y)))
    assert weighted.values[0] == pytest.approx(list(repeated.parameters.values()), rel=1e-4)
    assert weighted.objective[0] == pytest.approx(repeated.objective, rel=1e-9)


def test_every_draw_of_the_joint_law_converges_to_what_many_starts_find() -> None:
    n, d, y = joint_points()
    weights = bootstrap_weights(60, n_draws=600, rng=np.random.default_rng(5))
    found = bootstrap_joint(n, d, y, fitted=fit_joint(n, d, y), weights=weights)
    assert found.converged.mean() >= 0.99
    problem = JointProblem.of(n, d, y, huber_delta=HUBER_DELTA)
    for k in (0, 251, 599):
        laws = np.exp(np.random.default_rng(k).normal(0, 0.3, (30, 5))) * list(TRUTH.values())
        ends = minimise_joint(problem, theta_of(problem, laws), weights[k : k + 1])
        assert found.objective[k] <= ends.value.min() * (1 + 1e-9)


def test_intervals_are_percentiles_of_the_converged_draws() -> None:
    weights = bootstrap_weights(4, n_draws=500, rng=np.random.default_rng(6))
    draws = bootstrap_power_law(LADDER, LOSS, weights=weights)
    floor, _, alpha = draws.intervals(level=0.8)
    assert (floor.name, alpha.name) == ("E", "alpha")
    assert (alpha.low, alpha.high) == pytest.approx(tuple(np.quantile(draws.values[:, 2], [0.1, 0.9])))
    assert floor.estimate == draws.estimate[0]
