"""The GARCH baseline answers to arch, to numeric integrals and to plain loops."""

import warnings

import arch.data.sp500
import numpy as np
import pytest
from arch import arch_model
from scipy import integrate, stats
from scipy.special import gamma as gamma_function

from finscale.core.errors import Fault
from finscale.metrics.classification import log_loss
from finscale.windows import garch
from finscale.windows.garch import (
    LATTICE_STEP,
    Garch,
    fit_garch,
    next_variances,
    path_statistics,
    probability_above,
    return_quantiles,
    riskmetrics,
    standardised_pairs,
)

N_TRAIN = 3500
RISE = float(np.log(1.01))


@pytest.fixture(scope="module")
def prices() -> tuple[np.ndarray, np.ndarray]:
    bars = arch.data.sp500.load()
    return bars["Close"].to_numpy(), bars["High"].to_numpy()


@pytest.fixture(scope="module")
def returns(prices: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return np.r_[np.nan, np.diff(np.log(prices[0]))]


@pytest.fixture(scope="module")
def excursions(prices: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    close, high = prices
    return np.r_[np.nan, np.log(high[1:] / close[:-1])]


@pytest.fixture(scope="module")
def model(returns: np.ndarray) -> Garch:
    return fit_garch(returns[:N_TRAIN])


@pytest.fixture(scope="module")
def pairs(model: Garch, returns: np.ndarray, excursions: np.ndarray) -> np.ndarray:
    return standardised_pairs(model, returns[:N_TRAIN], excursions[:N_TRAIN])


def in_arch(model: Garch, returns: np.ndarray):
    """Our parameters in arch's own model, in per cent."""
    per_cent = arch_model(100 * returns, vol="GARCH", p=1, o=1, q=1, dist="skewt", rescale=False)
    volatility = [model.omega * 1e4, model.alpha, model.gamma, model.beta]
    return per_cent.fix([model.mean * 100, *volatility, model.eta, model.skew])


def density(z: float, eta: float, lam: float) -> float:
    """Hansen (1994), eq. 10."""
    c = gamma_function((eta + 1) / 2) / (np.sqrt(np.pi * (eta - 2)) * gamma_function(eta / 2))
    a = 4 * lam * c * (eta - 2) / (eta - 1)
    b = np.sqrt(1 + 3 * lam**2 - a**2)
    side = 1 - lam if z < -a / b else 1 + lam
    return b * c * (1 + ((b * z + a) / side) ** 2 / (eta - 2)) ** (-(eta + 1) / 2)


def test_the_filter_is_archs_conditional_volatility(model: Garch, returns: np.ndarray) -> None:
    """Fitted on all of a sample, both start alike; variance t of arch is that of the return t."""
    train = returns[1:N_TRAIN]
    theirs = in_arch(model, train).conditional_volatility / 100
    ours = np.sqrt(next_variances(model, returns[:N_TRAIN]))[:-1]
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_the_filter_is_the_plain_recursion(model: Garch, returns: np.ndarray) -> None:
    found = next_variances(model, returns)
    variance = model.start
    assert found[0] == variance
    for t in range(1, 400):
        e = returns[t] - model.mean
        variance = model.omega + (model.alpha + model.gamma * (e < 0)) * e**2 + model.beta * variance
        assert found[t] == pytest.approx(variance, rel=1e-12)


def test_the_fit_is_archs_maximum_in_per_cent(model: Garch, returns: np.ndarray) -> None:
    train = returns[1:N_TRAIN]
    theirs = arch_model(100 * train, vol="GARCH", p=1, o=1, q=1, dist="skewt").fit(disp="off")
    assert in_arch(model, train).loglikelihood == pytest.approx(theirs.loglikelihood, abs=0.05)
    assert model.status == ""
    assert model.n_returns == N_TRAIN - 1


def test_units_of_the_returns_do_not_matter(model: Garch, returns: np.ndarray) -> None:
    """Bars of five minutes move a hundredth of what days do; the optimiser must not notice."""
    small = fit_garch(returns[:N_TRAIN] / 128)
    assert small.beta == pytest.approx(model.beta, rel=1e-6)
    assert small.omega * 128**2 == pytest.approx(model.omega, rel=1e-5)
    assert small.status == ""


def test_a_missing_return_begins_a_segment_anew(model: Garch, returns: np.ndarray) -> None:
    cut = returns.copy()
    cut[1000] = np.nan
    found = next_variances(model, cut)
    np.testing.assert_array_equal(found[:1000], next_variances(model, returns)[:1000])
    np.testing.assert_array_equal(found[1000:], next_variances(model, cut[1000:]))
    assert found[1000] == model.start


def test_a_variance_reads_returns_up_to_its_row_only(model: Garch, returns: np.ndarray) -> None:
    changed = returns.copy()
    changed[2001:] *= -3
    was, now = next_variances(model, returns), next_variances(model, changed)
    np.testing.assert_array_equal(now[:2001], was[:2001])
    assert now[2001] != was[2001]


@pytest.mark.parametrize(("eta", "lam"), [(4.5, -0.3), (10.8, 0.2), (300.0, 0.0)])
def test_probabilities_are_integrals_of_hansens_density(eta: float, lam: float) -> None:
    skewed = Garch(0.0, 0.0, 0.0, 0.0, 0.0, eta, lam, start=1.0, n_returns=0)
    levels = np.array([-2.5, -0.4, 0.0, 0.7, 3.0])
    for level in levels:
        integral = integrate.quad(density, level, np.inf, args=(eta, lam), limit=300)[0]
        assert probability_above(skewed, np.ones(1), level)[0] == pytest.approx(integral, abs=1e-7)
    assert integrate.quad(lambda z: z * density(z, eta, lam), -np.inf, np.inf)[0] == pytest.approx(
        0, abs=1e-6
    )
    above = [
        probability_above(skewed, np.ones(1), q)[0]
        for q in return_quantiles(skewed, np.ones(1), [0.1, 0.8])[0]
    ]
    assert above == pytest.approx([0.9, 0.2])


def test_mean_and_volatility_move_the_distribution(model: Garch) -> None:
    variances = np.array([1e-4, 4e-4])
    z = (RISE - model.mean) / np.sqrt(variances)
    unit = Garch(0, 0, 0, 0, 0, model.eta, model.skew, start=1.0, n_returns=0)
    expected = [probability_above(unit, np.ones(1), value)[0] for value in z]
    assert probability_above(model, variances, RISE) == pytest.approx(expected)
    quantiles = return_quantiles(model, variances, [0.05, 0.5, 0.95])
    assert quantiles[1] - model.mean == pytest.approx(2 * (quantiles[0] - model.mean))


def test_one_simulated_bar_is_the_closed_form(model: Garch) -> None:
    """Evenly spaced quantiles of the skewed t in place of training residuals: no Monte-Carlo error."""
    z = return_quantiles(
        Garch(0, 0, 0, 0, 0, model.eta, model.skew, 1.0, 0), np.ones(1), (np.arange(20_000) + 0.5) / 20_000
    )[0]
    variances = np.exp(np.random.default_rng(0).uniform(-11, -7, 200))
    found = path_statistics(
        model,
        variances,
        np.column_stack([z, z]),
        lambda ends, tops: [(ends >= RISE).mean(), (tops >= RISE).mean()],
        horizon=1,
        seed=0,
    )
    closed = probability_above(model, variances, RISE)
    np.testing.assert_allclose(found, np.column_stack([closed, closed]), atol=5e-4)


def test_several_bars_of_constant_variance_are_normal_within_monte_carlo_error() -> None:
    flat = Garch(0.0004, 1e-4, 0, 0, 0, 300.0, 0, start=1e-4, n_returns=0)
    z = stats.norm.ppf((np.arange(5000) + 0.5) / 5000)
    found = path_statistics(
        flat,
        np.full(1, 1e-4),
        np.column_stack([z, z]),
        lambda ends, _: [(ends >= level).mean() for level in (-0.02, 0.0, 0.03)],
        horizon=5,
        seed=1,
        n_paths=20_000,
    )[0]
    exact = stats.norm.sf(np.array([-0.02, 0.0, 0.03]), 5 * 0.0004, 0.01 * np.sqrt(5))
    errors = np.sqrt(exact * (1 - exact) / 20_000)
    assert (np.abs(found - exact) < 3 * errors).all()


def test_the_expected_variance_of_five_bars_is_archs(
    model: Garch, returns: np.ndarray, pairs: np.ndarray
) -> None:
    """arch's own bootstrap of residuals, from the same last return."""
    train = returns[1:N_TRAIN]
    forecast = in_arch(model, train).forecast(
        horizon=5, method="bootstrap", simulations=20_000, random_state=np.random.RandomState(3)
    )
    theirs = forecast.simulations.values[-1].sum(axis=1) / 100
    ours = path_statistics(
        model,
        next_variances(model, returns)[N_TRAIN - 1 : N_TRAIN],
        pairs,
        lambda ends, _: [ends.std(), (ends >= RISE).mean(), np.quantile(ends, 0.05)],
        horizon=5,
        seed=2,
        n_paths=20_000,
    )[0]
    assert ours[0] == pytest.approx(theirs.std(), rel=0.03)
    assert ours[1] == pytest.approx((theirs >= RISE).mean(), abs=0.012)
    assert ours[2] == pytest.approx(np.quantile(theirs, 0.05), rel=0.05)


def test_paths_are_those_of_a_plain_loop(model: Garch, pairs: np.ndarray) -> None:
    """Ends and tops of forty paths from a volatility on the lattice, step by step."""
    node = -220
    draws = garch._draws(len(pairs), horizon=4, seed=9, n_paths=40)
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def remember(ends: np.ndarray, tops: np.ndarray) -> list[float]:
        seen.append((ends, tops))
        return [0.0]

    start = np.exp(2 * LATTICE_STEP * node)
    path_statistics(model, np.array([start * (1 + 1e-9)]), pairs, remember, horizon=4, seed=9, n_paths=40)
    for path in range(40):
        price, top, variance = 0.0, -np.inf, start
        for step in range(4):
            z_close, z_high = pairs[draws[step, path]]
            sigma = variance**0.5
            top = max(top, price + model.mean + sigma * z_high)
            e = sigma * z_close
            price += model.mean + e
            variance = model.omega + (model.alpha + model.gamma * (e < 0)) * e**2 + model.beta * variance
        assert seen[0][0][path] == pytest.approx(price, rel=1e-12)
        assert seen[0][1][path] == pytest.approx(top, rel=1e-12)


def test_one_bar_takes_every_residual_once_unless_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert garch._draws(300, horizon=1, seed=0, n_paths=50).tolist() == [list(range(300))]
    monkeypatch.setattr(garch, "MAX_RETURNS", 299)
    assert garch._draws(300, horizon=1, seed=0, n_paths=50).shape == (1, 50)


def test_a_forecast_does_not_depend_on_the_other_rows(model: Garch, pairs: np.ndarray) -> None:
    variances = np.exp(np.random.default_rng(4).uniform(-11, -7, 30))

    def forecast(chosen: np.ndarray) -> np.ndarray:
        return path_statistics(
            model, chosen, pairs, lambda _, tops: [(tops > RISE).mean()], horizon=3, seed=5, n_paths=500
        )

    together = forecast(variances)
    np.testing.assert_array_equal(together[:7], forecast(variances[:7]))
    np.testing.assert_array_equal(together, forecast(variances))


def test_between_two_volatilities_of_the_lattice_a_probability_is_all_but_linear(
    model: Garch, pairs: np.ndarray
) -> None:
    """Half way between two nodes, against a lattice that has a node there."""
    middle = np.exp(2 * LATTICE_STEP * (-220.5))

    def touch(_: np.ndarray, tops: np.ndarray) -> list[float]:
        return [(tops >= RISE).mean()]

    draws = garch._draws(len(pairs), horizon=5, seed=0, n_paths=20_000)
    exact = touch(*garch._paths(model, -220.5, pairs, draws))[0]
    found = path_statistics(model, np.array([middle]), pairs, touch, horizon=5, seed=0, n_paths=20_000)[0, 0]
    assert found == pytest.approx(exact, abs=1e-3)


def test_pairs_keep_a_bars_high_above_its_close(model: Garch, pairs: np.ndarray) -> None:
    assert (pairs[:, 1] >= pairs[:, 0] - 1e-9).all()
    assert len(pairs) == N_TRAIN - 1
    assert pairs[:, 0].mean() == pytest.approx(0, abs=0.05)
    assert pairs[:, 0].std() == pytest.approx(1, abs=0.05)


def test_a_touch_needs_the_high_and_not_only_the_close(model: Garch, pairs: np.ndarray) -> None:
    found = path_statistics(
        model,
        np.array([1e-4]),
        pairs,
        lambda ends, tops: [(ends >= RISE).mean(), (tops >= RISE).mean()],
        horizon=5,
        seed=0,
    )[0]
    assert found[1] > found[0] + 0.1


def test_the_specifications_level_on_the_bundled_index(prices: tuple[np.ndarray, np.ndarray]) -> None:
    """Close 1 % above within a day, 2016-2018, from parameters of the first 70 %: log loss 0.23."""
    close = prices[0]
    returns = np.r_[np.nan, np.diff(np.log(close))]
    n = len(close)
    test = np.arange(round(0.85 * n), n - 1)
    fitted = fit_garch(returns[60 : round(0.7 * n) - 1])
    p = probability_above(fitted, next_variances(fitted, returns)[test], RISE)
    assert log_loss(close[test + 1] >= 1.01 * close[test], p) == pytest.approx(0.23, abs=0.01)


def test_a_fit_reads_the_newest_returns_and_says_so(
    monkeypatch: pytest.MonkeyPatch, returns: np.ndarray
) -> None:
    monkeypatch.setattr(garch, "MAX_RETURNS", 1000)
    fitted = fit_garch(returns[:2501])
    assert fitted.status == "fitted on the newest 1,000 of 2,500 returns"
    assert fitted.beta == fit_garch(returns[1501:2501]).beta


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.random.default_rng(0).normal(0, 0.01, 249), "249 training returns, a fit needs 250"),
        (np.zeros(400), "the training returns do not move"),
    ],
)
def test_riskmetrics_stands_in_and_says_why(values: np.ndarray, why: str) -> None:
    fallback = fit_garch(values)
    assert fallback.status == f"RiskMetrics (decay 0.94) in place of GARCH: {why}"
    assert (fallback.omega, fallback.alpha, fallback.gamma, fallback.beta) == (
        0,
        pytest.approx(0.06),
        0,
        0.94,
    )
    assert np.isfinite(probability_above(fallback, next_variances(fallback, values), RISE)).all()


@pytest.mark.parametrize("failure", ["flag", "raise"])
def test_an_optimiser_that_fails_is_replaced_and_named(
    monkeypatch: pytest.MonkeyPatch, returns: np.ndarray, failure: str
) -> None:
    class Failing:
        convergence_flag = 9
        params = np.full(7, 0.1)

        def fit(self, **_: object) -> "Failing":
            if failure == "raise":
                raise ValueError("array must not contain infs")
            return self

    monkeypatch.setattr(garch, "arch_model", lambda *_, **__: Failing())
    said = {"flag": "did not converge (flag 9)", "raise": "failed (array must not contain infs)"}[failure]
    assert fit_garch(returns[:1000]).status.endswith(f"in place of GARCH: the optimiser {said}")


def test_a_normal_fallback_has_normal_tails() -> None:
    fallback = riskmetrics(np.full(10, 0.01), why="of a test")
    found = probability_above(fallback, np.full(1, 1e-4), 0.02)[0]
    assert found == pytest.approx(stats.norm.sf(2.0), rel=0.02)


def test_no_return_at_all_is_refused(model: Garch) -> None:
    with pytest.raises(Fault, match="training rows must have at least one return"):
        fit_garch([np.nan])
    with pytest.raises(Fault, match="training rows must have returns to draw paths from"):
        path_statistics(model, np.ones(1), np.empty((0, 2)), lambda e, _: [e.mean()], horizon=1, seed=0)


def test_fitting_leaves_the_warnings_of_others_alone(returns: np.ndarray) -> None:
    before = list(warnings.filters)
    fit_garch(returns[:1000])
    assert warnings.filters == before
