import numpy as np
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm

from finscale.search.acquisition import log_expected_improvement, most_promising
from finscale.search.coordinates import Coordinates
from finscale.search.gaussian_process import GaussianProcess, fit
from finscale.search.unit_cube import UnitCube

FREE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1e-2, log=True),
    "epochs": CategoricalDistribution((50, 75, 100)),
}


@pytest.fixture(scope="module")
def cube(grid: pd.DataFrame) -> UnitCube:
    return UnitCube(Coordinates.of(grid), FREE)


def known(cube: UnitCube, n: int = 40) -> GaussianProcess:
    """A process that knows a bowl around row 5 and rate 0.3."""
    rng = np.random.default_rng(0)
    free = cube.snapped(rng.random((n, 2)))
    points = np.concatenate([cube.row_points[rng.integers(len(cube.row_points), size=n)], free], axis=1)
    wanted = np.array([*cube.row_points[5], 0.3, 0.5])
    return fit(points, np.square(points - wanted).sum(axis=1))


@pytest.mark.parametrize("mean", [-2.0, 0.0, 1.5, 6.0])
def test_it_is_the_integral_of_the_improvement(mean: float) -> None:
    def improvement(z: float) -> float:
        return max(0.0, 1.0 - (mean + 0.7 * z)) * norm.pdf(z)

    edge = (1.0 - mean) / 0.7
    expected, _ = quad(improvement, edge - 12, edge)
    found = log_expected_improvement(np.array([mean]), np.array([0.7]), best=1.0)
    assert found[0] == pytest.approx(np.log(expected), rel=1e-6)


def test_it_falls_without_end_and_without_a_jump() -> None:
    means = np.concatenate([np.linspace(-5, 80, 4001), [1e3, 1e5]])
    found = log_expected_improvement(means, np.ones(len(means)), best=0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    assert np.abs(np.diff(found[:4001], n=3)).max() < 0.01


def test_the_most_promising_point_is_a_real_candidate_with_real_values(cube: UnitCube) -> None:
    process = known(cube)
    for seed in range(5):
        point = most_promising(process, cube, rng=np.random.default_rng(seed))
        assert (np.abs(cube.row_points - point[:4]).sum(axis=1) == 0).any()
        assert point[5] in (0.0, 0.5, 1.0)
        assert 0 <= point[4] <= 1


def test_the_search_for_it_misses_little_of_what_many_ascents_find(grid: pd.DataFrame) -> None:
    """Six continuous dimensions over three candidates, against ten ascents with gradients upon each."""
    free: dict[str, BaseDistribution] = {f"x{k}": FloatDistribution(0.0, 1.0) for k in range(6)}
    cube, rng = UnitCube(Coordinates.of(grid.iloc[[0, 5, 9]]), free), np.random.default_rng(0)
    points = np.concatenate([cube.row_points[rng.integers(3, size=30)], rng.random((30, 6))], axis=1)
    process = fit(points, np.square(points - 0.4).sum(axis=1))
    best = float(process.predict(points)[0].min())

    def score(point: np.ndarray) -> float:
        return float(log_expected_improvement(*process.predict(point[None]), best=best)[0])

    def ascent(row: np.ndarray) -> float:
        found = minimize(lambda x: -score(np.concatenate([row, x])), rng.random(6), bounds=[(0, 1)] * 6)
        return -float(found.fun)

    highest = max(ascent(row) for row in cube.row_points for _ in range(10))
    for seed in range(5):
        assert score(most_promising(process, cube, rng=np.random.default_rng(seed))) > highest - 0.02


def test_a_space_of_rows_alone_has_a_most_promising_one(grid: pd.DataFrame) -> None:
    cube = UnitCube(Coordinates.of(grid), {})
    process = fit(cube.row_points[::2], np.square(cube.row_points[::2]).sum(axis=1))
    point = most_promising(process, cube, rng=np.random.default_rng(0))
    assert (np.abs(cube.row_points - point).sum(axis=1) == 0).any()
