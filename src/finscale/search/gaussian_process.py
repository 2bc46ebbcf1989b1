"""A Gaussian process over the unit cube: what is known of a loss, and how well.

K = s M52(r) + sigma^2 I, r^2 = sum_i ((x_i - x'_i) / l_i)^2: the Matern 5/2 kernel with one length per
dimension (Rasmussen and Williams 2006, eq. 4.17), over losses of mean 0 and variance 1.
Lengths, scale and noise are those of greatest posterior density. A length's prior is log-normal around 0.8
of the cube's edge, which says that most losses bend a few times at most over their space: with a vague
prior, tens of points in ten dimensions are too few to tell a length from noise.

n points, d dimensions; theta holds log lengths, log s, log sigma^2.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

__all__ = ["GaussianProcess", "fit"]

Floats = NDArray[np.float64]

_ROOT_5 = math.sqrt(5.0)
_LENGTH, _SCALE, _NOISE = (math.log(0.8), 0.7), (0.0, 1.5), (-5.0, 2.0)
_LOWEST, _HIGHEST = (-4.0, -4.0, -14.0), (6.0, 5.0, 1.0)
_FIRST_NOISE = -4.0
_LEAST_NOISE = 1e-6
_MAX_ITERATIONS = 60
_MAX_POINTS_OF_A_FIT = 200


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process; in units of the losses it was fitted to.

    Parameters
    ----------
    points : float array, (n, d)
        Where it knows the loss.
    values : float array, (n,)
        Standardised losses there.
    mean, spread : float
        Of the losses.
    theta : float array, (d + 2,)
        Log lengths, log scale, log noise variance.
    """

    points: Floats
    values: Floats
    mean: float
    spread: float
    theta: Floats

    @cached_property
    def _lower(self) -> Floats:
        return np.asarray(np.linalg.cholesky(_covariance(self.theta, self.points)), dtype=np.float64)

    @cached_property
    def _weights(self) -> Floats:
        return cho_solve((self._lower, True), self.values)

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the noise-free loss at points, (m, d)."""
        _, correlation = _matern(self.theta, points, self.points)
        scale = math.exp(self.theta[-2])
        known = solve_triangular(self._lower, scale * correlation.T, lower=True, check_finite=False)
        variance = np.maximum(scale - np.square(known).sum(axis=0), 1e-12)
        mean = scale * correlation @ self._weights
        return self.mean + self.spread * mean, self.spread * np.sqrt(variance)

    def believing(self, points: Floats) -> "GaussianProcess":
        """Return the process as if the loss at points, (m, d), were what it expects of them.

        Ginsbourger, Le Riche and Carraro 2010, the kriging believer: what runs is not proposed again.
        """
        if not len(points):
            return self
        expected = (self.predict(points)[0] - self.mean) / self.spread
        values = np.concatenate([self.values, expected])
        return GaussianProcess(
            np.concatenate([self.points, points]), values, self.mean, self.spread, self.theta
        )


def fit(points: Floats, losses: Floats) -> GaussianProcess:
    """Fit a process to losses, (n,), at points, (n, d).

    Of many points some 200, evenly over the ranks of their losses, settle lengths, scale and noise; all of
    them count in what it predicts.
    """
    mean, spread = float(losses.mean()), float(losses.std()) or 1.0
    values = (losses - mean) / spread
    stride = -(-len(values) // _MAX_POINTS_OF_A_FIT)
    chosen = np.argsort(values, kind="stable")[::stride]
    theta = _most_likely(points[chosen], values[chosen])
    return GaussianProcess(points, values, mean, spread, theta)


def _most_likely(points: Floats, values: Floats) -> Floats:
    d = points.shape[1]
    first = np.array([_LENGTH[0]] * d + [_SCALE[0], _FIRST_NOISE])
    bounds = [
        (low, high) for low, high, n in zip(_LOWEST, _HIGHEST, (d, 1, 1), strict=True) for _ in range(n)
    ]
    options = {"maxiter": _MAX_ITERATIONS, "gtol": 1e-2}
    found = minimize(
        _negative_log_posterior, first, args=(points, values), jac=True, bounds=bounds, options=options
    )
    return np.asarray(found.x, dtype=np.float64)


def _negative_log_posterior(theta: Floats, points: Floats, values: Floats) -> tuple[float, Floats]:
    """Return -log p(theta | values) and its gradient (Rasmussen and Williams 2006, eq. 5.9)."""
    d = points.shape[1]
    distance, correlation = _matern(theta, points, points)
    scale, noise = np.exp(theta[d:])
    factor = cho_factor(_covariance(theta, points), lower=True, check_finite=False)
    inverse = cho_solve(factor, np.eye(len(values)), check_finite=False)
    weights = inverse @ values
    loss = 0.5 * values @ weights + np.log(np.diag(factor[0])).sum()
    slope = 0.5 * (inverse - np.outer(weights, weights))
    bend = slope * scale * 5 / 3 * (1 + _ROOT_5 * distance) * np.exp(-_ROOT_5 * distance)
    scaled = points / np.exp(theta[:d])
    lengths = 2 * (bend.sum(axis=1) @ np.square(scaled) - (scaled * (bend @ scaled)).sum(axis=0))
    gradient = np.array([*lengths, (slope * scale * correlation).sum(), np.trace(slope) * noise])
    centres, widths = np.array([_LENGTH] * d + [_SCALE, _NOISE]).T
    offsets = (theta - centres) / widths
    return float(loss + 0.5 * np.square(offsets).sum()), gradient + offsets / widths


def _covariance(theta: Floats, points: Floats) -> Floats:
    _, correlation = _matern(theta, points, points)
    return math.exp(theta[-2]) * correlation + (math.exp(theta[-1]) + _LEAST_NOISE) * np.eye(len(points))


def _matern(theta: Floats, points: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Return distances in lengths and Matern 5/2 correlations, both (n, m)."""
    lengths = np.exp(theta[:-2])
    first, second = points / lengths, others / lengths
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1) - 2 * first @ second.T
    squares = np.maximum(squares, 0)
    distance = np.sqrt(squares)
    return distance, (1 + _ROOT_5 * distance + 5 / 3 * squares) * np.exp(-_ROOT_5 * distance)
