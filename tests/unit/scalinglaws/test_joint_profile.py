import numpy as np
import pytest
from scipy import stats

from finscale.scalinglaws.forms import ALPHA_BOUNDS
from finscale.scalinglaws.joint import fit_joint, predict_joint
from finscale.scalinglaws.joint_profile import JointProfile, profile_joint

TRUTH = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
GRID = [values.ravel() for values in np.meshgrid(np.logspace(6, 9, 5), np.logspace(8, 11, 5))]


def profiled(
    seed: int, *, huber_delta: float = np.inf, parameter: str = "alpha", sd: float = 0.01
) -> JointProfile:
    loss = predict_joint(TRUTH, *GRID) * np.exp(np.random.default_rng(seed).normal(0, sd, 25))
    fitted = fit_joint(*GRID, loss, huber_delta=huber_delta)
    return profile_joint(*GRID, loss, fitted=fitted, parameter=parameter)


@pytest.mark.parametrize("parameter", ["alpha", "beta"])
def test_the_profile_is_lowest_at_the_estimate(parameter: str) -> None:
    found = profiled(0, parameter=parameter)
    objective = np.array(found.objective)
    assert found.values[int(objective.argmin())] == found.estimate
    assert np.all(np.diff(objective[: objective.argmin() + 1]) <= 1e-12)
    assert found.low < found.estimate < found.high


def test_under_least_squares_the_ends_lie_on_the_f_threshold() -> None:
    found = profiled(1)
    loss = predict_joint(TRUTH, *GRID) * np.exp(np.random.default_rng(1).normal(0, 0.01, 25))
    fitted = fit_joint(*GRID, loss, huber_delta=np.inf)
    threshold = min(found.objective) * (1 + stats.f.ppf(0.9, 1, 20) / 20)
    for end in (found.low, found.high):
        moved = fitted.model_copy(update={"parameters": fitted.parameters | {"alpha": end}})
        again = profile_joint(*GRID, loss, fitted=moved, parameter="alpha")
        assert again.objective[again.values.index(end)] == pytest.approx(threshold, rel=1e-3)


@pytest.mark.parametrize("huber_delta", [1e-3, 0.01])
def test_the_interval_covers_at_its_level(huber_delta: float) -> None:
    found = [profiled(seed, huber_delta=huber_delta) for seed in range(10)]
    assert np.mean([profile.low <= 0.34 <= profile.high for profile in found]) >= 0.7


def test_an_exponent_that_the_data_do_not_limit_reaches_the_bounds() -> None:
    found = profiled(2, sd=1.0)
    assert found.status == "reaches_bounds"
    assert found.low == ALPHA_BOUNDS[0] or found.high == ALPHA_BOUNDS[1]


def test_the_width_does_not_hang_on_how_few_points_lie_within_a_tiny_delta() -> None:
    small, tiny = profiled(4, huber_delta=1e-3), profiled(4, huber_delta=1e-5)
    assert (tiny.high - tiny.low) / (small.high - small.low) == pytest.approx(1.0, abs=0.4)
