import numpy as np
import pytest

from finscale.scalinglaws.newton import Minimum, Surface, minimise


def wells(theta: np.ndarray, rows: np.ndarray) -> Surface:
    """(u**2 - 1)**2 + (row + 1) * (v - row - u)**2: a saddle at u = 0, minima at u = 1 and -1."""
    u, v = theta[:, 0], theta[:, 1] - rows
    k = rows + 1.0
    value = (u**2 - 1) ** 2 + k * (v - u) ** 2
    gradient = np.stack([4 * u * (u**2 - 1) - 2 * k * (v - u), 2 * k * (v - u)], axis=1)
    hessian = np.empty((len(u), 2, 2))
    hessian[:, 0, 0], hessian[:, 1, 1] = 12 * u**2 - 4 + 2 * k, 2 * k
    hessian[:, 0, 1] = hessian[:, 1, 0] = -2 * k
    return Surface(value, gradient, hessian, np.ones_like(gradient))


def solved(start: list[list[float]], *, low: float = -9.0, high: float = 9.0) -> Minimum:
    points = np.array(start)
    return minimise(wells, points, low=np.full_like(points, low), high=np.full_like(points, high))


def test_a_saddle_is_left_downhill_into_the_nearer_well() -> None:
    found = solved([[0.01, 0.0], [-0.01, 1.0]])
    assert found.theta == pytest.approx(np.array([[1.0, 1.0], [-1.0, 0.0]]), abs=1e-7)
    assert found.value == pytest.approx(0.0, abs=1e-14)


def test_a_minimum_on_the_boundary_is_found_and_held_there() -> None:
    found = solved([[0.2, 0.3]], high=0.5)
    assert found.theta[0] == pytest.approx([0.5, 0.5])
    assert found.relative_gradient[0] == pytest.approx(0.0, abs=1e-7)
    assert found.n_iterations <= 12


def test_problems_solved_together_end_as_alone() -> None:
    starts = [[2.0, -3.0], [0.1, 5.0], [-4.0, 0.0]]
    together, points = solved(starts), np.array(starts)
    for k in range(3):

        def alone(theta: np.ndarray, rows: np.ndarray, k: int = k) -> Surface:
            return wells(theta, np.full(len(rows), k))

        one = minimise(alone, points[k : k + 1], low=np.full((1, 2), -9.0), high=np.full((1, 2), 9.0))
        assert one.theta[0] == pytest.approx(together.theta[k], abs=1e-12)


def test_a_parameter_whose_bounds_meet_stays_fixed() -> None:
    low, high = np.array([[-9.0, 0.3]]), np.array([[9.0, 0.3]])
    found = minimise(wells, np.array([[2.0, 2.0]]), low=low, high=high)
    u = found.theta[0, 0]
    assert found.theta[0, 1] == 0.3
    assert found.relative_gradient[0] < 1e-6
    assert 4 * u * (u**2 - 1) == pytest.approx(2 * (0.3 - u), abs=1e-6)


def test_an_unfinished_search_shows_in_its_gradient() -> None:
    points = np.array([[5.0, -5.0]])
    box = {"low": np.full((1, 2), -9.0), "high": np.full((1, 2), 9.0)}
    assert minimise(wells, points, max_iterations=2, **box).relative_gradient[0] > 1e-3


def test_a_step_that_rises_is_not_taken() -> None:
    def hyperbola(theta: np.ndarray, rows: np.ndarray) -> Surface:
        """sqrt(1 + u**2), on which a full Newton step from beyond 1 runs away."""
        value = np.sqrt(1 + theta[:, 0] ** 2)
        return Surface(value, theta / value[:, None], value[:, None, None] ** -3, np.ones_like(theta))

    found = minimise(hyperbola, np.array([[3.0]]), low=np.array([[-1e9]]), high=np.array([[1e9]]))
    assert found.theta[0, 0] == pytest.approx(0.0, abs=1e-6)
