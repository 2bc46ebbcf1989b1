import numpy as np
import pytest
from scipy import stats

from finscale.scalinglaws.trend import slope_test

LADDER = np.array([4.3, 4.8, 5.3, 5.8])
N_STUDIES = 4000


def studies(*, correlation: float, drop: float = 0.0, luck: float = 0.0) -> np.ndarray:
    """Mean excess loss of simulated studies (n_studies, K): two horizons, a drop and luck in seed SD."""
    rng = np.random.default_rng(11)
    mix = np.array([[1.0, 0.0], [correlation, np.sqrt(1 - correlation**2)]])
    seeds, lucky = rng.normal(size=(N_STUDIES, 4, 2)), rng.gumbel(size=(N_STUDIES, 4, 2)) / 1.2825
    cells = (seeds + luck * lucky) @ mix.T
    return (cells + (drop * (LADDER - LADDER[0]) / np.ptp(LADDER))[:, None]).mean(axis=-1)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
def test_scaling_is_called_falsely_at_the_nominal_rate(correlation: float, luck: float) -> None:
    test = slope_test(LADDER, studies(correlation=correlation, luck=luck))
    assert 0.04 <= np.mean(test.p_rise <= 0.05) <= 0.06
    assert 0.04 <= np.mean(test.p_fall <= 0.05) <= 0.06


def test_a_drop_of_ten_cell_sd_is_nearly_always_seen() -> None:
    found = slope_test(LADDER, studies(correlation=0.6, drop=10.0))
    assert np.mean(found.p_rise <= 0.05) >= 0.97


def test_the_slope_test_is_that_of_linear_regression() -> None:
    y = np.array([0.1, 0.4, 0.3, 0.9])
    ours, theirs = slope_test(LADDER, y), stats.linregress(LADDER, y, alternative="greater")
    assert (float(ours.slope), float(ours.slope_se)) == pytest.approx((theirs.slope, theirs.stderr))
    assert float(ours.p_rise) == pytest.approx(theirs.pvalue)
    assert float(ours.p_fall) == pytest.approx(1 - theirs.pvalue)
    assert float(ours.intercept) == pytest.approx(theirs.intercept + theirs.slope * LADDER.mean())


def test_exact_ties_show_no_trend_either_way() -> None:
    found = slope_test(LADDER, np.full(4, 0.1) + np.array([0, 1e-17, 0, 1e-17]))
    assert (float(found.slope), float(found.p_rise), float(found.p_fall)) == (0.0, 0.5, 0.5)


def test_an_exact_line_is_certain_in_its_direction() -> None:
    found = slope_test([0.0, 1.0, 2.0], [[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    assert found.p_rise.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("luck", [0.0, 1.0])
def test_the_interval_of_the_slope_covers_at_its_level(luck: float) -> None:
    low, high = slope_test(LADDER, studies(correlation=0.6, drop=3.0, luck=luck)).interval(level=0.95)
    truth = 3.0 / np.ptp(LADDER)
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97
