"""Where to look next: the point of greatest expected improvement among real candidates.

log EI = log sigma + log(phi(z) + z Phi(z)), z = (best - mu) / sigma; in logarithms, so that it still tells
points apart where the improvement is all but impossible (Ament et al. 2023, eq. 9). ``best`` is the least
expected loss of the known points, for the least one seen may owe its place to noise.

It is evaluated at candidates alone, never between them: points drawn over the whole cube, all candidates at
the best training values, and then ever closer around the best points found.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import erfcx, ndtr
from scipy.stats import qmc

from finscale.search.gaussian_process import GaussianProcess
from finscale.search.unit_cube import UnitCube, Units

__all__ = ["log_expected_improvement", "most_promising"]

_N_DRAWN = 2048
_N_INCUMBENTS = 4
_N_KEPT = 6
_N_AROUND = 60
_N_SWEPT = 3
_MAX_SWEEP = 256
_RADII = (0.15, 0.08, 0.04, 0.02, 0.01)
_P_MOVED, _P_REDRAWN = 0.5, 0.3
_FAR_BELOW = -50.0

_Score = Callable[[Units], Units]


def most_promising(process: GaussianProcess, cube: UnitCube, *, rng: np.random.Generator) -> Units:
    """Return the candidate point, (d,), of greatest expected improvement.

    Parameters
    ----------
    process : GaussianProcess
        Over the points of ``cube``.
    rng : Generator
        Of the points that are tried.
    """
    expected, _ = process.predict(process.points)
    incumbents = process.points[np.argsort(expected, kind="stable")[:_N_INCUMBENTS]]
    best = float(expected.min())

    def score(points: Units) -> Units:
        return log_expected_improvement(*process.predict(points), best=best)

    return _climb(score, cube, incumbents, rng)


def log_expected_improvement(mean: Units, deviation: Units, *, best: float) -> Units:
    """Return the logarithm of the expected improvement upon ``best``, (n,).

    Examples
    --------
    >>> log_expected_improvement(np.array([0.0, 9.0, 99.0]), np.ones(3), best=0.0).round(2).tolist()
    [-0.92, -45.85, -4910.61]
    """
    z = (best - mean) / deviation
    near = np.maximum(z, -1.0)
    below = np.clip(-z, 1.0, -_FAR_BELOW)
    density = np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi)
    shortfall = np.log1p(-below * math.sqrt(math.pi / 2) * erfcx(below / math.sqrt(2)))
    tail = np.where(z > _FAR_BELOW, shortfall, -2 * np.log(np.maximum(-z, 1.0)))
    log_far = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) + tail
    return np.log(deviation) + np.where(z > -1.0, np.log(density + near * ndtr(near)), log_far)


def _climb(score: _Score, cube: UnitCube, incumbents: Units, rng: np.random.Generator) -> Units:
    points = np.concatenate(
        [_drawn(cube, rng), _swept(cube, incumbents, rng), _around(cube, incumbents, _RADII[0], rng)]
    )
    scores = score(points)
    for radius in _RADII:
        first = np.argsort(-scores, kind="stable")[:_N_KEPT]
        kept, kept_scores = points[first], scores[first]
        tried = np.concatenate([_around(cube, kept, radius, rng), _swept(cube, kept[:_N_SWEPT], rng)])
        points, scores = np.concatenate([kept, tried]), np.concatenate([kept_scores, score(tried)])
    return points[scores.argmax()]


def _drawn(cube: UnitCube, rng: np.random.Generator) -> Units:
    """Draw candidates at random, with training values that fill their cube evenly."""
    rows = cube.row_points[rng.integers(len(cube.row_points), size=_N_DRAWN)]
    free = cube.snapped(qmc.Sobol(len(cube.free), rng=rng).random(_N_DRAWN))
    return np.concatenate([rows, free], axis=1)


def _swept(cube: UnitCube, points: Units, rng: np.random.Generator) -> Units:
    """Put the training values of every point upon every candidate (or many of them)."""
    rows = cube.row_points
    if len(rows) > _MAX_SWEEP:
        rows = rows[rng.choice(len(rows), _MAX_SWEEP, replace=False)]
    free = points[:, cube.n_row_dimensions :]
    return np.concatenate([np.tile(rows, (len(free), 1)), np.repeat(free, len(rows), axis=0)], axis=1)


def _around(cube: UnitCube, points: Units, radius: float, rng: np.random.Generator) -> Units:
    """Move some training values of every point by about ``radius``, finite ones at times anywhere."""
    n = cube.n_row_dimensions
    near = np.repeat(points, _N_AROUND, axis=0)
    free = near[:, n:]
    moved = free + rng.normal(0, radius, free.shape) * (rng.random(free.shape) < _P_MOVED)
    finite = np.array([levels is not None for levels in cube.levels], dtype=bool)
    anywhere = finite & (rng.random(free.shape) < _P_REDRAWN)
    near[:, n:] = cube.snapped(np.where(anywhere, rng.random(free.shape), moved))
    return near
