"""Scores of quantiles answer to closed forms, to numeric integrals and to scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from finscale.core.errors import Fault
from finscale.metrics import probabilistic
from finscale.metrics.probabilistic import quantile_name

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


def sample(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of a normal law of changing width, and its true quantiles."""
    rng = np.random.default_rng(6)
    sigma = np.exp(rng.normal(0, 0.3, n))
    return sigma * rng.normal(size=n), sigma[:, None] * stats.norm.ppf(LEVELS)


def test_pinball_loss_agrees_with_scikit_learn() -> None:
    y, q = sample()
    rows = probabilistic.pinball_rows(y, q, LEVELS)
    for column, level in enumerate(LEVELS):
        expected = sklearn.metrics.mean_pinball_loss(y, q[:, column], alpha=level)
        assert rows[:, column].mean() == pytest.approx(expected, rel=1e-12)
    assert probabilistic.pinball_loss(y, q, LEVELS) == pytest.approx(rows.mean())


def test_the_true_quantile_has_the_least_pinball_loss() -> None:
    y = np.random.default_rng(1).exponential(size=20_000)
    candidates = np.linspace(0.5, 3, 126)
    for level in (0.5, 0.9):
        losses = [probabilistic.pinball_loss(y, np.full((len(y), 1), c), (level,)) for c in candidates]
        assert candidates[np.argmin(losses)] == pytest.approx(-np.log(1 - level), abs=0.06)


def test_crps_of_many_levels_is_the_closed_form_of_the_normal() -> None:
    """Gneiting and Raftery (2007), eq. 21: z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)."""
    z = np.array([-2.0, -0.3, 0.0, 1.1, 3.0])
    levels = (np.arange(2000) + 0.5) / 2000
    closed = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
    found = probabilistic.crps_rows(z, np.tile(stats.norm.ppf(levels), (5, 1)), levels)
    np.testing.assert_allclose(found, closed, atol=5e-4)


def test_crps_is_the_integral_of_the_squared_difference_of_distributions() -> None:
    """Its definition (Matheson and Winkler 1976), integrated numerically for a skewed law."""
    law, y = stats.gamma(2.0), 3.1
    integral = integrate.quad(lambda x: (law.cdf(x) - (x >= y)) ** 2, 0, 40, points=[y], limit=200)[0]
    levels = (np.arange(2000) + 0.5) / 2000
    found = probabilistic.crps([y], law.ppf(levels)[None, :], levels)
    assert found == pytest.approx(integral, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(-6, 6))
def test_crps_of_even_levels_is_that_of_the_ensemble_and_twice_the_pinball_loss(
    members: list[float], y: float
) -> None:
    """E|X - y| - E|X - X'| / 2, exactly."""
    x = np.sort(members)
    levels = (np.arange(len(x)) + 0.5) / len(x)
    expected = np.abs(x - y).mean() - np.abs(x[:, None] - x).mean() / 2
    assert probabilistic.crps([y], x[None, :], levels) == pytest.approx(expected, abs=1e-9)
    assert probabilistic.pinball_loss([y], x[None, :], levels) == pytest.approx(expected / 2, abs=1e-9)


def test_uneven_levels_weigh_by_the_probability_they_stand_for() -> None:
    """With few and uneven levels the CRPS of a normal forecast stays within 6 % of the truth."""
    y, _ = sample()
    q = np.tile(stats.norm.ppf(LEVELS), (len(y), 1))
    closed = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    assert probabilistic.crps(y, q, LEVELS) == pytest.approx(closed.mean(), rel=0.06)
    unweighted = 2 * probabilistic.pinball_loss(y, q, LEVELS)
    assert abs(unweighted - closed.mean()) > 2 * abs(probabilistic.crps(y, q, LEVELS) - closed.mean())


def test_true_quantiles_cover_what_they_say() -> None:
    y, q = sample()
    for percent in probabilistic.INTERVALS:
        assert probabilistic.coverage(y, q, LEVELS, percent=percent) == pytest.approx(percent / 100, abs=0.03)
    np.testing.assert_allclose(probabilistic.calibration(y, q, LEVELS), LEVELS, atol=0.03)
    assert (probabilistic.calibration(y, q + 0.5, LEVELS)[1:-1] > np.array(LEVELS)[1:-1] + 0.03).all()


def test_coverage_counts_both_ends_and_width_is_their_distance() -> None:
    q = np.array([[-1.0, 0.0, 2.0]] * 4)
    assert probabilistic.coverage([-1.0, 2.0, 2.1, -1.1], q, (0.25, 0.5, 0.75), percent=50) == 0.5
    assert probabilistic.interval_width(q, (0.25, 0.5, 0.75), percent=50) == 3.0


def test_all_scores_come_in_one_record() -> None:
    y, q = sample()
    found = probabilistic.scores(y, q, LEVELS)
    intervals = [f"{what}_{percent}" for percent in (50, 80, 90) for what in ("coverage", "width")]
    below = [f"below_{quantile_name(level)}" for level in LEVELS]
    assert list(found) == ["pinball_loss", "crps", *intervals, *below, "calibration_error", "n"]
    assert found["width_80"] == pytest.approx((q[:, 5] - q[:, 1]).mean())
    assert found["below_q90"] == pytest.approx((y <= q[:, 5]).mean())
    assert found["n"] == 3000


def test_an_interval_without_its_levels_is_left_out_or_refused() -> None:
    y, q = sample(50)
    found = probabilistic.scores(y, q[:, 2:5], LEVELS[2:5])
    assert [name for name in found if name.startswith("coverage")] == ["coverage_50"]
    with pytest.raises(Fault, match=r"quantile levels must hold 0\.1 and 0\.9 for an interval of 80 %"):
        probabilistic.coverage(y, q[:, 2:5], LEVELS[2:5], percent=80)


@pytest.mark.parametrize(
    ("y", "q", "levels", "message"),
    [
        ([0.0], [[0.0, 1.0]], (0.5, 0.5), "quantile levels must increase between 0 and 1"),
        ([0.0], [[0.0, 1.0]], (0.0, 0.5), "quantile levels must increase between 0 and 1"),
        ([0.0], [[0.0, 1.0]], (0.5,), r"shapes \(1,\) and \(1, 2\), 1 levels"),
        ([], np.zeros((0, 1)), (0.5,), "n above 0"),
        ([np.nan], [[0.0]], (0.5,), "outcomes must be finite"),
        ([0.0], [[np.inf]], (0.5,), "quantiles must be finite"),
    ],
)
def test_faulty_input_is_refused(y: list[float], q: object, levels: tuple[float, ...], message: str) -> None:
    with pytest.raises(Fault, match=message):
        probabilistic.scores(y, q, levels)


def test_the_pit_of_a_true_forecast_is_uniform_and_that_of_a_narrow_one_lies_in_the_tails() -> None:
    levels = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    y = np.random.default_rng(0).standard_normal(20_000)
    shares = {}
    for spread in (1.0, 0.4):
        quantiles = np.tile(spread * stats.norm.ppf(levels), (len(y), 1))
        found = probabilistic.pit_shares(y, quantiles, levels)
        shares[spread] = np.array([found[f"pit_{number}"] for number in range(10)])
        tail = len(y) * stats.norm.cdf(quantiles[0, 0])
        assert [found["n_under"], found["n_over"]] == pytest.approx([tail, tail], rel=0.1)
    assert shares[1.0] == pytest.approx(np.full(10, 0.1), abs=0.015)
    assert shares[0.4][[0, 9]].min() > 0.25
    assert shares[0.4].sum() == pytest.approx(1.0)


def test_the_pit_is_a_distribution_function_through_every_quantile() -> None:
    levels = (0.1, 0.4, 0.8)
    y = np.linspace(-40, 40, 2001)
    found = probabilistic.pit_rows(y, np.tile([-1.0, 0.0, 2.0], (len(y), 1)), levels)
    assert (np.diff(found) >= 0).all()
    assert 0 <= found.min() < 1e-6
    assert 1 - 1e-6 < found.max() <= 1
    at = probabilistic.pit_rows([-1.0, 0.0, 2.0], np.tile([-1.0, 0.0, 2.0], (3, 1)), levels)
    assert at == pytest.approx(levels)
    # beyond the last two quantiles the tail falls by the same factor over the same distance
    two = probabilistic.pit_rows([-2.0, 4.0], np.tile([-1.0, 0.0, 2.0], (2, 1)), levels)
    assert two == pytest.approx([0.1 * 0.1 / 0.4, 1 - 0.2 * 0.2 / 0.6])


def test_a_pit_needs_two_levels_and_survives_quantiles_that_coincide() -> None:
    with pytest.raises(Fault, match="two at least"):
        probabilistic.pit_rows([0.0], [[0.0]], [0.5])
    found = probabilistic.pit_rows([-1.0, 0.0, 1.0], np.zeros((3, 3)), (0.1, 0.5, 0.9))
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[2] == pytest.approx(1, abs=1e-9)


def test_the_calibration_error_is_the_mean_distance_of_shares_from_levels() -> None:
    y, levels = np.arange(10.0), (0.2, 0.6)
    quantiles = np.tile([2.5, 4.5], (10, 1))
    assert probabilistic.calibration_error(y, quantiles, levels) == pytest.approx((0.1 + 0.1) / 2)
