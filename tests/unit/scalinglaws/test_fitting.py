import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from finscale.core.errors import Fault
from finscale.scalinglaws.fitting import fit
from finscale.scalinglaws.forms import (
    ALPHA_BOUNDS,
    N_PARAMETERS,
    fit_line,
    polynomial_basis,
    predict_form,
)
from finscale.scalinglaws.joint import fit_joint

LADDER = np.array([2e4, 6e4, 2e5, 6e5, 2e6, 6e6])


@settings(max_examples=25, deadline=None)
@given(alpha=st.floats(0.05, 1.4), scale=st.floats(0.5, 50.0), floor=st.floats(-1.0, 1.0))
def test_a_noiseless_power_law_is_recovered(alpha: float, scale: float, floor: float) -> None:
    reached = scale * (LADDER / LADDER[0]) ** -alpha
    found = fit(LADDER, floor + reached).form("power_law").parameters
    assert found["alpha"] == pytest.approx(alpha, abs=1e-3)
    assert predict_form("power_law", found, LADDER) == pytest.approx(floor + reached, abs=1e-5 * scale)


@pytest.mark.parametrize("seed", range(6))
def test_no_multistart_optimiser_beats_variable_projection(seed: int) -> None:
    rng = np.random.default_rng(seed)
    loss = 0.6 + 2.0 * LADDER**-0.3 + rng.normal(0, 0.01, len(LADDER))
    ratio = LADDER / LADDER[0]

    def residuals(p: np.ndarray) -> np.ndarray:
        return p[0] + p[1] * ratio ** -p[2] - loss

    bounds = ([-np.inf, 0.0, ALPHA_BOUNDS[0]], [np.inf, np.inf, ALPHA_BOUNDS[1]])
    starts = [(0.5, 0.1, alpha) for alpha in (0.05, 0.3, 0.8, 1.3)]
    best = min(2 * optimize.least_squares(residuals, s, bounds=bounds, xtol=1e-14).cost for s in starts)
    assert fit(LADDER, loss).form("power_law").rss <= best * (1 + 1e-9)


def test_a_power_law_never_rises_with_size() -> None:
    found = fit(LADDER, np.log10(LADDER))
    assert found.form("power_law").parameters["A"] == 0.0
    assert found.form("power_law").rss == pytest.approx(found.form("constant").rss)


def test_the_log_linear_form_is_ordinary_least_squares() -> None:
    loss = np.array([0.9, 0.7, 0.8, 0.5, 0.6, 0.4])
    slope, intercept = np.polyfit(np.log10(LADDER), loss, 1)
    assert fit(LADDER, loss).form("log_linear").parameters == pytest.approx({"E": intercept, "B": slope})


def test_aicc_follows_its_formula_and_is_withheld_where_n_forbids() -> None:
    rng = np.random.default_rng(1)
    found = fit(LADDER, rng.normal(size=6)).form("log_linear")
    expected = 6 * np.log(found.rss / 6) + 2 * 3 + 2 * 3 * 4 / (6 - 3 - 1)
    assert found.aicc == pytest.approx(expected)
    four = fit(LADDER[:4], rng.normal(size=4))
    assert four.form("constant").aicc is not None
    assert four.form("log_linear").aicc is None
    assert four.preferred is None


def test_aicc_prefers_the_form_that_made_the_data() -> None:
    n = np.logspace(4, 8, 12)
    noise = np.random.default_rng(0).normal(0, 0.01, 12)
    assert fit(n, 1 + noise).preferred == "constant"
    assert fit(n, 3 - 0.2 * np.log10(n) + noise).preferred == "log_linear"
    assert fit(n, 1 + 300 * n**-0.6 + noise).preferred == "power_law"


def test_residual_variance_is_per_degree_of_freedom() -> None:
    found = fit(LADDER, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert found.form("constant").residual_variance == pytest.approx(1.5 / 5)
    assert fit(LADDER[:2], [1.0, 2.0]).form("log_linear").residual_variance is None


def test_points_that_are_not_finite_are_dropped_and_counted() -> None:
    loss = np.array([0.9, np.nan, 0.7, np.inf, 0.6, 0.5])
    found = fit(LADDER, loss)
    assert found.n_dropped == 2
    assert found.loss == (0.9, 0.7, 0.6, 0.5)
    assert fit([0.0, -5.0, 1e4], [1.0, 1.0, 1.0]).n_params == (1e4,)


@pytest.mark.parametrize("n_points", range(4))
def test_too_few_points_are_a_status(n_points: int) -> None:
    found = fit(LADDER[:n_points], np.linspace(1, 0.5, n_points))
    statuses = {form.form: form.status for form in found.forms}
    expected = {form: "ok" if n_points >= k else "too_few_points" for form, k in N_PARAMETERS.items()}
    assert statuses == expected
    assert found.exponent.status == "too_few_budgets"


def test_a_constant_n_is_a_status() -> None:
    found = fit([1e5] * 5, [1.0, 0.9, 1.1, 1.0, 0.8])
    assert [form.status for form in found.forms] == ["ok", "constant_n", "constant_n", "constant_n"]
    assert found.extrapolations == ()


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(Fault, match="loss must have the shape of n_params"):
        fit([1e4, 1e5], [1.0])
    with pytest.raises(Fault, match="fit must be given n_params, loss or n_params, n_tokens, loss"):
        fit([1e4, 1e5])


def test_many_lines_are_fitted_as_one_by_one() -> None:
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=(5, 7)), rng.normal(size=7)
    together = fit_line(z, y)
    alone = [fit_line(row, y) for row in z]
    assert together.rss == pytest.approx([float(line.rss) for line in alone])
    assert together.slope == pytest.approx([float(line.slope) for line in alone])


def test_the_quadratic_is_least_squares_in_log_n() -> None:
    loss = np.array([0.9, 0.7, 0.8, 0.5, 0.6, 0.9])
    expected = np.polyfit(np.log10(LADDER), loss, 2)
    found = fit(LADDER, loss).form("quadratic")
    assert [found.parameters[name] for name in "QBE"] == pytest.approx(expected.tolist())
    assert found.rss == pytest.approx(((np.polyval(expected, np.log10(LADDER)) - loss) ** 2).sum())
    assert predict_form("quadratic", found.parameters, LADDER) == pytest.approx(
        np.polyval(expected, np.log10(LADDER))
    )


def test_a_polynomial_basis_is_the_same_wherever_it_is_evaluated() -> None:
    basis = polynomial_basis(LADDER, 2)
    assert basis @ basis.T == pytest.approx(np.eye(3), abs=1e-12)
    assert polynomial_basis(LADDER, 2, at=LADDER[[4, 1]]) == pytest.approx(basis[:, [4, 1]])


def test_aicc_prefers_the_quadratic_for_a_u() -> None:
    n = np.logspace(4, 8, 12)
    noise = np.random.default_rng(0).normal(0, 0.01, 12)
    assert fit(n, 1 + 0.05 * (np.log10(n) - 6) ** 2 + noise).preferred == "quadratic"


def test_repeated_sizes_are_too_few_levels_for_a_bend() -> None:
    found = fit([1e5, 1e5, 1e6, 1e6], [1.0, 0.9, 0.7, 0.8])
    assert [form.status for form in found.forms] == ["ok", "ok", "too_few_levels", "too_few_levels"]
    assert found.exponent.status == "too_few_budgets"


def test_tokens_as_a_second_column_give_the_joint_law() -> None:
    n, d = (values.ravel() for values in np.meshgrid([1e6, 1e7, 1e8], [1e8, 1e9, 1e10]))
    loss = 1.7 + 400 / n**0.34 + 410 / d**0.28
    assert fit(n, d, loss) == fit_joint(n, d, loss)
    assert fit(n, np.full(9, 1e9), loss).status == "constant_d"


def test_a_record_of_a_fit_can_be_written_as_json() -> None:
    for loss in ([0.9, 0.7, 0.8, 0.5, 0.6, 0.4], [0.5] * 6, list(2 - 0.1 * np.log10(LADDER))):
        json.dumps(fit(LADDER, loss).model_dump(mode="json"), allow_nan=False)
