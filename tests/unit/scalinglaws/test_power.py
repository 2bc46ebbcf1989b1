import numpy as np
import pytest

from finscale.scalinglaws.power import detectable_drop, plan_power, power_of_drop
from finscale.scalinglaws.trend import slope_test

FOUR = np.array([4.3, 5.3, 6.3, 7.3])


def test_predicted_power_is_what_the_test_achieves() -> None:
    rng = np.random.default_rng(2)
    drop, noise_sd = 4.0, 0.7
    response = drop * (FOUR - FOUR[0]) / np.ptp(FOUR) + rng.normal(0, noise_sd, (20_000, 4))
    achieved = np.mean(slope_test(FOUR, response).p_rise <= 0.05)
    assert power_of_drop(FOUR, drop=drop, noise_sd=noise_sd) == pytest.approx(achieved, abs=0.01)


@pytest.mark.parametrize(("n_budgets", "low", "high"), [(4, 5.0, 8.0), (6, 2.5, 4.0)])
def test_detectable_drops_are_those_planned_for(n_budgets: int, low: float, high: float) -> None:
    assert low <= detectable_drop(np.arange(n_budgets), noise_sd=1.0) <= high


def test_the_detectable_drop_has_the_asked_power() -> None:
    drop = detectable_drop(FOUR, noise_sd=0.3, power=0.9)
    assert power_of_drop(FOUR, drop=drop, noise_sd=0.3) == pytest.approx(0.9, abs=1e-6)


def test_without_a_drop_power_is_the_level() -> None:
    assert power_of_drop(FOUR, drop=0.0, noise_sd=1.0, level=0.01) == pytest.approx(0.01)


def test_the_detectable_drop_grows_with_the_noise() -> None:
    one, two = (detectable_drop(FOUR, noise_sd=sd) for sd in (1.0, 2.0))
    assert two == pytest.approx(2 * one)


def test_a_plan_names_its_drop_and_what_is_still_to_pay() -> None:
    sizes = [2e8, 2e6, 2e7]
    plan = plan_power(sizes, flops=[100.0, 1.0, 10.0], finished=[False, True, True], noise_sd=0.002)
    assert plan.n_params == (2e6, 2e7, 2e8)
    assert (plan.flops, plan.flops_left) == (111.0, 100.0)
    assert plan.detectable_drop == pytest.approx(detectable_drop(np.log10(sizes), noise_sd=0.002))


def test_a_plan_of_two_sizes_detects_nothing() -> None:
    plan = plan_power([2e6, 2e7, 2e7], flops=[1, 1, 1], finished=[True] * 3, noise_sd=0.002)
    assert plan.detectable_drop is None
