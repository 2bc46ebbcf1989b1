"""Bootstrap by weights: a resample is a weight vector on fixed points, and thousands are fitted at once.

B draws, n points. Weights are those of the Bayesian bootstrap (Rubin 1981): exponential, scaled to mean one,
so that every point keeps some weight and four cells never lose their spread, as they would when drawn with
replacement. Intervals are percentiles over the draws.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finscale.core.config import Record
from finscale.scalinglaws.exponent import profile_alpha
from finscale.scalinglaws.forms import ALPHA_BOUNDS
from finscale.scalinglaws.joint import (
    JOINT_NAMES,
    JointFit,
    joint_data,
    law_of,
    minimise_joint,
    theta_of,
)
from finscale.scalinglaws.joint_objective import JointProblem

__all__ = [
    "LawDraws",
    "ParameterInterval",
    "bootstrap_joint",
    "bootstrap_power_law",
    "bootstrap_weights",
]

Floats = NDArray[np.float64]
_GRID = np.linspace(*ALPHA_BOUNDS, 38)
_CHUNK = 250
_DRAWS_AT_ONCE = 2000
_MAX_STEPS = 50
_RESOLUTION = 1e-11
_CONVERGED = 1e-6


class ParameterInterval(Record):
    """Percentile interval of one parameter; ``low`` and ``high`` are None without a converged draw."""

    name: str
    estimate: float
    low: float | None
    high: float | None
    level: float


@dataclass(frozen=True)
class LawDraws:
    """Refitted parameters, one row per draw.

    Attributes
    ----------
    names : tuple of str
        E, A, alpha; or E, A, alpha, B, beta.
    estimate : ndarray, shape (k,)
        On equal weights.
    values : ndarray, shape (B, k)
    objective : ndarray, shape (B,)
        Weighted residual sum of squares, or the weighted Huber sum of the joint law.
    converged : ndarray of bool, shape (B,)
    """

    names: tuple[str, ...]
    estimate: Floats
    values: Floats
    objective: Floats
    converged: NDArray[np.bool_]

    def intervals(self, *, level: float = 0.95) -> tuple[ParameterInterval, ...]:
        """Return the percentile interval of every parameter over the converged draws."""
        kept = self.values[self.converged]
        ends = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2], axis=0) if len(kept) else None
        return tuple(
            ParameterInterval(
                name=name,
                estimate=float(self.estimate[k]),
                low=None if ends is None else float(ends[0, k]),
                high=None if ends is None else float(ends[1, k]),
                level=level,
            )
            for k, name in enumerate(self.names)
        )


def bootstrap_weights(n_points: int, *, n_draws: int, rng: np.random.Generator) -> Floats:
    """Return Bayesian bootstrap weights, shape (n_draws, n_points), positive, with mean one in every row."""
    weights = rng.exponential(size=(n_draws, n_points))
    return weights * (n_points / weights.sum(axis=1, keepdims=True))


def bootstrap_joint(
    n_params: ArrayLike,
    n_tokens: ArrayLike,
    loss: ArrayLike,
    *,
    fitted: JointFit,
    weights: Floats,
) -> LawDraws:
    """Refit the joint law under every weighting, from the optimum of the equally weighted points.

    Parameters
    ----------
    n_params, n_tokens, loss : array_like, shape (n,)
        The points that were fitted.
    fitted : JointFit
        With parameters.
    weights : ndarray, shape (B, n_points)
        On the usable points, e.g. of `bootstrap_weights`.
    """
    data = joint_data(n_params, n_tokens, loss)
    problem = JointProblem.of(data.n_params, data.n_tokens, data.loss, huber_delta=fitted.huber_delta)
    estimate = np.array([fitted.parameters[name] for name in JOINT_NAMES])
    start = theta_of(problem, estimate[None, :])
    chunks = [weights[k : k + _CHUNK] for k in range(0, len(weights), _CHUNK)]
    found = [minimise_joint(problem, np.repeat(start, len(chunk), axis=0), chunk) for chunk in chunks]
    gradient = np.concatenate([minimum.relative_gradient for minimum in found])
    return LawDraws(
        names=JOINT_NAMES,
        estimate=estimate,
        values=law_of(problem, np.concatenate([minimum.theta for minimum in found])),
        objective=np.concatenate([minimum.value for minimum in found]),
        converged=gradient <= _CONVERGED,
    )


def bootstrap_power_law(n_params: ArrayLike, loss: ArrayLike, *, weights: Floats) -> LawDraws:
    """Refit E + A N**-alpha under every weighting: variable projection on a grid, then a root of its slope.

    Parameters
    ----------
    n_params, loss : array_like, shape (n,)
        Finite, n >= 3, N not all equal.
    weights : ndarray, shape (B, n)
        E.g. of `bootstrap_weights`.
    """
    n, y = np.asarray(n_params, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    profile = profile_alpha(n, y)
    ratio = np.log(n / profile.reference)
    columns = np.asarray(weights, dtype=np.float64).T
    found = [
        _best_law(_Weighted(ratio, y - y.mean(), columns[:, k : k + _DRAWS_AT_ONCE]))
        for k in range(0, columns.shape[1], _DRAWS_AT_ONCE)
    ]
    floor, scale, rss, alpha = np.concatenate(found, axis=1)
    absolute = scale * profile.reference**alpha
    return LawDraws(
        names=("E", "A", "alpha"),
        estimate=np.array([profile.parameters[name] for name in ("E", "A", "alpha")]),
        values=np.stack([floor + y.mean(), absolute, alpha], axis=1),
        objective=rss,
        converged=np.isfinite(rss),
    )


def _best_law(points: "_Weighted") -> Floats:
    """Return E, A, RSS and alpha, shape (4, B)."""
    alpha = points.best_alpha()
    return np.stack([*points.at(alpha)[:3], alpha])


@dataclass(frozen=True)
class _Weighted:
    """Weighted power laws on the points ``ratio = log(N / reference)``, y; one weighting per column."""

    ratio: Floats
    y: Floats
    weights: Floats

    def best_alpha(self) -> Floats:
        """Return the exponent of lowest RSS, shape (B,): the grid's best, refined between its neighbours."""
        nearest = self._grid_rss().argmin(axis=0)
        low, high = _GRID[np.maximum(nearest - 1, 0)], _GRID[np.minimum(nearest + 1, len(_GRID) - 1)]
        refined = self._root(low, high)
        better = self.at(refined)[2] < self.at(_GRID[nearest])[2]
        return np.where(better, refined, _GRID[nearest])

    def at(self, alpha: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return E, A, RSS and dRSS/dalpha at one exponent per column; A is held at zero or above."""
        w, total = self.weights, self.weights.sum(axis=0)
        z = np.exp(-self.ratio[:, None] * alpha)
        mean_z, mean_y = (w * z).sum(axis=0) / total, self.y @ w / total
        centred, deviation = z - mean_z, self.y[:, None] - mean_y
        weighted = w * centred
        slope = np.maximum((weighted * deviation).sum(axis=0) / (weighted * centred).sum(axis=0), 0.0)
        residual = deviation - slope * centred
        pull = w * residual
        derivative = 2 * slope * (self.ratio @ (pull * z))
        return mean_y - slope * mean_z, slope, (pull * residual).sum(axis=0), derivative

    def _grid_rss(self) -> Floats:
        """Return RSS up to a constant per column, shape (n_alpha, B)."""
        w, y, z = self.weights, self.y, np.exp(-_GRID[:, None] * self.ratio)
        total = w.sum(axis=0)
        mean_z = z @ w / total
        sxx = z**2 @ w - total * mean_z**2
        sxy = np.maximum((z * y) @ w - mean_z * (y @ w), 0.0)
        return -(sxy**2) / sxx

    def _root(self, low: Floats, high: Floats) -> Floats:
        """Return where dRSS/dalpha changes sign between ``low`` and ``high`` (Illinois, Dowell 1971)."""
        at_low, at_high = self.at(low)[3], self.at(high)[3]
        low, high = np.where(at_high <= 0, high, low), np.where(at_low >= 0, low, high)
        middle, side = low, np.zeros_like(low)
        for _ in range(_MAX_STEPS):
            width = at_high - at_low
            share = np.divide(-at_low, width, out=np.full_like(width, 0.5), where=width > 0)
            last, middle = middle, low + np.clip(share, 0.0, 1.0) * (high - low)
            if np.abs(middle - last).max() <= _RESOLUTION:
                break
            here = self.at(middle)[3]
            rising = here > 0
            at_low = np.where(rising, np.where(side > 0, at_low / 2, at_low), here)
            at_high = np.where(rising, here, np.where(side < 0, at_high / 2, at_high))
            low, high = np.where(rising, low, middle), np.where(rising, middle, high)
            side = np.where(rising, 1.0, -1.0)
        return middle
