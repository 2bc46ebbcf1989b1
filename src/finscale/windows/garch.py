"""GJR-GARCH(1,1) with Hansen's skewed t: what the variance known at t says about the next h bars.

r_t log return of a bar, mu its mean, e_t = r_t - mu = sigma_t z_t, z_t skewed t (eta, lambda) with mean 0 and
variance 1;  sigma_{t+1}^2 = omega + (alpha + gamma [e_t < 0]) e_t^2 + beta sigma_t^2
(Glosten, Jagannathan and Runkle 1993; Hansen 1994). n returns, h horizon, P paths, S statistics of a path.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from arch import arch_model
from arch.univariate import SkewStudent
from numpy.typing import ArrayLike, NDArray
from scipy.signal import lfilter

from finscale.core.errors import Fault
from finscale.core.seeding import generator
from finscale.windows.targets import EWMA_DECAY

__all__ = [
    "MAX_RETURNS",
    "MIN_RETURNS",
    "N_PATHS",
    "Garch",
    "fit_garch",
    "next_variances",
    "path_statistics",
    "probability_above",
    "return_quantiles",
    "riskmetrics",
    "standardised_pairs",
]

Vector = NDArray[np.float64]

MAX_RETURNS = 20_000
"""Newest training returns that a fit reads; older ones would cost time and describe another market."""

MIN_RETURNS = 250
"""Training returns below which no parameters are estimated."""

N_PATHS = 10_000
LATTICE_STEP = 0.02
"""Distance of the simulated volatilities, in logs: between two of them a probability is linear to 1e-4."""

_LEAST_VARIANCE = 1e-16
_NEARLY_NORMAL = 300.0


@dataclass(frozen=True)
class Garch:
    """Fixed parameters, in units of a plain log return (not per cent).

    Attributes
    ----------
    mean, omega, alpha, gamma, beta : float
        mu and the recursion; ``omega`` is a variance of a one-bar return.
    eta, skew : float
        Degrees of freedom (above 2) and lambda (-1 to 1) of the skewed t.
    start : float
        Variance of the first return of a segment, from training returns.
    n_returns : int
        Returns that the parameters were fitted on.
    status : str
        Empty for a fit on all the returns given; else what was left out, or why RiskMetrics stands in.
    """

    mean: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    eta: float
    skew: float
    start: float
    n_returns: int
    status: str = ""


def fit_garch(returns: ArrayLike) -> Garch:
    """Fit by maximum likelihood on training returns (n,); NaN (the first bar of a segment) is left out.

    The package arch wants numbers near 1 (per cent, for daily bars). Returns are divided by their own
    standard deviation and the parameters scaled back, which serves bars of any size. At most the newest
    20,000 returns are read. Where there are fewer than 250, where they do not move or where the optimiser
    fails, `riskmetrics` stands in; ``status`` says so.

    Raises
    ------
    Fault
        When no return is finite.
    """
    every = _finite(returns)
    newest = every[-MAX_RETURNS:]
    if len(newest) < MIN_RETURNS:
        return riskmetrics(newest, why=f"{len(newest)} training returns, a fit needs {MIN_RETURNS}")
    unit = float(newest.std())
    if unit**2 <= _LEAST_VARIANCE:
        return riskmetrics(newest, why="the training returns do not move")
    fitted, problem = _maximum_likelihood(newest / unit)
    if fitted is None:
        return riskmetrics(newest, why=problem)
    model = _in_returns(fitted, unit=unit, values=newest / unit)
    if len(every) > len(newest):
        model = replace(model, status=f"fitted on the newest {len(newest):,} of {len(every):,} returns")
    return model


def riskmetrics(returns: ArrayLike, *, why: str) -> Garch:
    """Return the fallback without estimation: mean 0, EWMA with decay 0.94, all but normal returns.

    RiskMetrics (1996). A skewed t with 300 degrees of freedom is normal to three digits.
    """
    values = _finite(returns)
    return Garch(
        mean=0.0,
        omega=0.0,
        alpha=1 - EWMA_DECAY,
        gamma=0.0,
        beta=EWMA_DECAY,
        eta=_NEARLY_NORMAL,
        skew=0.0,
        start=max(float(np.square(values).mean()), _LEAST_VARIANCE),
        n_returns=len(values),
        status=f"RiskMetrics (decay {EWMA_DECAY}) in place of GARCH: {why}",
    )


def next_variances(model: Garch, returns: ArrayLike) -> Vector:
    """Return the variance (n,) of the return that follows each row, from returns up to that row.

    A NaN return begins a segment: what was known before it is forgotten.
    """
    values = np.asarray(returns, dtype=np.float64)
    residuals: Vector = values - model.mean
    news = np.asarray(model.omega + (model.alpha + model.gamma * (residuals < 0)) * np.square(residuals))
    variances = np.empty(len(values))
    begins = np.flatnonzero(np.isnan(values))
    bounds = [0, *begins[begins > 0].tolist(), len(values)]
    for first, last in pairwise(bounds):
        variances[first:last] = _recursion(news[first:last], start=model.start, beta=model.beta)
    return np.maximum(variances, _LEAST_VARIANCE)


def standardised_pairs(model: Garch, returns: Vector, excursions: Vector) -> NDArray[np.float64]:
    """Return (k, 2): each return and each excursion of the high, less mu, in units of sigma at that bar.

    The excursion of a bar is log(high[t] / close[t-1]). Rows where either, or the previous row, is
    missing are left out. Bootstrapped as pairs they keep a bar's high with its close
    (filtered historical simulation, Barone-Adesi, Giannopoulos and Vosper 1999).
    """
    before = np.r_[np.nan, np.sqrt(next_variances(model, returns))[:-1]]
    pairs = (np.column_stack([returns, excursions]) - model.mean) / before[:, None]
    return pairs[np.isfinite(pairs).all(axis=1)]


def probability_above(model: Garch, variances: Vector, level: float) -> Vector:
    """Return P(r_{t+1} > level) in closed form for each variance (n,) of the next return."""
    z = (level - model.mean) / np.sqrt(variances)
    return 1 - SkewStudent().cdf(z, [model.eta, model.skew])


def return_quantiles(model: Garch, variances: Vector, levels: ArrayLike) -> NDArray[np.float64]:
    """Return the quantiles (n, Q) of r_{t+1} in closed form for each variance (n,) of the next return."""
    z = SkewStudent().ppf(np.asarray(levels, dtype=np.float64), [model.eta, model.skew])
    return model.mean + np.sqrt(variances)[:, None] * z


def path_statistics(
    model: Garch,
    variances: Vector,
    pairs: NDArray[np.float64],
    summarise: Callable[[Vector, Vector], ArrayLike],
    *,
    horizon: int,
    seed: int,
    n_paths: int = N_PATHS,
) -> NDArray[np.float64]:
    """Simulate h bars from each variance of the next return and summarise the paths.

    What h bars may bring depends on t through the variance alone. So paths are drawn once, run from a
    fixed lattice of volatilities, and a statistic between two of them is interpolated: the cost does not
    grow with n, and no forecast depends on another row. At h = 1 each pair is one path,
    unless there are more than 20,000.

    Parameters
    ----------
    variances : array (n,)
        Of `next_variances`.
    pairs : array (k, 2)
        Of `standardised_pairs`, from training rows.
    summarise : callable
        From the log return at the end (P,) and the highest log high (P,), both over close[t], to (S,).

    Returns
    -------
    array (n, S)
    """
    if not len(pairs):
        raise Fault("training rows", "have returns to draw paths from", "none", "give more training bars")
    draws = _draws(len(pairs), horizon=horizon, seed=seed, n_paths=n_paths)
    place = np.log(variances) / (2 * LATTICE_STEP)
    lower = np.floor(place).astype(np.int64)
    nodes = np.unique(np.r_[lower, lower + 1])
    table = np.array([summarise(*_paths(model, node, pairs, draws)) for node in nodes])
    at = np.searchsorted(nodes, lower)
    weight = (place - lower)[:, None]
    return (1 - weight) * table[at] + weight * table[at + 1]


def _draws(n_pairs: int, *, horizon: int, seed: int, n_paths: int) -> NDArray[np.int64]:
    if horizon == 1 and n_pairs <= MAX_RETURNS:
        return np.arange(n_pairs)[None, :]
    return generator(seed, "garch", horizon).integers(n_pairs, size=(horizon, n_paths))


def _paths(
    model: Garch, node: int, pairs: NDArray[np.float64], draws: NDArray[np.int64]
) -> tuple[Vector, Vector]:
    """Run every path (h, P) from one node of the lattice: its end and its top, log prices over close[t]."""
    ends = np.zeros(draws.shape[1])
    tops = np.full(draws.shape[1], -np.inf)
    variance = np.full(draws.shape[1], np.exp(2 * LATTICE_STEP * node))
    for step in draws:
        sigma = np.sqrt(variance)
        residual = sigma * pairs[step, 0]
        np.maximum(tops, ends + model.mean + sigma * pairs[step, 1], out=tops)
        ends += model.mean + residual
        news = (model.alpha + model.gamma * (residual < 0)) * np.square(residual)
        variance = model.omega + news + model.beta * variance
    return ends, tops


def _recursion(news: Vector, *, start: float, beta: float) -> Vector:
    """v[0] = start, v[t] = news[t] + beta v[t-1]; the plain loop in C."""
    if len(news) == 1:
        return np.array([start])
    rest, _ = lfilter([1.0], [1.0, -beta], news[1:], zi=[beta * start])
    return np.r_[start, rest]


def _maximum_likelihood(values: Vector) -> tuple[Vector | None, str]:
    """Return (mu, omega, alpha, gamma, beta, eta, lambda), or None and what went wrong."""
    model = arch_model(values, mean="Constant", vol="GARCH", p=1, o=1, q=1, dist="skewt", rescale=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # arch warns of what its flag also says
        try:
            found = model.fit(disp="off", show_warning=False, options={"maxiter": 500})
        except (ValueError, np.linalg.LinAlgError) as error:
            return None, f"the optimiser failed ({error})"
    parameters = np.asarray(found.params, dtype=np.float64)
    if found.convergence_flag != 0 or not np.isfinite(parameters).all():
        return None, f"the optimiser did not converge (flag {found.convergence_flag})"
    return parameters, ""


def _in_returns(parameters: Vector, *, unit: float, values: Vector) -> Garch:
    """Scale back from multiples of ``unit``; start as arch does, from 75 squares around the plain mean."""
    mean, omega, alpha, gamma, beta, eta, skew = (float(value) for value in parameters)
    weights = EWMA_DECAY ** np.arange(min(75, len(values)))
    backcast = np.average(np.square(values[: len(weights)] - values.mean()), weights=weights)
    start = omega + (alpha + gamma / 2 + beta) * float(backcast)
    return Garch(
        mean=mean * unit,
        omega=omega * unit**2,
        alpha=alpha,
        gamma=gamma,
        beta=beta,
        eta=eta,
        skew=skew,
        start=start * unit**2,
        n_returns=len(values),
    )


def _finite(returns: ArrayLike) -> Vector:
    values = np.asarray(returns, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise Fault("training rows", "have at least one return", "none", "give more training bars")
    return finite
