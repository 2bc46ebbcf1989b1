import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from finscale.scalinglaws.trend import holm, slope_test

LADDER = np.array([4.3, 4.8, 5.3, 5.8])
N_STUDIES = 4000


def studies(*, correlation: float, drop: float = 0.0) -> np.ndarray:
    """Mean excess loss of simulated studies (n_studies, K): two horizons, cell SD 1, a drop in cell SD."""
    rng = np.random.default_rng(11)
    covariance = [[1.0, correlation], [correlation, 1.0]]
    cells = rng.multivariate_normal([0.0, 0.0], covariance, size=(N_STUDIES, len(LADDER)))
    return (cells + (drop * (LADDER - LADDER[0]) / np.ptp(LADDER))[:, None]).mean(axis=-1)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_scaling_is_called_falsely_at_the_nominal_rate(correlation: float) -> None:
    test = slope_test(LADDER, studies(correlation=correlation))
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


def test_holm_agrees_with_its_definition() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p: list[float]) -> None:
    adjusted, raw = holm(p), np.array(p)
    assert np.all(adjusted >= raw)
    assert np.all(adjusted <= np.minimum(len(p) * raw.max(), 1) + 1e-15)
    assert np.all(np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0)
