from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from finscale.core.errors import Fault
from finscale.scalinglaws.forms import ALPHA_BOUNDS
from finscale.scalinglaws.joint import (
    JOINT_NAMES,
    fit_joint,
    minimise_joint,
    predict_joint,
    theta_of,
)
from finscale.scalinglaws.joint_objective import JointProblem

TRUTH = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
LAW = np.array([[TRUTH[name] for name in JOINT_NAMES]])


def points(
    n_points: int = 60, *, sd: float = 0.01, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, d = 10 ** rng.uniform(6, 9, n_points), 10 ** rng.uniform(8, 11, n_points)
    return n, d, predict_joint(TRUTH, n, d) * np.exp(rng.normal(0, sd, n_points))


def reference(data: tuple[np.ndarray, ...], *, huber_delta: float, n_starts: int) -> float:
    """The lowest objective that SciPy finds, from random starts and in plain NumPy."""
    x, y, z = (np.log(column) for column in data)
    x, y = x - x.mean(), y - y.mean()

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = theta
        terms = np.exp([a - alpha * x, b - beta * y, e + 0 * x])
        r = np.log(terms.sum(axis=0)) - z
        size = np.abs(r)
        value = np.where(size <= huber_delta, r**2 / 2, huber_delta * (size - huber_delta / 2)).sum()
        pull = terms / terms.sum(axis=0) * np.clip(r, -huber_delta, huber_delta)
        return value, np.array([*pull.sum(axis=1), -(pull[0] @ x), -(pull[1] @ y)])

    scale = (z.min() - 25, z.max() + 25)
    bounds = [scale, scale, (scale[0], z.max()), ALPHA_BOUNDS, ALPHA_BOUNDS]
    rng = np.random.default_rng(2)
    starts = np.column_stack(
        [z.mean() + rng.uniform(-6, 0.5, (n_starts, 3)), rng.uniform(0.03, 1.4, (n_starts, 2))]
    )
    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-16, "gtol": 1e-14}
    keywords = {"jac": True, "method": "L-BFGS-B", "bounds": bounds, "options": options}
    return min(optimize.minimize(objective, start, **keywords).fun for start in starts)


def test_a_noiseless_law_is_recovered() -> None:
    found = fit_joint(*points(sd=0.0))
    assert found.status == "ok"
    assert found.parameters == pytest.approx(TRUTH, rel=1e-5)


@pytest.mark.parametrize("huber_delta", [1e-3, 1e-2, np.inf])
@pytest.mark.parametrize("n_points", [12, 60])
def test_no_scipy_start_ends_lower(huber_delta: float, n_points: int) -> None:
    data = points(n_points, sd=0.03, seed=n_points)
    found = fit_joint(*data, huber_delta=huber_delta)
    assert found.objective <= reference(data, huber_delta=huber_delta, n_starts=40) * (1 + 1e-9)


@pytest.mark.parametrize("column", ["loss_c4_val", "loss_openlm"])
def test_no_scipy_start_ends_lower_on_real_language_models(column: str, test_data: Path) -> None:
    runs = pd.read_csv(test_data / "gadre_openlm_104.csv")
    data = tuple(runs[name].to_numpy(dtype=float) for name in ("N", "D", column))
    found = fit_joint(*data)
    assert found.status == "ok"
    assert found.objective <= reference(data, huber_delta=1e-3, n_starts=40) * (1 + 1e-9)
    assert found.n_agreeing >= found.n_starts // 3


def test_the_order_of_rows_does_not_matter() -> None:
    n, d, y = points()
    order = np.random.default_rng(3).permutation(len(n))
    assert fit_joint(n[order], d[order], y[order]).parameters == pytest.approx(
        fit_joint(n, d, y).parameters, rel=1e-5
    )


def test_the_units_of_n_and_d_change_the_scales_alone() -> None:
    n, d, y = points()
    once, again = fit_joint(n, d, y), fit_joint(n / 1e6, d / 1e9, y)
    p = once.parameters
    moved = p | {"A": p["A"] * 1e6 ** -p["alpha"], "B": p["B"] * 1e9 ** -p["beta"]}
    assert again.parameters == pytest.approx(moved, rel=1e-5)
    assert again.objective == pytest.approx(once.objective, rel=1e-9)


def test_a_mean_ends_where_a_sum_does() -> None:
    problem, start = JointProblem.of(*points(), huber_delta=1e-3), LAW * [0.7, 0.3, 0.8, 2.0, 1.3]
    n = len(problem.z)
    ends = [minimise_joint(problem, theta_of(problem, start), np.full((1, n), w)).theta for w in (1.0, 1 / n)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)


def test_the_start_does_not_matter() -> None:
    data = points()
    rng = np.random.default_rng(4)
    starts = LAW * np.exp(rng.normal(0, 0.5, (60, 5)))
    elsewhere = fit_joint(*data, starts=starts)
    assert elsewhere.n_starts == 60
    assert elsewhere.parameters == pytest.approx(fit_joint(*data).parameters, rel=1e-5)


def test_agreeing_starts_are_counted() -> None:
    data = points()
    good, bad = LAW, np.array([[1e-9, 1e9, 1.5, 1e9, 1.5]])
    alone = fit_joint(*data, starts=good)
    assert (alone.n_starts, alone.n_agreeing, alone.n_converged) == (1, 1, 1)
    both = fit_joint(*data, starts=np.vstack([good, good, bad]))
    assert both.n_starts == 3
    assert both.n_agreeing >= 2


def test_a_small_delta_resists_an_outlier() -> None:
    n, d, y = points(sd=0.001)
    spoiled = np.where(np.arange(len(y)) == 7, 2 * y, y)
    robust, squares = fit_joint(n, d, spoiled), fit_joint(n, d, spoiled, huber_delta=np.inf)
    assert robust.parameters["beta"] == pytest.approx(0.28, abs=0.01)
    assert abs(squares.parameters["beta"] - 0.28) > 0.1


def test_a_term_that_the_data_do_not_need_is_a_bound_hit() -> None:
    n, d, y = points()
    noise = y / predict_joint(TRUTH, n, d)
    assert fit_joint(n, d, (400 / n**0.3 + 900 / d**0.3 - 0.3) * noise).bound_hits == ("E",)
    assert fit_joint(n, d, (1.7 + 410 / d**0.28) * noise, huber_delta=np.inf).bound_hits != ()
    assert "alpha" in fit_joint(n, d, 1 + 1e8 / n**1.7 + 410 / d**0.28).bound_hits
    assert fit_joint(*points(sd=0)).bound_hits == ()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda n, d, y: (n[:5], d[:5], y[:5]), "too_few_points"),
        (lambda n, d, y: (n, np.full_like(d, 1e9), y), "constant_d"),
        (lambda n, d, y: (np.full_like(n, 1e7), d, y), "constant_n"),
        (lambda n, d, y: (n, 20 * n, y), "n_and_d_move_together"),
        (lambda n, d, y: (np.where(n > 3e7, 1e8, 1e7), d, y), "too_few_levels"),
        (lambda n, d, y: (n, d, y - 5), "nonpositive_loss"),
        (lambda n, d, y: (n, d, np.full_like(y, 2.0)), "ties"),
    ],
)
def test_what_cannot_be_fitted_is_a_status_without_numbers(change: object, status: str) -> None:
    found = fit_joint(*change(*points()))
    assert found.status == status
    assert (found.parameters, found.objective, found.n_starts) == ({}, None, 0)


def test_points_that_are_not_finite_are_dropped_and_counted() -> None:
    n, d, y = points()
    spoiled = y.copy()
    spoiled[3] = np.nan
    found, kept = fit_joint(n, d, spoiled), np.arange(len(y)) != 3
    assert (found.n_dropped, found.n_points) == (1, 59)
    assert found.parameters == fit_joint(n[kept], d[kept], y[kept]).parameters


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(Fault, match="n_params, n_tokens and loss must have one shape"):
        fit_joint([1e6, 1e7], [1e8], [1.0, 2.0])
    with pytest.raises(Fault, match="huber_delta must be positive, got 0"):
        fit_joint(*points(), huber_delta=0)
