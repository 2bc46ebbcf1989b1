"""How large a drop could this design have seen? A power calculation for the slope test.

The slope test over K budgets has a noncentral t statistic with K - 2 degrees of freedom and noncentrality
``drop / range * sqrt(Sxx) / sigma``; ``range`` is the spread of log10 N, ``Sxx`` its sum of squares.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from finscale.core.config import Record

__all__ = ["PlannedPower", "detectable_drop", "plan_power", "power_of_drop"]

LEVEL = 0.05
POWER = 0.80
MIN_SIZES = 3


class PlannedPower(Record):
    """What a planned ladder could detect, next to what it costs.

    Attributes
    ----------
    n_params : tuple of float
        Planned sizes, ascending.
    noise_sd : float
        SD of one budget's response about the line, measured so far.
    detectable_drop : float or None
        Fall in loss over the whole ladder that is called ``scaling`` with probability ``power``; None below
        three different sizes.
    flops : float
        Operations of every planned cell together.
    flops_left : float
        Of the cells that have not run.
    """

    n_params: tuple[float, ...]
    noise_sd: float
    level: float
    power: float
    detectable_drop: float | None
    flops: float
    flops_left: float


def plan_power(
    n_params: Sequence[float],
    *,
    flops: Sequence[float],
    finished: Sequence[bool],
    noise_sd: float,
    level: float = LEVEL,
    power: float = POWER,
) -> PlannedPower:
    """Return the smallest drop that planned budgets could detect, and the cost of running them.

    Parameters
    ----------
    n_params, flops, finished : sequence, length K
        Size, operations (search and final trainings, every horizon) and whether all cells of it have run.
    noise_sd : float
        E.g. ``TrendVerdict.noise_sd``; positive.

    Examples
    --------
    >>> plan = plan_power([2e6, 2e7, 2e8], flops=[1, 10, 100], finished=[1, 1, 0], noise_sd=0.001)
    >>> plan.flops_left, round(plan.detectable_drop, 4)
    (100.0, 0.0116)
    """
    order = np.argsort(n_params)
    sizes, costs = np.asarray(n_params, dtype=float)[order], np.asarray(flops, dtype=float)[order]
    left = costs[~np.asarray(finished, dtype=bool)[order]]
    enough = len(np.unique(sizes)) >= MIN_SIZES
    drop = detectable_drop(np.log10(sizes), noise_sd=noise_sd, level=level, power=power) if enough else None
    return PlannedPower(
        n_params=tuple(sizes.tolist()),
        noise_sd=noise_sd,
        level=level,
        power=power,
        detectable_drop=drop,
        flops=float(costs.sum()),
        flops_left=float(left.sum()),
    )


def power_of_drop(log10_n: ArrayLike, *, drop: float, noise_sd: float, level: float = LEVEL) -> float:
    """Return the chance that a true drop in loss over the range of N is called ``scaling``.

    Parameters
    ----------
    log10_n : array_like, shape (K,)
        K >= 3, not all equal.
    drop : float
        Fall in loss from the smallest to the largest N, in the unit of ``noise_sd``.
    noise_sd : float
        SD of one budget's response about the line, positive.

    Examples
    --------
    >>> round(power_of_drop([4, 5, 6, 7], drop=0.0, noise_sd=1.0), 3)
    0.05
    """
    return _power(_gain(log10_n) * drop / noise_sd, df=np.size(log10_n) - 2, level=level)


def detectable_drop(
    log10_n: ArrayLike, *, noise_sd: float, level: float = LEVEL, power: float = POWER
) -> float:
    """Return the smallest drop that is called ``scaling`` with probability ``power``.

    Examples
    --------
    >>> round(detectable_drop([4, 5, 6, 7], noise_sd=1.0), 1)
    5.3
    """
    df = np.size(log10_n) - 2

    def shortfall(noncentrality: float) -> float:
        return _power(noncentrality, df=df, level=level) - power

    upper = 2.0
    while shortfall(upper) < 0:
        upper *= 2.0
    return float(optimize.brentq(shortfall, 0.0, upper)) * noise_sd / _gain(log10_n)


def _gain(log10_n: ArrayLike) -> float:
    """Return the noncentrality of a drop of one noise SD."""
    x = np.asarray(log10_n, dtype=np.float64)
    return float(np.sqrt(((x - x.mean()) ** 2).sum()) / np.ptp(x))


def _power(noncentrality: float, *, df: int, level: float) -> float:
    return float(stats.nct.sf(stats.t.isf(level, df), df, noncentrality))
