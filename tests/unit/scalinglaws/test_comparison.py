import numpy as np
import pytest
from scipy import stats

from finscale.scalinglaws.comparison import FormComparison, compare_forms

LADDER = np.logspace(6.3, 8.3, 5)


def compared(loss: np.ndarray, n_params: np.ndarray = LADDER) -> dict[tuple[str, str], FormComparison]:
    return {(found.null, found.alternative): found for found in compare_forms(n_params, loss)}


def test_a_true_null_is_rejected_at_its_level() -> None:
    rng = np.random.default_rng(0)
    studies = [compared(rng.normal(size=5)) for _ in range(200)]
    for alternative in ("log_linear", "quadratic", "power_law"):
        p = np.array([study["constant", alternative].p_value for study in studies])
        assert 0.02 <= np.mean(p <= 0.1) <= 0.17
        assert 0.4 <= p.mean() <= 0.6


def test_a_steep_line_is_not_mistaken_for_a_bend() -> None:
    rng, line = np.random.default_rng(3), -100 * np.log10(LADDER)
    p = [compared(line + rng.normal(size=5))["log_linear", "power_law"].p_value for _ in range(100)]
    assert 0.03 <= np.mean(np.array(p) <= 0.1) <= 0.2
    assert 0.3 <= np.mean(p) <= 0.6


def test_between_nested_polynomials_it_is_the_f_test() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5, 0.45])
    line = stats.linregress(np.log10(LADDER), loss)
    assert compared(loss)["constant", "log_linear"].p_value == pytest.approx(line.pvalue, abs=0.01)


def test_the_statistic_is_that_of_the_likelihood_ratio() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5, 0.45])
    line = np.polyval(np.polyfit(np.log10(LADDER), loss, 1), np.log10(LADDER))
    ratio = ((loss - line) ** 2).sum() / ((loss - loss.mean()) ** 2).sum()
    assert compared(loss)["constant", "log_linear"].statistic == pytest.approx(-5 * np.log(ratio))


def test_a_u_shape_shows_as_a_quadratic() -> None:
    x = np.log10(LADDER) - np.log10(LADDER).mean()
    loss = x**2 + np.random.default_rng(1).normal(0, 0.01, 5)
    found = compared(loss)
    assert found["log_linear", "quadratic"].p_value <= 0.05
    assert found["constant", "power_law"].p_value > 0.05


def test_a_power_law_is_preferred_to_a_line_where_it_bends() -> None:
    n = np.logspace(5, 9, 8)
    loss = 1 + (n / n[0]) ** -0.8 + np.random.default_rng(2).normal(0, 0.005, 8)
    found = compared(loss, n)
    assert found["constant", "power_law"].p_value <= 0.01
    assert found["log_linear", "power_law"].p_value <= 0.01


def test_the_same_points_give_the_same_p_values() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5, 0.45])
    assert compare_forms(LADDER, loss) == compare_forms(LADDER, loss)


@pytest.mark.parametrize(
    ("n_params", "loss", "status"),
    [
        (LADDER[:2], np.array([1.0, 0.9]), "too_few_points"),
        (np.full(5, 1e6), np.array([1.0, 0.8, 0.75, 0.5, 0.45]), "too_few_points"),
        (LADDER, np.full(5, 0.7), "ties"),
    ],
)
def test_what_cannot_be_compared_is_a_status(n_params: np.ndarray, loss: np.ndarray, status: str) -> None:
    found = compare_forms(n_params, loss)
    assert {comparison.status for comparison in found} == {status}
    assert {comparison.p_value for comparison in found} == {None}


def test_an_exact_form_has_a_p_value_and_no_statistic() -> None:
    found = compared(2 - 0.1 * np.log10(LADDER))["constant", "log_linear"]
    assert (found.statistic, found.p_value) == (None, 0.001)
