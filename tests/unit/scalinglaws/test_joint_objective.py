import numpy as np
import pytest

from finscale.scalinglaws.joint import law_of, theta_of
from finscale.scalinglaws.joint_objective import JointProblem

THETA = np.array([[0.1, 0.2, 0.3, 0.4, 0.35], [-1.0, 0.0, 0.5, 0.3, 0.2], [0.4, -30.0, 0.2, 1.2, 0.9]])


def problem(huber_delta: float) -> JointProblem:
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(6, 9, 30), 10 ** rng.uniform(8, 11, 30)
    loss = (1.7 + 400 / n**0.34 + 410 / d**0.28) * np.exp(rng.normal(0, 0.01, 30))
    return JointProblem.of(n, d, loss, huber_delta=huber_delta)


@pytest.mark.parametrize("huber_delta", [0.05, np.inf])
@pytest.mark.parametrize("which", range(5))
def test_the_derivatives_are_those_of_finite_differences(huber_delta: float, which: int) -> None:
    points, step = problem(huber_delta), np.eye(5)[which] * 1e-6
    weights = np.random.default_rng(1).exponential(size=(3, 30))
    here, above, below = (points.surface(THETA + k * step, weights) for k in (0, 1, -1))
    assert (above.value - below.value) / 2e-6 == pytest.approx(here.gradient[:, which], abs=1e-8)
    assert (above.gradient - below.gradient) / 2e-6 == pytest.approx(here.hessian[:, which], abs=1e-7)


def test_the_value_is_the_weighted_sum_of_hubers_loss() -> None:
    points, weights = problem(0.05), np.random.default_rng(1).exponential(size=(3, 30))
    e, a, alpha, b, beta = law_of(points, THETA)[0]
    n, d = np.exp(points.x + points.centre_x), np.exp(points.y + points.centre_y)
    r = np.abs(np.log(e + a / n**alpha + b / d**beta) - points.z)
    losses = np.where(r <= 0.05, r**2 / 2, 0.05 * (r - 0.025))
    assert (r > 0.05).any()
    assert points.surface(THETA, weights).value[0] == pytest.approx(weights[0] @ losses)


def test_parameters_are_translated_back_and_forth() -> None:
    points = problem(0.05)
    assert theta_of(points, law_of(points, THETA)) == pytest.approx(THETA)
