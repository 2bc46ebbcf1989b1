"""How well is an exponent of the joint law known? Its profile: the best objective at every value of it.

The drop-in-dispersion test of Schrader and Hettmansperger (1980) turns the rise of a Huber objective Q into a
statistic, ``2 (Q(alpha) - Q_min) / lambda`` against F(1, n - 5), with
``lambda = sum(psi**2) / (n - 5) / mean(psi')``; under least squares it is the profile likelihood interval.
psi is the clipped residual, and the mean of psi' the chance of a residual within delta. Few points lie within
a small delta, so that chance is then taken from the window that holds half of them (benchmarks/bench_fits.py
prints the coverage).
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from finscale.core.config import Record
from finscale.scalinglaws.forms import ALPHA_BOUNDS
from finscale.scalinglaws.joint import (
    JOINT_NAMES,
    JointFit,
    bounds_of,
    joint_data,
    minimise_joint,
    starts_at,
    theta_of,
)
from finscale.scalinglaws.joint_objective import PARAMETERS, JointProblem

__all__ = ["JointProfile", "profile_joint"]

Floats = NDArray[np.float64]
_N_GRID = 38
_N_FINER = 17


class JointProfile(Record):
    """The profile of one exponent.

    Attributes
    ----------
    values, objective : tuple of float
        The grid over ``ALPHA_BOUNDS`` with the estimate inserted, ascending, and the best objective at each.
    low, high : float
        Interval at ``level``, its ends from a finer grid.
    status : str
        ``reaches_bounds`` when an end of the interval is an end of the grid.
    """

    parameter: Literal["alpha", "beta"]
    status: Literal["ok", "reaches_bounds"]
    estimate: float
    values: tuple[float, ...]
    objective: tuple[float, ...]
    low: float
    high: float
    level: float


def profile_joint(
    n_params: ArrayLike,
    n_tokens: ArrayLike,
    loss: ArrayLike,
    *,
    fitted: JointFit,
    parameter: Literal["alpha", "beta"],
    level: float = 0.90,
) -> JointProfile:
    """Profile an exponent: every other parameter is refitted at each value, from several starts.

    Parameters
    ----------
    n_params, n_tokens, loss : array_like, shape (n,)
        The points that were fitted.
    fitted : JointFit
        With parameters.
    """
    data = joint_data(n_params, n_tokens, loss)
    problem = JointProblem.of(data.n_params, data.n_tokens, data.loss, huber_delta=fitted.huber_delta)
    best = theta_of(problem, np.array([[fitted.parameters[name] for name in JOINT_NAMES]]))[0]
    estimate = fitted.parameters[parameter]
    values = np.union1d(np.linspace(*ALPHA_BOUNDS, _N_GRID), estimate)
    profile = partial(_profile, problem, best, PARAMETERS.index(parameter))
    objective = profile(values)
    threshold = _threshold(problem, best, level=level, minimum=float(objective.min()))
    low, high = _ends(profile, values, objective, threshold)
    found = {"estimate": estimate, "values": tuple(values.tolist()), "objective": tuple(objective.tolist())}
    inside = ALPHA_BOUNDS[0] < low and high < ALPHA_BOUNDS[1]
    status: Literal["ok", "reaches_bounds"] = "ok" if inside else "reaches_bounds"
    return JointProfile(parameter=parameter, status=status, low=low, high=high, level=level, **found)


def _profile(problem: JointProblem, best: Floats, which: int, values: Floats) -> Floats:
    """Return the lowest objective with parameter ``which`` held at each value, shape (n_values,)."""
    starts = np.array([start for value in values for start in _starts(problem, best, which, float(value))])
    n_each = len(starts) // len(values)
    lowest, highest = bounds_of(problem)
    low, high = np.tile(lowest, (len(starts), 1)), np.tile(highest, (len(starts), 1))
    low[:, which] = high[:, which] = np.repeat(values, n_each)
    found = minimise_joint(problem, starts, np.ones((1, len(problem.z))), low=low, high=high)
    return found.value.reshape(len(values), n_each).min(axis=1)


def _starts(problem: JointProblem, best: Floats, which: int, value: float) -> list[Floats]:
    moved = best.copy()
    moved[which] = value
    return [moved, *starts_at(problem, alpha=float(moved[3]), beta=float(moved[4]))]


def _threshold(problem: JointProblem, best: Floats, *, level: float, minimum: float) -> float:
    r, delta = problem.residuals(best[None, :])[0], problem.huber_delta
    df, within = len(r) - len(PARAMETERS), _share_within(r, delta)
    dispersion = float((np.clip(r, -delta, delta) ** 2).sum()) / df / within
    return minimum + 0.5 * dispersion * float(stats.f.ppf(level, 1, df))


def _share_within(residuals: Floats, delta: float) -> float:
    """Return the chance of a residual within ``delta``; under a small one, from the half nearest to zero."""
    n, size = len(residuals), np.abs(residuals)
    half = float(np.median(size)) * np.sqrt(n / (n - len(PARAMETERS)))
    return float((size <= delta).mean()) if delta >= half else 0.5 * delta / half


def _ends(
    profile: Callable[[Floats], Floats], values: Floats, objective: Floats, threshold: float
) -> tuple[float, float]:
    """Return the outermost values under the threshold: where the profile crosses it, on a finer grid."""
    inside = np.flatnonzero(objective <= threshold)

    def end(within: int, outside: int) -> float:
        if not 0 <= outside < len(values):
            return float(values[within])
        finer = np.linspace(values[within], values[outside], _N_FINER)
        return float(np.interp(threshold, np.maximum.accumulate(profile(finer)), finer))

    return end(int(inside[0]), int(inside[0]) - 1), end(int(inside[-1]), int(inside[-1]) + 1)
