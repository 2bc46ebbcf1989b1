"""How large a drop could this design have seen? A power calculation for the slope test.

The slope test over K budgets has a noncentral t statistic with K - 2 degrees of freedom and noncentrality
``drop / range * sqrt(Sxx) / sigma``; ``range`` is the spread of log10 N, ``Sxx`` its sum of squares.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

__all__ = ["detectable_drop", "power_of_drop"]

LEVEL = 0.05
POWER = 0.80


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
