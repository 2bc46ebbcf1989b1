import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from finscale.search.gaussian_process import GaussianProcess, _negative_log_posterior, fit

RNG = np.random.default_rng(0)
POINTS = RNG.random((40, 3))
LOSSES = 2 + np.square(POINTS[:, 0] - 0.3) + 0.3 * np.sin(6 * POINTS[:, 1])
ELSEWHERE = RNG.random((30, 3))
THETA = np.array([-0.5, 0.2, 1.0, 0.3, -3.0])


def test_predictions_are_those_of_an_independent_implementation() -> None:
    """scikit-learn's Gaussian process with the same kernel."""
    values = (LOSSES - LOSSES.mean()) / LOSSES.std()
    kernel = ConstantKernel(np.exp(0.3)) * Matern(np.exp(THETA[:3]), nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=np.exp(-3.0) + 1e-6, optimizer=None).fit(POINTS, values)
    ours = GaussianProcess(POINTS, values, 0.0, 1.0, THETA).predict(ELSEWHERE)
    for found, expected in zip(ours, theirs.predict(ELSEWHERE, return_std=True), strict=True):
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_gradient_of_the_posterior_is_that_of_finite_differences() -> None:
    values = (LOSSES - LOSSES.mean()) / LOSSES.std()
    _, gradient = _negative_log_posterior(THETA, POINTS, values)
    numeric = approx_fprime(THETA, lambda theta: _negative_log_posterior(theta, POINTS, values)[0], 1e-6)
    assert gradient == pytest.approx(numeric, abs=1e-4)


def test_a_fit_interpolates_a_smooth_loss_and_is_unsure_far_away() -> None:
    process = fit(POINTS, LOSSES)
    truth = 2 + np.square(ELSEWHERE[:, 0] - 0.3) + 0.3 * np.sin(6 * ELSEWHERE[:, 1])
    mean, deviation = process.predict(ELSEWHERE)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.1 * LOSSES.std()
    _, at_known = process.predict(POINTS)
    _, far = process.predict(np.full((1, 3), 4.0))
    assert far[0] > 3 * deviation.mean() > 3 * at_known.mean()


def test_a_dimension_without_effect_gets_the_longest_length() -> None:
    lengths = fit(POINTS, LOSSES).theta[:3]
    assert lengths.argmax() == 2


def test_noise_is_not_interpolated() -> None:
    noisy = LOSSES + np.random.default_rng(1).normal(0, 0.2, len(LOSSES))
    mean, _ = fit(POINTS, noisy).predict(POINTS)
    assert np.std(noisy - mean) > 0.1


def test_predictions_follow_the_scale_of_the_losses() -> None:
    """Nats, or thousandths of them, give the same answer in their own unit."""
    mean, deviation = fit(POINTS, LOSSES).predict(ELSEWHERE)
    other_mean, other_deviation = fit(POINTS, 1000 * LOSSES - 7).predict(ELSEWHERE)
    assert other_mean == pytest.approx(1000 * mean - 7, rel=1e-6)
    assert other_deviation == pytest.approx(1000 * deviation, rel=1e-4)


def test_believing_lowers_the_doubt_and_leaves_the_expectation() -> None:
    process = fit(POINTS[:15], LOSSES[:15])
    pending = ELSEWHERE[:3]
    before, after = process.predict(pending), process.believing(pending).predict(pending)
    assert after[0] == pytest.approx(before[0], abs=0.02)
    assert (after[1] < 0.5 * before[1]).all()


def test_equal_losses_do_not_break_a_fit() -> None:
    mean, _ = fit(POINTS[:5], np.full(5, 0.7)).predict(ELSEWHERE)
    assert mean == pytest.approx(np.full(30, 0.7))


def test_one_loss_is_enough() -> None:
    mean, deviation = fit(POINTS[:1], LOSSES[:1]).predict(POINTS[:1])
    assert mean[0] == pytest.approx(LOSSES[0])
    assert np.isfinite(deviation).all()


def test_a_large_study_is_fitted_on_a_part_and_predicted_from_all() -> None:
    points = np.random.default_rng(2).random((450, 3))
    losses = np.square(points[:, 0] - 0.3)
    process = fit(points, losses)
    assert len(process.points) == 450
    assert process.predict(points)[0] == pytest.approx(losses, abs=0.02)
